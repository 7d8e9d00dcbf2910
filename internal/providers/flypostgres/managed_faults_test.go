package flypostgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/reconcile"
)

// suffer goes on with rounds in spite of trouble, in a new process after each that failed if restart is set.
func (r *rig) suffer(f flyemulator.Fault, start func() reconcile.Provider, q reconcile.Request, restart bool) {
	r.t.Helper()
	r.Fault(f)
	p := start()
	for range 14 {
		if _, err := r.Round(p, q); err != nil && restart {
			p = start()
		}
		time.Sleep(7 * time.Second)
	}
	r.MendAll()
	r.Converge(p, q)
	if f.Action != "" && !slices.ContainsFunc(r.Requests(), func(q flyemulator.Request) bool { return q.Action == f.Action }) {
		r.t.Errorf("there was no request %s: the trouble has struck nobody", f.Action)
	}
}

// Names of clusters are not unique, so that a blind second request would make a
// second cluster, which would cost every month. Wherever an answer is lost and
// wherever a process ends, there is one.
func TestManagedNeverTwo(t *testing.T) {
	faults := []flyemulator.Fault{
		{Action: "postgres.create", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "postgres.create", Drop: flyemulator.DropBefore, Count: 1},
		{Action: "postgres.create", Status: 502, Commit: true, Count: 1},
		{Action: "postgres.create", Status: 503, Count: 2},
		{Action: "postgres.create", Status: 408, Commit: true, Count: 1},
		{Action: "postgres.create", Delay: flyemulator.Duration(29 * time.Second), Count: 1},
		{Action: "postgres.create", Delay: flyemulator.Duration(29 * time.Second), Drop: flyemulator.DropAfter, Count: 1},
		{Action: "postgres.list", Status: 502, Skip: 1, Count: 5},
		{Action: "postgres.get", Status: 500, Count: 5},
		{Action: "postgres.get", Drop: flyemulator.DropAfter, Skip: 2, Count: 3},
		{Action: "postgres.users.create", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "postgres.databases.create", Drop: flyemulator.DropAfter, Count: 2},
		{Action: "postgres.extensions.enable", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "postgres.attach", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "machines.update", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "machines.update", Status: 503, Skip: 1, Count: 2},
		{Status: 429, Skip: 3, Count: 3},
	}
	for _, f := range faults {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %s%d %s %v", f.Action, f.Drop, f.Status, time.Duration(f.Delay), restart), func(t *testing.T) {
				inBubble(t, flyemulator.Options{}, func(r *rig) {
					r.MakeApp("web")
					q := r.managed(further, attached)
					r.suffer(f, func() reconcile.Provider { return flypostgres.NewManaged(r.Accounts()) }, q, restart)
					if ids := r.clusters(clusterName); len(ids) != 1 {
						r.t.Errorf("there are %d clusters: %v", len(ids), ids)
					}
				})
			})
		}
	}
}

// cut goes on with rounds until n changing requests were made and nothing passes
// any more; another process ends what was begun. It tells whether anything was
// cut.
func (r *rig) cut(n int, start func() reconcile.Provider, q reconcile.Request) bool {
	r.t.Helper()
	p := start()
	mend := r.Line.CutAfter(n)
	cut := false
	for range 12 {
		done, err := r.Round(p, q)
		if err != nil {
			cut = true
			break
		}
		if o, err := p.Observe(r.t.Context(), q); err == nil && done == 0 && o.Health.Status == reconcile.Ready {
			break
		}
		time.Sleep(40 * time.Second)
	}
	mend()
	r.Converge(start(), q)
	return cut
}

