package flypostgres_test

import (
	"context"
	"encoding/json"
	"fmt"
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

const (
	clusterName = "shop-db"
	database    = "appdb"
	user        = "appuser"
)

// rig is a place on Fly, and forged that work there.
type rig struct {
	*flytest.Place
	t       *testing.T
	theirs  string // id of somebody else's cluster
	before  string // and what is in it
	secrets []string
	process *fly.Accounts
	line    func() *http.Client // of forged
}

func newRig(t *testing.T, o flyemulator.Options) *rig {
	t.Helper()
	r := &rig{Place: flytest.New(t, o), t: t}
	r.line = r.HTTP
	c, err := r.Somebody.CreatePostgres(t.Context(), api.CreatePostgres{Org: flytest.Org, Name: "theirs", Plan: "basic", Region: "fra"})
	if err != nil {
		t.Fatal(err)
	}
	r.theirs = c.ID
	time.Sleep(2 * time.Minute)
	r.before = r.look(t)
	return r
}

// inBubble runs a test on a place of its own, in which time costs nothing.
func inBubble(t *testing.T, o flyemulator.Options, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, o)
		test(r)
		r.unharmed(t)
	})
}

// look is what there is of somebody else's cluster.
func (r *rig) look(t *testing.T) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	c, err := r.Somebody.PostgresCluster(ctx, r.theirs)
	if err != nil {
		t.Fatal(err)
	}
	users, err := r.Somebody.PostgresUsers(ctx, r.theirs)
	if err != nil {
		t.Fatal(err)
	}
	databases, err := r.Somebody.PostgresDatabases(ctx, r.theirs)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]any{c, users, databases})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unharmed fails the test if anything of somebody else's was changed.
func (r *rig) unharmed(t *testing.T) {
	t.Helper()
	r.Unharmed(t)
	if now := r.look(t); now != r.before {
		t.Errorf("somebody else's cluster was changed:\nwas %s\nis  %s", r.before, now)
	}
}

// accounts begins a process of forged, when the one before has ended.
func (r *rig) accounts() *fly.Accounts {
	if r.process != nil {
		r.process.Close()
		time.Sleep(5 * time.Second) // a process takes a moment to begin
	}
	a := fly.NewAccounts(fly.Options{
		Instance: flytest.Instance, Resolver: r.Resolver(), Endpoints: flytest.Endpoints(), HTTP: r.line(), Logger: r.Logger(),
	})
	r.t.Cleanup(a.Close)
	r.process = a
	return a
}

// patient is a provider whose user waits until what was asked for is ready.
type patient struct{ *fly.Service }

func (p patient) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	for range 20 {
		o, err := p.Service.Observe(ctx, r)
		if err != nil || o.Health.Status != reconcile.Progressing {
			return o, err
		}
		if steps, err := p.Plan(ctx, r, o); err != nil || len(steps) > 0 {
			return o, err
		}
		select {
		case <-time.After(31 * time.Second):
		case <-ctx.Done():
			return o, nil
		}
	}
	return p.Service.Observe(ctx, r)
}

// make makes a cluster as somebody else, and waits for it.
func (r *rig) make(name string) string {
	r.t.Helper()
	c, err := r.Somebody.CreatePostgres(r.t.Context(), api.CreatePostgres{Org: flytest.Org, Name: name, Plan: "launch", Region: "iad"})
	if err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(2 * time.Minute)
	return c.ID
}

