package flytest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// theirs is the name of somebody else's add-on.
const theirs = "theirs"

// AddOns is forged at work in a place where somebody else has an add-on.
type AddOns struct {
	*Forged
	Ask api.CreateAddOn // what somebody else asks for, but for its name

	before string // their add-on, as it was; empty: there is none
}

// NewAddOns makes a place without add-ons.
func NewAddOns(t *testing.T, o flyemulator.Options, ask api.CreateAddOn) *AddOns {
	t.Helper()
	a := &AddOns{Forged: NewForged(t, o), Ask: ask}
	org, err := a.Somebody.Organization(t.Context(), Org)
	a.Must(err)
	a.Ask.OrgID = org.ID
	return a
}

// MakeTheirs has somebody else make an add-on that nobody may touch.
func (a *AddOns) MakeTheirs() {
	a.t.Helper()
	a.Make(theirs)
	a.before = a.picture(a.t)
}

// Make makes an add-on as somebody else, and waits for it.
func (a *AddOns) Make(name string) api.AddOn {
	a.t.Helper()
	ask := a.Ask
	ask.Name = name
	made, err := a.Somebody.CreateAddOn(a.t.Context(), ask)
	a.Must(err)
	time.Sleep(time.Minute)
	return made
}

// Seen is an add-on as somebody else sees it.
func (a *AddOns) Seen(name string) api.AddOn {
	a.t.Helper()
	seen, err := a.Somebody.AddOn(context.WithoutCancel(a.t.Context()), name, a.Ask.Type)
	a.Must(err)
	return seen
}

func (a *AddOns) picture(t *testing.T) string {
	t.Helper()
	seen, err := a.Somebody.AddOn(context.WithoutCancel(t.Context()), theirs, a.Ask.Type)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]any{seen, string(seen.PublicURL.Reveal()), string(seen.Kubeconfig.Reveal())})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Unharmed fails the test if the bystander or somebody else's add-on was changed,
// or more than one was made beside it.
func (a *AddOns) Unharmed(t *testing.T) {
	t.Helper()
	a.Forged.Unharmed(t)
	if a.before == "" {
		return
	}
	if now := a.picture(t); now != a.before {
		t.Errorf("somebody else's add-on was changed:\nwas %s\nis  %s", a.before, now)
	}
	all, err := a.Somebody.AddOns(context.WithoutCancel(t.Context()), Org, a.Ask.Type)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) > 2 {
		t.Errorf("there are %d add-ons", len(all))
	}
}

// Patient is a provider whose user waits until what was asked for is ready, or
// there is something to do.
type Patient struct{ Service }

// Service is a provider of one kind of resources on Fly.
type Service interface {
	reconcile.Provider
	reconcile.Owner
	reconcile.Follower
}

// Observe implements reconcile.Provider.
func (p Patient) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	for range 20 {
		o, err := p.Service.Observe(ctx, r)
		if err != nil || o.Health.Status != reconcile.Progressing {
			return o, err
		}
		if steps, err := p.Plan(ctx, r, o); err != nil || len(steps) > 0 {
			return o, err
		}
		select {
		case <-time.After(31 * time.Second): // the listings come round
		case <-ctx.Done():
			return o, nil
		}
	}
	return p.Service.Observe(ctx, r)
}
