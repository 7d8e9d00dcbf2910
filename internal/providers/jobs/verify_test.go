package jobs

import (
	"testing"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// The Job that is wanted is verified against the server itself; those of before
// are over, and are not.
func TestJobsAreVerified(t *testing.T) { inForms(t, jobsAreVerified) }

func jobsAreVerified(t *testing.T, r *rig) {
	r.life = "run"
	r.until("it runs", is(reconcile.Progressing))
	o, _ := r.look()
	l := o.Detail.(*look)
	record, _ := l.inv.Record(l.id())
	verdict := func(e kubernetes.Entry) kubernetes.Verdict {
		t.Helper()
		v, err := r.p.verify(t.Context(), l.cluster, r.Namespace, record, e)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	entry := record.Entries[0]
	if v := verdict(entry); v != kubernetes.VerdictSame {
		t.Errorf("verdict %d about a Job that is as it was made", v)
	}
	other := entry
	other.Desired = "other/other"
	if v := verdict(other); v != kubernetes.VerdictUnknown {
		t.Errorf("verdict %d about a Job that is not wanted any more", v)
	}
	was := entry
	was.Baseline.Digest = "of something else"
	if v := verdict(was); v != kubernetes.VerdictDiffers {
		t.Errorf("verdict %d about a Job that is not as it was made", v)
	}
	r.life = ""
}
