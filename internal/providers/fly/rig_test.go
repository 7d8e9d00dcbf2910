package fly_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// rig is a place on Fly, and forged that work there.
type rig struct {
	*flytest.Place
	t *testing.T
}

// inBubble runs a test on a place of its own, in which time costs nothing.
func inBubble(t *testing.T, o flyemulator.Options, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{flytest.New(t, o), t}
		test(t, r)
		r.Unharmed(t)
	})
}

// forged begins a process of forged. It ends with the test, or with stop.
func (r *rig) forged(change ...func(*fly.Options)) *fly.Accounts {
	o := fly.Options{
		Instance: flytest.Instance, Resolver: r.Resolver(), Endpoints: flytest.Endpoints(), HTTP: r.HTTP(), Logger: r.Logger(),
	}
	for _, f := range change {
		f(&o)
	}
	a := fly.NewAccounts(o)
	r.t.Cleanup(a.Close)
	return a
}

func (r *rig) app() forge.Resource { return r.appNamed(flytest.App) }

func (r *rig) appNamed(name string) forge.Resource {
	return forge.Resource{
		ID:     forge.ID{Environment: flytest.Environment, Kind: forge.KindFlyApp, Name: name},
		Target: forge.Target{Org: flytest.Org},
		Spec:   forge.FlyAppSpec{Account: r.Account(), Name: name},
	}
}

// inventory opens the inventory of the environment.
func (r *rig) inventory(a *fly.Accounts) *fly.Inventory {
	r.t.Helper()
	org, err := a.Open(r.t.Context(), r.Account())
	if err != nil {
		r.t.Fatal(err)
	}
	inv, err := org.Inventory(r.t.Context(), flytest.Environment, r.Account())
	if err != nil {
		r.t.Fatal(err)
	}
	return inv
}

// plan is what a provider would do about a resource.
func (r *rig) plan(p reconcile.Provider, q reconcile.Request) ([]reconcile.Step, error) {
	r.t.Helper()
	o, err := p.Observe(r.t.Context(), q)
	if err != nil {
		return nil, err
	}
	return p.Plan(r.t.Context(), q, o)
}

// apply carries out all that a provider plans, until nothing is left.
func (r *rig) apply(ctx context.Context, p reconcile.Provider, q reconcile.Request) error {
	r.t.Helper()
	for range 5 {
		steps, err := r.plan(p, q)
		if err != nil || len(steps) == 0 {
			return err
		}
		for _, s := range steps {
			if s.Blocked != "" {
				r.t.Fatalf("blocked: %s", s)
			}
			if _, err := p.Apply(ctx, q, s); err != nil {
				return err
			}
		}
	}
	r.t.Fatal("there is no end to it")
	return nil
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// count counts the requests of an action on an app; empty: on any.
func (r *rig) count(action, app string) int {
	n := 0
	for _, q := range r.Requests() {
		if q.Action == action && (app == "" || q.App == app) {
			n++
		}
	}
	return n
}

// unthrottled fails the test if Fly had to say that there are too many requests.
func (r *rig) unthrottled() {
	r.t.Helper()
	for _, q := range r.Requests() {
		if q.Status == 429 {
			r.t.Errorf("too many requests: %s %s", q.Method, q.Path)
		}
	}
}

// awaitGone waits until an app that was deleted is gone.
func (r *rig) awaitGone(app string) {
	r.t.Helper()
	for range 60 {
		if _, err := r.Somebody.App(r.t.Context(), app); api.KindOf(err) == api.NotFound {
			return
		}
		time.Sleep(time.Second)
	}
	r.t.Fatalf("%s does not go", app)
}

func resources(all ...forge.Resource) []forge.Resource { return all }

// inventories are the machines in the app of the inventory.
func (r *rig) inventories() []api.Machine {
	r.t.Helper()
	all, err := r.Somebody.Machines(r.t.Context(), flytest.Inventory, api.MachinesQuery{})
	r.must(err)
	return slices.DeleteFunc(all, func(m api.Machine) bool { return m.State == api.StateDestroyed || m.State == api.StateDestroying })
}

// destroyInventory is what somebody does who has waited for the lease.
func (r *rig) destroyInventory() {
	r.t.Helper()
	for _, m := range r.inventories() {
		r.drift(http.MethodDelete, "/v1/apps/"+flytest.Inventory+"/machines/"+m.ID+"?force=true", "")
	}
}

// drift is somebody who may do everything.
func (r *rig) drift(method, path, body string) {
	r.t.Helper()
	if status, text := r.Drift(flyemulator.Drift{Method: method, Path: path, Body: json.RawMessage(body)}); status >= 300 {
		r.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
}

// refused fails the test unless an error is of a kind and says certain things.
func (r *rig) refused(err error, kind reconcile.ErrorKind, says ...string) {
	r.t.Helper()
	if reconcile.KindOf(err) != kind || err == nil {
		r.t.Errorf("want an error of kind %s: %v", kind, err)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			r.t.Errorf("it does not say %q: %v", text, err)
		}
	}
}
