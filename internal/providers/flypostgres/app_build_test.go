package flypostgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/reconcile"
)

func three(s *forge.FlyPostgresAppSpec) { s.Machines = 3 }

// inventory of what the app is made of: never more than was asked for.
func (r *appRig) made(machines int) {
	r.t.Helper()
	volumes, err := r.Somebody.Volumes(r.t.Context(), appName)
	r.Must(err)
	volumes = slices.DeleteFunc(volumes, api.Volume.Deleted)
	all, err := r.Somebody.Machines(r.t.Context(), appName, api.MachinesQuery{})
	r.Must(err)
	all = slices.DeleteFunc(all, func(m api.Machine) bool { return m.State == api.StateDestroyed })
	if len(volumes) != machines || len(all) != machines {
		r.t.Errorf("%d volumes, %d machines, want %d of each", len(volumes), len(all), machines)
	}
	mounted := map[string]bool{}
	for _, m := range all {
		if len(m.Config.Mounts) == 1 {
			mounted[m.Config.Mounts[0].Volume] = true
		}
	}
	if len(mounted) != machines {
		r.t.Errorf("%d volumes are mounted, want %d", len(mounted), machines)
	}
	ips, err := r.Somebody.IPs(r.t.Context(), appName)
	r.Must(err)
	if len(ips) != 1 || ips[0].Type() != api.PrivateIP {
		r.t.Errorf("addresses %+v", ips)
	}
}

// The app is made as flyctl makes it; what stands by is made of what leads.
func TestAppIsMade(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		p := flypostgres.NewApp(r.Accounts())
		q := r.unmanaged(created, three)
		o := r.Converge(p, q)
		r.made(3)
		r.works(o, "password", user, database)
		all, err := r.Somebody.Machines(r.t.Context(), appName, api.MachinesQuery{})
		r.Must(err)
		m := all[0]
		if m.Config.Image != "flyio/postgres-flex:17" || m.Config.Env["PRIMARY_REGION"] != "fra" || len(m.Config.Services) != 2 || len(m.Config.Checks) != 3 ||
			m.Config.Metadata["fly-managed-postgres"] != "true" || m.Config.Restart.Policy != "always" || m.Config.Mounts[0].Path != "/data" || m.Config.Metrics.Port != 9187 {
			t.Errorf("%+v", m.Config)
		}
		env := r.Env(appName, m.ID)
		for _, name := range []string{"SU_PASSWORD", "OPERATOR_PASSWORD", "REPL_PASSWORD", "FLY_CONSUL_URL"} {
			if len(env[name]) < 20 {
				t.Errorf("the machine does not know %s", name)
			}
			r.Secrets = append(r.Secrets, env[name])
		}
		r.Plan(p, q)

		// What cannot change is said; everything else goes on.
		changed := r.unmanaged(created, three, func(s *forge.FlyPostgresAppSpec) {
			s.Region, s.Version, s.Machines, s.StorageGB, s.Guest.MemoryMB = "lhr", "16", 1, 10, 1024
		})
		_, steps := r.Plan(p, changed)
		if len(steps) != 5 {
			t.Fatalf("%v", steps)
		}
		for _, s := range steps {
			if s.Blocked == "" || !s.Late {
				t.Errorf("%s", s)
			}
		}

		// Its removal names all that is lost.
		q.Remove = true
		_, steps = r.Plan(p, q)
		if len(steps) != 1 || len(steps[0].Destroys) != 4 || steps[0].Deletes != 7 {
			t.Fatalf("%+v", steps)
		}
		r.Converge(p, q)
		if _, err := r.Somebody.App(r.t.Context(), appName); api.KindOf(err) != api.NotFound {
			t.Errorf("the app is still there: %v", err)
		}
	})
}

// A machine that somebody destroyed comes back on its disk; one that somebody
// stopped is started; a disk that is gone with what was on it is told of.
func TestAppPartsComeBack(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		p := flypostgres.NewApp(r.Accounts())
		q := r.unmanaged(created)
		r.Converge(p, q)
		first := r.machine()
		r.Must(r.Somebody.StopMachine(r.t.Context(), appName, first.ID, "", "", 0))
		time.Sleep(2 * time.Minute)
		if o, steps := r.Plan(p, q); len(steps) != 1 || steps[0].Rollout() || len(o.Outputs) > 0 {
			t.Errorf("%v %+v", steps, o.Health)
		}
		r.Converge(p, q)
		r.Must(r.Somebody.DestroyMachine(r.t.Context(), appName, first.ID, ""))
		time.Sleep(2 * time.Minute)
		r.guest.lead("")
		r.Converge(p, q)
		second := r.machine()
		if second.ID == first.ID || second.Config.Mounts[0].Volume != first.Config.Mounts[0].Volume {
			t.Errorf("%+v", second.Config.Mounts)
		}
		r.Must(r.Somebody.DestroyMachine(r.t.Context(), appName, second.ID, ""))
		time.Sleep(2 * time.Minute)
		r.Must(r.Somebody.DeleteVolume(r.t.Context(), appName, second.Config.Mounts[0].Volume))
		time.Sleep(2 * time.Minute)
		for range 2 {
			r.Blocked(p, q, "was deleted with its data, and no machine leads")
			p = flypostgres.NewApp(r.Accounts())
		}
		r.Must(r.Somebody.DeleteApp(r.t.Context(), appName))
		time.Sleep(5 * time.Minute)
		r.Blocked(p, q, "was deleted, with all its data")
	})
}