// Wherever a process is cut while it makes a cluster and what is in it, the next
// one goes on, and nothing is made twice.
func TestManagedCutAnywhere(t *testing.T) {
	for n, cut := 0, true; cut; n++ {
		inBubble(t, flyemulator.Options{}, func(r *rig) {
			r.MakeApp("web")
			cut = r.cut(n, func() reconcile.Provider { return flypostgres.NewManaged(r.Accounts()) }, r.managed(further, attached))
			if ids := r.clusters(clusterName); len(ids) != 1 {
				r.t.Errorf("cut after %d: there are %d clusters", n, len(ids))
			}
		})
		if n > 200 {
			t.Fatal("there is no end to it")
		}
	}
}

// What Fly refuses is said with what to do, and goes on when it is mended.
func TestManagedRefusals(t *testing.T) {
	for _, tt := range []struct {
		what  string
		fault flyemulator.Fault
		kind  reconcile.ErrorKind
		want  string
	}{
		{"no payment", flyemulator.Fault{Action: "postgres.create", Status: 422, Text: "please add a payment method"}, reconcile.Denied, "payment"},
		{"no room", flyemulator.Fault{Action: "postgres.create", Status: 422, Word: "insufficient_capacity", Text: "could not find a candidate host"}, reconcile.Unavailable, "no room"},
		{"no such region", flyemulator.Fault{Action: "postgres.create", Status: 422, Text: "region \"jnb\" is not supported"}, reconcile.Invalid, "not supported"},
		{"a token of an app", flyemulator.Fault{Action: "postgres.list", Status: 403, Text: "unauthorized"}, reconcile.Denied, "fly tokens create org"},
		{"a revoked token", flyemulator.Fault{Status: 401, Text: "Authenticate: token validation error"}, reconcile.Denied, "revoked"},
		{"no answer", flyemulator.Fault{Action: "postgres.list", Drop: flyemulator.DropBefore}, reconcile.Unavailable, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(r *rig) {
				p := flypostgres.NewManaged(r.Accounts())
				r.Plan(p, r.managed())
				r.Fault(tt.fault)
				time.Sleep(time.Hour)
				_, err := r.Round(p, r.managed())
				if reconcile.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
					r.t.Errorf("%s: %v", reconcile.KindOf(err), err)
				}
				r.MendAll()
				time.Sleep(time.Hour)
				r.Converge(p, r.managed())
				if ids := r.clusters(clusterName); len(ids) != 1 {
					r.t.Errorf("there are %d clusters", len(ids))
				}
			})
		})
	}
}

// A cluster that somebody deleted is not made anew behind their back; its
// restored backup is used when that is said.
func TestManagedLostData(t *testing.T) {
	for _, mode := range []string{"gone", "missing", "shown"} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(r *rig) {
				r.SetMode(flyemulator.ModePostgresGone, mode)
				p := flypostgres.NewManaged(r.Accounts())
				q := r.managed()
				before := r.reveal(r.Converge(p, q), forge.OutputPassword)
				r.Must(r.Somebody.DeletePostgres(r.t.Context(), r.clusters(clusterName)[0]))
				for range 3 {
					time.Sleep(5 * time.Minute)
					step := r.Blocked(p, q, "was deleted, with all its data")
					if step.Rollout() || step.Reason.Code != reconcile.ReasonDeleted {
						r.t.Errorf("%s", step)
					}
					if o, _ := r.Plan(p, q); o.Exists || o.Health.Status != reconcile.Failed || len(o.Outputs) > 0 {
						r.t.Errorf("%+v", o)
					}
					p = flypostgres.NewManaged(r.Accounts()) // nor by another process
				}
				if n := len(r.clusters(clusterName)); n != 0 {
					r.t.Fatalf("there are %d clusters", n)
				}
				restored := r.make(clusterName)
				time.Sleep(5 * time.Minute)
				r.Blocked(p, q, restored+" has its name now")
				q.Policy.Adopt = forge.AdoptIfUnowned
				r.Must(r.Somebody.CreatePostgresDatabase(r.t.Context(), restored, database)) // as a backup has it
				time.Sleep(5 * time.Minute)
				if after := r.reveal(r.Converge(p, q), forge.OutputPassword); after == before {
					r.t.Error("the password is that of the cluster that is gone")
				}
			})
		})
	}
}

