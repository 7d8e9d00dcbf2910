package reconcile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

var update = flag.Bool("update", false, "rewrite golden files")

// settled is a world in which one, two and old are as they were asked for.
func settled(t *testing.T) *forgeYard {
	t.Helper()
	y := newYard(t)
	if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("db"), fed("app", "db", "url"), one("old"), one("older", "old"))); err != nil {
		t.Fatal(err)
	}
	return y
}

func (y *forgeYard) plan(g reconcile.Generation, filter func(forge.ID) bool) *reconcile.Plan {
	y.t.Helper()
	p, err := y.engine.Plan(y.t.Context(), g, filter)
	if err != nil {
		y.t.Fatal(err)
	}
	return p
}

func TestPlanBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := settled(t)
		y.Edit(id("db"), "pod", "evil", "kubectl-edit")
		y.Fail("observe", id("sick"), fail(reconcile.Unavailable))
		resources := []forge.Resource{
			one("db"), fed("app", "db", "url"), fed("worker", "new", "url"), one("new"),
			one("sick"), one("after", "sick"), fed("fed", "sick", "url"),
		}
		var first []byte
		for range 10 {
			rand.Shuffle(len(resources), func(i, j int) { resources[i], resources[j] = resources[j], resources[i] })
			g := gen(2, policy, resources...)
			g.Environments = append(g.Environments, reconcile.Environment{Name: "asleep", Policy: forge.Policy{Mode: forge.ModePaused}})
			p := y.plan(g, nil)
			got, err := json.MarshalIndent(p, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(string(first), string(got)); diff != "" {
				t.Fatalf("another plan of the same world (-first +now):\n%s", diff)
			}
			if !p.Changes() || !p.Failed() {
				t.Errorf("changes %v, failed %v", p.Changes(), p.Failed())
			}
		}
		if bytes.Contains(first, []byte("canary")) {
			t.Error("a secret is in the plan")
		}
		golden := filepath.Join("testdata", "plan.json")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, append(first, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(first)+"\n"); diff != "" {
			t.Errorf("plan (-want +got):\n%s", diff)
		}
		y.wantCount("write", 5) // of the first Converge; Plan wrote nothing
	})
}

func TestPlanOfWhatIsInSyncIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := settled(t)
		p := y.plan(gen(2, policy, one("db"), fed("app", "db", "url"), one("old"), one("older", "old")), nil)
		if p.Changes() || p.Failed() {
			t.Errorf("%+v", p)
		}
		kept := policy
		kept.Prune = false
		p = y.plan(gen(2, kept, one("db")), nil)
		if p.Changes() {
			t.Errorf("what is kept by policy is a change: %+v", p)
		}
	})
}

func TestPlanFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := settled(t)
		y.Forget()
		p := y.plan(gen(2, policy, one("db"), fed("app", "db", "url"), one("new")), func(i forge.ID) bool { return i == id("app") })
		if items := p.Environments[0].Items; len(items) != 1 || items[0].ID != id("app") || items[0].Waiting != "" {
			t.Errorf("items %+v", items)
		}
		if diff := cmp.Diff([]string{"db", "app"}, applied(y.Calls("observe"))); diff != "" {
			t.Errorf("looked at (-want +got):\n%s", diff)
		}
	})
}

// asker keeps what its plans were asked about.
type asker struct {
	*world.World
	moving map[string][]forge.ID
}

func (a asker) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	if r.Explain {
		a.moving[r.Resource.ID.Name] = r.Moving
	}
	return a.World.Plan(ctx, r, o)
}

// Who needs what is about to change is told that it is.
func TestPlanTellsWhatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := settled(t)
		a := asker{y.World, map[string][]forge.ID{}}
		y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: a}, Workers: 1})
		g := gen(2, policy, res("db", map[string]any{"pod": "2"}), fed("app", "db", "url"))
		if _, err := y.engine.Plan(t.Context(), g, nil); err != nil {
			t.Fatal(err)
		}
		if got := a.moving["app"]; len(got) != 1 || got[0] != id("db") || len(a.moving["db"]) != 0 {
			t.Errorf("moving: %v", a.moving)
		}
	})
}

// What lives in a cluster that has yet to be made is not known, which is no
// failure; what cannot be read is one.
func TestPlanOfWhatHasYetToBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		yet := func() error { return reconcile.WaitingFor(id("cluster"), "kubeconfig") }
		g := gen(1, policy, one("cluster"), one("app", "cluster"))
		y.Fail("observe", id("app"), yet)
		y.Fail("owned", forge.ID{}, yet)
		p := y.plan(g, nil)
		env := p.Environments[0]
		if p.Failed() || !p.Changes() || env.Error != nil || len(env.Items) != 2 {
			t.Fatalf("%+v", env)
		}
		if got := env.Items[1]; got.Waiting != "unknown until local/release/cluster is applied" || got.Error != nil {
			t.Errorf("%+v", got)
		}
		y.Fail("observe", id("cluster"), fail(reconcile.Unavailable))
		if p := y.plan(g, nil); !p.Failed() || p.Environments[0].Items[1].Waiting != "unknown until local/release/cluster can be read" {
			t.Errorf("%+v", p.Environments[0].Items)
		}
	})
}

func TestPlanShowsWhatIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := settled(t)
		p := policy
		p.MaxDelete = 1
		items := y.plan(gen(2, p, one("db"), fed("app", "db", "url")), nil).Environments[0].Items
		if len(items) != 4 {
			t.Fatalf("%d items", len(items))
		}
		for _, i := range items[2:] {
			if !i.Remove || !strings.Contains(i.Steps[0].Blocked, "policy.maxDelete to 2") {
				t.Errorf("%+v", i)
			}
		}
	})
}

func TestPlanEndsWithItsContext(t *testing.T) {
	y := newYard(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := y.engine.Plan(ctx, gen(1, policy, one("app")), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestStepString(t *testing.T) {
	tests := []struct {
		step reconcile.Step
		want string
	}{
		{
			reconcile.Step{ID: id("app"), Action: reconcile.ActionCreate, Reason: reconcile.Reason{Code: reconcile.ReasonAbsent}},
			"create local/release/app: absent",
		},
		{
			reconcile.Step{
				ID: id("app"), Action: reconcile.ActionHeal, Object: "Deployment shop/app",
				Reason: reconcile.Reason{Code: reconcile.ReasonEdited, Writer: "kubectl-edit", Paths: []string{"spec.replicas"}},
			},
			"heal Deployment shop/app: edited by kubectl-edit: spec.replicas",
		},
		{
			reconcile.Step{ID: id("app"), Action: reconcile.ActionUpdate, Reason: reconcile.Reason{Code: reconcile.ReasonConfig}, Deletes: 3, Blocked: "too many"},
			"update local/release/app: config, deletes 3 [blocked: too many]",
		},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(tt.step); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
