package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	helmrelease "helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// helmActed waits until the provider has told of what somebody's helm did, and
// knows all of it: helm writes several records, and has ended when the watch
// has shown the first.
func (r *rig) helmActed() {
	r.t.Helper()
	r.changed("release " + r.env.Namespace + "/" + releaseName)
	r.caughtUp()
}

// caughtUp waits until the watch shows Helm's records as they are.
func (r *rig) caughtUp() {
	r.t.Helper()
	h, err := r.p.open(r.t.Context(), r.request())
	if err != nil {
		r.t.Fatal(err)
	}
	records, err := r.helm().Releases.History(releaseName)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		r.t.Fatal(err)
	}
	want := map[int]helmrelease.Status{}
	for _, rel := range records {
		want[rel.Version] = rel.Info.Status
	}
	r.eventually("the watch shows Helm's records", func() bool {
		revs, err := h.store.watched(r.t.Context(), h.release)
		got := map[int]helmrelease.Status{}
		for _, rev := range revs {
			got[rev.number] = rev.status
		}
		return err == nil && maps.Equal(got, want)
	})
}

// While a person's helm upgrade is at work, what it changes is no drift: forged
// stands aside, whatever happens to the objects, and acts when it has ended.
func TestLiveHelmUpgradeIsNotDisturbed(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/hook.yaml": hook("Job", "bad-wait", "post-upgrade")})
	r.mode = forge.ModeApply
	r.converge()
	want := r.live()
	cfg := r.helm()
	current, err := action.NewGet(cfg).Run(releaseName)
	if err != nil {
		t.Fatal(err)
	}
	r.drain()
	ended := make(chan error, 1)
	go func() {
		up := action.NewUpgrade(cfg)
		up.Namespace, up.Timeout = r.env.Namespace, time.Minute
		_, err := up.RunWithContext(r.ctx(), releaseName, current.Chart, map[string]any{"level": "theirs", "extra": true})
		ended <- err
	}()
	jobs := r.env.Client.BatchV1().Jobs(r.env.Namespace)
	r.eventually("helm waits for its hook", func() bool {
		_, err := jobs.Get(t.Context(), "bad-wait", metav1.GetOptions{})
		return err == nil
	})
	theirs := r.live()
	if theirs == want {
		t.Fatal("helm has changed nothing")
	}
	for range 20 {
		steps, err := r.pass(t.Context(), r.request())
		var e *reconcile.Error
		if !errors.As(err, &e) || e.Kind != reconcile.Throttled || e.After <= 0 || !strings.Contains(err.Error(), "another actor's helm is at work: revision 2 is pending-upgrade") {
			t.Fatalf("steps %v, error %v", steps, err)
		}
	}
	if got := r.live(); got != theirs {
		t.Errorf("helm was disturbed\n%s\nwant\n%s", got, theirs)
	}
	r.failJobs()
	if err := jobs.Delete(t.Context(), "bad-wait", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	<-ended // well or badly
	r.converge()
	if got := r.live(); got != want {
		t.Errorf("afterwards\n%s\nwant\n%s", got, want)
	}
}

// A record of a helm that was killed is taken up when it has not changed for a
// while, by the clock of this process alone: the clock of the machine that
// wrote it may be years off.
func TestDeadHelmIsTakenUp(t *testing.T) {
	for name, written := range map[string]time.Time{
		"its clock was ahead":  time.Now().Add(1000 * time.Hour),
		"its clock was behind": time.Now().Add(-1000 * time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.converge()
			want := r.live()
			r.stop()
			records := r.helm().Releases
			rel, err := records.Get(releaseName, 1)
			if err != nil {
				t.Fatal(err)
			}
			rel.Version, rel.Info.Status, rel.Labels = 2, helmrelease.StatusPendingUpgrade, nil
			if err := records.Create(rel); err != nil {
				t.Fatal(err)
			}
			patch := fmt.Sprintf(`{"metadata":{"labels":{"createdAt":"%[1]d","modifiedAt":"%[1]d"}}}`, written.Unix())
			if _, err := r.env.Client.CoreV1().Secrets(r.env.Namespace).Patch(t.Context(), recordName(releaseName, 2), "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			r.start()
			r.p.dead = 500 * time.Millisecond
			since := time.Now()
			if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Throttled {
				t.Errorf("at once: %v", err)
			}
			r.eventually("it is taken up", func() bool {
				_, err := r.pass(t.Context(), r.request())
				return err == nil
			})
			if waited := time.Since(since); waited < r.p.dead {
				t.Errorf("after %s", waited)
			}
			r.converge()
			if got := r.live(); got != want {
				t.Errorf("afterwards\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Two processes of one forged that act on one release at the same moment, as
// after a stop that was not waited for: one of them loses, says so, and both
// agree in the end.
func TestTwoForgedsOnOneRelease(t *testing.T) {
	one := newRig(t)
	one.converge()
	two := &rig{t: t, env: one.env, target: one.target, mode: forge.ModeApply}
	two.start()
	t.Cleanup(two.stop)
	two.values = one.values
	two.converge()
	for i := range 5 {
		values := map[string]any{"level": fmt.Sprint(i), "keys": map[string]any{fmt.Sprint(i): "x"}, "extra": i%2 == 0}
		one.values, two.values = values, values
		var wg sync.WaitGroup
		for _, r := range []*rig{one, two} {
			wg.Go(func() {
				for range 10 {
					steps, err := r.pass(t.Context(), r.request())
					switch kind := reconcile.KindOf(err); {
					case err == nil && len(steps) == 0:
						return
					case err != nil && kind != reconcile.Stale && kind != reconcile.Unavailable && kind != reconcile.Conflict:
						t.Errorf("error of kind %s: %v", kind, err)
						return
					}
				}
			})
		}
		wg.Wait()
		one.converge()
		two.converge()
		one.converge()
		fresh := newRig(t)
		fresh.values = values
		fresh.converge()
		if got, want := sameInstance(one, fresh), fresh.live(); got != want {
			t.Fatalf("round %d\n%s\nwant\n%s", i, got, want)
		}
	}
}

// The records of a release must not be lost to a write that the SDK only logs.
func TestRecordThatIsNotWrittenIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, proxy := behindProxy(t)
	// The last write of an install is the record that says deployed.
	whole, counted := behindProxy(t)
	whole.converge()
	n := counted.Mutations() - 1 // and then the inventory
	mend := proxy.CutAfter(n - 1)
	if _, err := r.pass(ctx, r.request()); err == nil {
		t.Error("no error")
	}
	mend()
	r.restart()
	r.converge()
	if got, want := sameInstance(r, whole), whole.live(); got != want {
		t.Errorf("afterwards\n%s\nwant\n%s", got, want)
	}
}
