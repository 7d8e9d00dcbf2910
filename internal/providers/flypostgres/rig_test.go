package flypostgres_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
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
	*flytest.Forged
	t      *testing.T
	theirs string // id of somebody else's cluster
	before string // and what is in it
}

func newRig(t *testing.T, o flyemulator.Options) *rig {
	t.Helper()
	r := &rig{Forged: flytest.NewForged(t, o), t: t}
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

// reveal is a secret output; it must be in no text from now on.
func (r *rig) reveal(o reconcile.Observed, name string) string {
	r.t.Helper()
	out, ok := o.Outputs[name]
	if !ok || out.Value != "" || len(out.Secret.Reveal()) == 0 {
		r.t.Fatalf("output %s is not a secret: %+v", name, out)
	}
	text := string(out.Secret.Reveal())
	r.Secrets = append(r.Secrets, text)
	return text
}
