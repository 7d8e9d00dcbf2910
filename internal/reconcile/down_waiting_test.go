package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// What is taken down and waits for something that will not come says what is
// wrong there.
func TestDownOfWhatWaits(t *testing.T) {
	for _, tt := range []struct {
		what string
		sick func(y *forgeYard)
		want string
	}{
		{"it cannot be read", func(y *forgeYard) { y.Fail("observe", id("db"), fail(reconcile.Denied)) }, ""},
		{"it has failed", func(y *forgeYard) {
			y.SetHealth(id("db"), reconcile.Health{Status: reconcile.Failed, Message: "no disk is left"})
		}, "wait for local/release/db: no disk is left"},
		{"nothing is known", func(*forgeYard) {}, "wait: output \"url\" of local/release/db is not known yet"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newYard(t)
				asked := []forge.Resource{one("db"), one("app", "db")}
				if _, err := y.engine.Converge(t.Context(), gen(1, policy, asked...)); err != nil {
					t.Fatal(err)
				}
				tt.sick(y)
				y.Fail("observe", id("app"), func() error { return reconcile.WaitingFor(id("db"), "url") })
				plan := y.plan(down(2, policy, asked...), nil)
				said := map[string]*reconcile.ErrorStatus{}
				for _, i := range plan.Environments[0].Items {
					said[i.ID.Name] = i.Error
				}
				want := tt.want
				if want == "" {
					want = said["db"].Text
				}
				if !plan.Failed() || said["app"] == nil || !strings.Contains(said["app"].Text, want) {
					t.Errorf("%+v", said)
				}
			})
		})
	}
}