func (r *appRig) machine() api.Machine {
	r.t.Helper()
	all, err := r.Somebody.Machines(r.t.Context(), appName, api.MachinesQuery{})
	r.Must(err)
	all = slices.DeleteFunc(all, func(m api.Machine) bool { return m.State == api.StateDestroyed })
	if len(all) != 1 {
		r.t.Fatalf("%d machines", len(all))
	}
	return all[0]
}

// Whatever answer is lost and wherever a process ends, nothing is made twice.
func TestAppNeverTwo(t *testing.T) {
	server := startServer(t)
	for i, f := range []flyemulator.Fault{
		{Action: "apps.create", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "apps.create", Status: 502, Commit: true, Count: 1},
		{Action: "secrets.update", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "ips.create", Drop: flyemulator.DropAfter, Count: 1},
		{Action: "volumes.create", Drop: flyemulator.DropAfter, Count: 1, App: appName},
		{Action: "volumes.create", Status: 408, Commit: true, Count: 1, App: appName},
		{Action: "machines.create", Drop: flyemulator.DropAfter, Count: 1, App: appName},
		{Action: "machines.create", Status: 504, Commit: true, Count: 1, App: appName},
		{Action: "machines.exec", Drop: flyemulator.DropAfter, Skip: 1, Count: 3},
		{Body: "enablePostgresConsul", Status: 502, Count: 2},
	} {
		restart := i%2 == 0
		t.Run(fmt.Sprintf("%s%s %s%d %v", f.Action, f.Body, f.Drop, f.Status, restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAppRig(t, server)
				r.suffer(f, func() reconcile.Provider { return flypostgres.NewApp(r.Accounts()) }, r.unmanaged(created), restart)
				r.made(1)
				r.untouched(t)
			})
		})
	}
}

// Wherever a process is cut while it makes the app, the next one goes on, and
// nothing is made twice.
func TestAppCutAnywhere(t *testing.T) {
	server := startServer(t)
	for n, cut := 0, true; cut; n++ {
		synctest.Test(t, func(t *testing.T) {
			r := newAppRig(t, server)
			cut = r.cut(n, func() reconcile.Provider { return flypostgres.NewApp(r.Accounts()) }, r.unmanaged(created))
			r.made(1)
			r.untouched(t)
		})
		if n > 200 {
			t.Fatal("there is no end to it")
		}
	}
}

// An app that Fly refused to make is not forged's when somebody makes it later
// and puts something into it.
func TestAppRefusedIsNotOurs(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		mend := r.Fault(flyemulator.Fault{Action: "apps.create", Body: appName, Status: 422, Text: "please add a payment method"})
		p := flypostgres.NewApp(r.Accounts())
		q := r.unmanaged(created)
		if _, err := r.Round(p, q); reconcile.KindOf(err) != reconcile.Denied {
			r.t.Fatal(err)
		}
		mend()
		r.MakeApp(appName)
		_, err := r.Somebody.CreateVolume(r.t.Context(), appName, api.CreateVolume{Name: "theirs", Region: "fra", SizeGB: 1})
		r.Must(err)
		time.Sleep(5 * time.Minute)
		r.Blocked(p, q, "forged did not make it")
		q.Remove = true
		_, steps := r.Plan(p, q)
		if len(steps) != 1 || steps[0].Action != reconcile.ActionForget {
			r.t.Errorf("%v", steps)
		}
		r.Converge(p, q)
		if volumes, err := r.Somebody.Volumes(r.t.Context(), appName); err != nil || len(volumes) != 1 {
			r.t.Errorf("%v, %v", volumes, err)
		}
	})
}

// What goes with the app is named, also what somebody else has put there; it
// does not go while machines of theirs run in it.
func TestAppRemovalNamesEverything(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		p := flypostgres.NewApp(r.Accounts())
		q := r.unmanaged(created)
		r.Converge(p, q)
		v, err := r.Somebody.CreateVolume(r.t.Context(), appName, api.CreateVolume{Name: "dumps", Region: "fra", SizeGB: 1})
		r.Must(err)
		m := r.MakeMachine(appName, map[string]string{"owner": "somebody"})
		time.Sleep(10 * time.Minute)
		q.Remove = true
		step := r.Blocked(p, q, m.Name)
		if !slices.ContainsFunc(step.Destroys, func(s string) bool { return strings.Contains(s, v.ID) }) {
			r.t.Errorf("%q does not name %s", step.Destroys, v.ID)
		}
		r.Must(r.Somebody.DestroyMachine(r.t.Context(), appName, m.ID, ""))
		time.Sleep(10 * time.Minute)
		r.Converge(p, q)
	})
}

// An app of somebody else's is not used, and its name is not fought over.
func TestAppOfStrangers(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		p := flypostgres.NewApp(r.Accounts())
		r.Blocked(p, r.unmanaged(), "there is no app shop-pg")
		r.makeDatabase(appName)
		time.Sleep(5 * time.Minute)
		r.Blocked(p, r.unmanaged(created), "forged did not make it")
		q := r.unmanaged(func(s *forge.FlyPostgresAppSpec) { s.App = "fks-bystander" })
		if _, err := p.Observe(r.t.Context(), q); reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "never touched") {
			t.Error(err)
		}
	})
}