// clusters are the ids of those of a name that are there.
func (r *rig) clusters(name string) []string {
	r.t.Helper()
	all, err := r.Somebody.PostgresClusters(r.t.Context(), flytest.Org)
	if err != nil {
		r.t.Fatal(err)
	}
	var ids []string
	for _, c := range all {
		if c.Name == name && c.Status != "deleting" && c.Status != "deleted" {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// managed asks for a cluster.
func (r *rig) managed(change ...func(*forge.FlyPostgresSpec)) reconcile.Request {
	spec := forge.FlyPostgresSpec{
		Account: r.Account(), Name: clusterName, Create: true, Plan: "basic", Region: "fra", StorageGB: 10, Version: "17",
		PoolMode: "session", Database: database, User: user,
	}
	for _, f := range change {
		f(&spec)
	}
	return reconcile.Request{Resource: forge.Resource{
		ID:     forge.ID{Environment: flytest.Environment, Kind: forge.KindFlyPostgres, Name: clusterName},
		Target: forge.Target{Org: flytest.Org}, Spec: spec,
	}}
}

// plan is what a provider would do.
func (r *rig) plan(p reconcile.Provider, q reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	r.t.Helper()
	o, err := p.Observe(r.t.Context(), q)
	r.must(err)
	steps, err := p.Plan(r.t.Context(), q, o)
	r.must(err)
	r.silent(fmt.Sprint(steps), fmt.Sprintf("%+v", o.Health), fmt.Sprintf("%+v", o.Notices), fmt.Sprintf("%+v", o.Outputs))
	b, err := json.Marshal(steps)
	r.must(err)
	r.silent(string(b))
	return o, steps
}

// blocked is why the only step that is planned is not done.
func (r *rig) blocked(p reconcile.Provider, q reconcile.Request, want string) reconcile.Step {
	r.t.Helper()
	_, steps := r.plan(p, q)
	if len(steps) != 1 || !strings.Contains(steps[0].Blocked, want) || steps[0].Blocked == "" {
		r.t.Fatalf("planned %v, want one that is blocked: %s", steps, want)
	}
	if _, err := p.Apply(r.t.Context(), q, steps[0]); reconcile.KindOf(err) != reconcile.Invalid {
		r.t.Errorf("a blocked step was applied: %v", err)
	}
	return steps[0]
}

// round is a cycle: the first error ends it.
func (r *rig) round(p reconcile.Provider, q reconcile.Request) (done int, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Minute)
	defer cancel()
	o, err := p.Observe(ctx, q)
	if err != nil {
		return 0, err
	}
	steps, err := p.Plan(ctx, q, o)
	if err != nil {
		return 0, err
	}
	for _, s := range steps {
		if s.Blocked != "" {
			continue
		}
		if _, err := p.Apply(ctx, q, s); err != nil {
			r.silent(err.Error())
			return done, fmt.Errorf("%s: %w", s, err)
		}
		done++
	}
	return done, nil
}

// converge goes on until nothing is to be done and all is ready, as an engine
// would: after an error it waits, and begins again.
func (r *rig) converge(p reconcile.Provider, q reconcile.Request) reconcile.Observed {
	r.t.Helper()
	var last error
	for range 60 {
		done, err := r.round(p, q)
		if last = err; err != nil {
			time.Sleep(5 * time.Second)
			continue
		}
		if o, steps := r.plan(p, q); done == 0 && (o.Health.Status == reconcile.Ready || q.Remove) {
			steps = slices.DeleteFunc(steps, func(s reconcile.Step) bool { return s.Blocked != "" })
			if len(steps) == 0 {
				return o
			}
		}
		time.Sleep(15 * time.Second)
	}
	o, steps := r.plan(p, q)
	r.t.Fatalf("there is no end to it: %v %+v %v", steps, o.Health, last)
	return o
}

// silent fails the test when a secret is in a text.
func (r *rig) silent(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		for _, s := range append(r.secrets, flyemulator.DefaultToken) {
			if strings.Contains(text, s) {
				r.t.Errorf("a secret is in: %s", text)
			}
		}
	}
}

// reveal is a secret output; it must be in no text from now on.
func (r *rig) reveal(o reconcile.Observed, name string) string {
	r.t.Helper()
	out, ok := o.Outputs[name]
	if !ok || out.Value != "" || len(out.Secret.Reveal()) == 0 {
		r.t.Fatalf("output %s is not a secret: %+v", name, out)
	}
	text := string(out.Secret.Reveal())
	r.secrets = append(r.secrets, text)
	return text
}