// A database that somebody dropped is not put back empty; everything else is.
func TestManagedLostDatabase(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := flypostgres.NewManaged(r.Accounts())
		q := r.managed(further)
		r.Converge(p, q)
		id := r.clusters(clusterName)[0]
		r.Must(r.Somebody.DeletePostgresDatabase(r.t.Context(), id, "temporal"))
		r.Must(r.Somebody.DeletePostgresUser(r.t.Context(), id, user))
		r.Must(r.Somebody.DisablePostgresExtension(r.t.Context(), id, database, "pg_trgm"))
		time.Sleep(10 * time.Minute)
		for range 3 {
			_, _ = r.Round(p, q)
			time.Sleep(time.Minute)
		}
		step := r.Blocked(p, q, "database temporal was deleted, with all its data")
		if step.Rollout() {
			r.t.Errorf("%s", step)
		}
		r.Must(r.Somebody.CreatePostgresDatabase(r.t.Context(), id, "temporal"))
		time.Sleep(10 * time.Minute)
		r.Converge(p, q)
	})
}

// What cannot change is said, each in one sentence; everything else goes on.
func TestManagedWhatCannotChange(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := flypostgres.NewManaged(r.Accounts())
		r.Converge(p, r.managed())
		q := r.managed(further, func(s *forge.FlyPostgresSpec) {
			s.Plan, s.Region, s.StorageGB, s.Version, s.PostGIS, s.PoolMode = "performance", "lhr", 50, "16", true, "transaction"
		})
		for range 2 { // by another process, too
			r.Converge(p, q)
			_, steps := r.Plan(p, q)
			want := []string{
				`the plan of a cluster cannot change: it is "basic"`, "cannot move to another region: it is in fra", "cannot be made larger by hand: it has 10 GB",
				"it is PostgreSQL 17", "PostGIS is chosen when a cluster is made: it is off", `how the pooler of a cluster shares connections is chosen when it is made: "session"`,
			}
			if len(steps) != len(want) {
				r.t.Fatalf("%d steps: %v", len(steps), steps)
			}
			for i, s := range steps {
				if !strings.Contains(s.Blocked, want[i]) || !s.Late || !s.Rollout() {
					r.t.Errorf("%s, want %s", s, want[i])
				}
			}
			p = flypostgres.NewManaged(r.Accounts())
		}
		r.Converge(p, r.managed(further))
		if _, steps := r.Plan(p, r.managed(further)); len(steps) > 0 {
			r.t.Errorf("%v", steps)
		}
		// Of somebody else's cluster it is nobody's business.
	})
}

// A cluster that Fly could not make is told of, and made again when it is gone:
// there never was anything in it.
func TestManagedFailure(t *testing.T) {
	for _, fate := range []string{"failed", "error"} {
		inBubble(t, flyemulator.Options{}, func(r *rig) {
			r.SetMode(flyemulator.ModePostgresCreate, fate)
			p := flypostgres.NewManaged(r.Accounts())
			if _, err := r.Round(p, r.managed()); err != nil {
				r.t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			o, steps := r.Plan(p, r.managed())
			id := r.clusters(clusterName)[0]
			if o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, "fly mpg destroy "+id) || len(steps) != 0 {
				r.t.Errorf("%+v %v", o.Health, steps)
			}
			r.SetMode(flyemulator.ModePostgresCreate, "ready")
			r.Must(r.Somebody.DeletePostgres(r.t.Context(), id))
			time.Sleep(10 * time.Minute)
			r.Converge(p, r.managed())
		})
	}
}

// Credentials may come after the cluster is ready.
func TestManagedPasswordIsLate(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		r.SetMode(flyemulator.ModePostgresPassword, "late")
		o := r.Converge(flypostgres.NewManaged(r.Accounts()), r.managed())
		r.reveal(o, forge.OutputPassword)
	})
}

