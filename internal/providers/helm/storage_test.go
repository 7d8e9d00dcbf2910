package helm

import (
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
)

func TestRevisionOf(t *testing.T) {
	created := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		labels map[string]string
		want   revision
	}{
		"first": {
			map[string]string{"version": "1", "status": "deployed", "createdAt": "1800000000", revisionLabel: "1.me"},
			revision{number: 1, status: release.StatusDeployed, ours: true, written: created},
		},
		"written again": {
			map[string]string{"version": "2", "status": "superseded", "modifiedAt": "1800000060"},
			revision{number: 2, status: release.StatusSuperseded, written: created.Add(time.Minute)},
		},
		"by the helm command, which copies the labels of the revision before": {
			map[string]string{"version": "3", "status": "pending-upgrade", "createdAt": "1700000000", "modifiedAt": "1700000060", revisionLabel: "2.me"},
			revision{number: 3, status: release.StatusPendingUpgrade, written: created},
		},
		"of another forged": {
			map[string]string{"version": "4", "status": "deployed", "createdAt": "1800000000", revisionLabel: "4.other"},
			revision{number: 4, status: release.StatusDeployed, rival: true, written: created},
		},
		"labels of nobody's helm": {
			map[string]string{"version": "x", "status": "", "createdAt": "yesterday"},
			revision{written: created},
		},
	} {
		if got := (identity{owner: "me"}).revisionOf(c.labels, created); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
