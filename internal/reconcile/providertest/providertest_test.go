package providertest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/reconcile/world"
	"forged.dev/forged/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWorld(t *testing.T) {
	providertest.Test(t, func(*testing.T) providertest.Harness {
		w := world.New()
		db := forge.ID{Environment: "local", Kind: forge.KindRelease, Name: "db"}
		app := forge.ID{Environment: "local", Kind: forge.KindRelease, Name: "app"}
		other := forge.ID{Environment: "local", Kind: forge.KindRelease, Name: "other"}
		w.Edit(other, "pod", "theirs", "somebody")
		ask := func(pod string, more ...string) forge.Resource {
			spec := forge.ReleaseSpec{
				Name: "app", Values: map[string]any{"pod": pod, "service": "1"},
				Inputs: []forge.Input{{Path: []string{"secret"}, From: db, Output: "password"}},
			}
			for _, m := range more {
				spec.Values[m] = "1"
			}
			return forge.Resource{ID: app, Needs: []forge.ID{db}, Spec: spec}
		}
		return providertest.Harness{
			Resource: ask("1", "ingress"),
			Changed:  ask("2"),
			Inputs:   map[forge.ID]reconcile.Outputs{db: {"password": {Secret: secret.New([]byte("canary"))}}},
			Policy:   forge.Policy{Mode: forge.ModeApply},
			Secrets:  []string{"canary", "Y2FuYXJ5"},
			Start:    func(*testing.T) reconcile.Provider { return w },
			Edit:     func(*testing.T) { w.Edit(app, "pod", "evil", "kubectl") },
			Delete:   func(*testing.T) { w.Delete(app, "pod") },
			BreakReads: func(*testing.T) func() {
				w.Fail("observe", forge.ID{}, func() error { return reconcile.Errorf(reconcile.Unavailable, "observe", "cut") })
				return func() { w.Fail("observe", forge.ID{}, nil) }
			},
			CutAfter: func(_ *testing.T, n int) func() {
				w.CutAfter(n)
				return func() { w.CutAfter(-1) }
			},
			Writes: func() int { return w.Count("write") + w.Count("delete") },
			Bystander: func(t *testing.T) {
				if diff := cmp.Diff(map[string]string{"pod": "theirs"}, w.Live(other)); diff != "" {
					t.Errorf("somebody else's object (-want +got):\n%s", diff)
				}
			},
		}
	})
}