// Nothing is taken over without being asked; a reference changes nothing but
// what it has made itself.
func TestManagedAdoption(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := flypostgres.NewManaged(r.Accounts())
		r.Blocked(p, r.managed(referenced), "organization acme has no cluster shop-db")
		id := r.make(clusterName)
		time.Sleep(5 * time.Minute)
		r.Blocked(p, r.managed(), "forged did not make it")

		// Referenced, it is used as it is.
		r.Must(r.Somebody.CreatePostgresDatabase(r.t.Context(), id, "billing"))
		r.Must(r.Somebody.CreatePostgresUser(r.t.Context(), id, user, "reader"))
		time.Sleep(10 * time.Minute)
		_, steps := r.Plan(p, r.managed(referenced))
		if len(steps) == 0 || !strings.Contains(steps[0].Blocked, "user appuser is there already with role reader") {
			r.t.Errorf("%v", steps)
		}
		r.Must(r.Somebody.DeletePostgresUser(r.t.Context(), id, user))
		time.Sleep(10 * time.Minute)
		r.Converge(p, r.managed(referenced))
		gone := r.managed(referenced)
		gone.Remove = true
		_, steps = r.Plan(p, gone)
		if len(steps) != 1 || len(steps[0].Destroys) != 1 || steps[0].Destroys[0] != "database appdb of cluster shop-db" || steps[0].Deletes != 2 {
			r.t.Fatalf("%+v", steps)
		}
		r.Converge(p, gone)
		if ids := r.clusters(clusterName); len(ids) != 1 || ids[0] != id {
			r.t.Errorf("clusters %v", ids)
		}
		databases, err := r.Somebody.PostgresDatabases(r.t.Context(), id)
		r.Must(err)
		if strings.Contains(strings.Join(databases, " "), database) || !strings.Contains(strings.Join(databases, " "), "billing") {
			r.t.Errorf("databases %v", databases)
		}

		// Taken over, it goes with all that is in it, which is named.
		q := r.managed(func(s *forge.FlyPostgresSpec) { s.Plan, s.Region = "launch", "iad" })
		q.Policy.Adopt = forge.AdoptIfUnowned
		r.Converge(p, q)
		q.Remove = true
		_, steps = r.Plan(p, q)
		if len(steps) != 1 || len(steps[0].Destroys) != 1 {
			r.t.Fatalf("%+v", steps)
		}
		for _, part := range []string{"cluster shop-db", id, "10 GB", "appdb", "billing", "backups"} {
			if !strings.Contains(steps[0].Destroys[0], part) {
				r.t.Errorf("%s does not name %s", steps[0].Destroys[0], part)
			}
		}
	})
}

// What Fly has refused to make is not forged's when somebody makes it later; nor
// is what appears long after an answer was lost.
func TestManagedOfOthersIsNotTaken(t *testing.T) {
	for what, f := range map[string]flyemulator.Fault{
		"refused": {Action: "postgres.create", Status: 422, Text: "please add a payment method"},
		"lost":    {Action: "postgres.create", Drop: flyemulator.DropBefore},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(r *rig) {
				mend := r.Fault(f)
				if _, err := r.Round(flypostgres.NewManaged(r.Accounts()), r.managed()); err == nil {
					r.t.Fatal("it was made")
				}
				mend()
				r.Process.Close()
				if what == "lost" {
					time.Sleep(time.Hour)
				}
				r.make(clusterName)
				r.Blocked(flypostgres.NewManaged(r.Accounts()), r.managed(), "forged did not make it")
			})
		})
	}
}

// Several clusters of one name are not guessed among.
func TestManagedCrowd(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		one, two := r.make(clusterName), r.make(clusterName)
		step := r.Blocked(flypostgres.NewManaged(r.Accounts()), r.managed(referenced), "several clusters called shop-db")
		if !strings.Contains(step.Blocked, one) || !strings.Contains(step.Blocked, two) {
			r.t.Error(step.Blocked)
		}
	})
}
