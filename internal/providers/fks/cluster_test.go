package fks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/secret"
)

func TestConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := newRig(t, flyemulator.Options{})
		remove := func(t *testing.T) {
			if err := r.Somebody.DeleteAddOn(t.Context(), r.live().ID); err != nil {
				t.Fatal(err)
			}
		}
		h := r.Harness(providertest.Harness{
			Resource: r.request().Resource, Changed: r.request().Resource, Fixed: true,
			Policy: forge.Policy{Mode: forge.ModeApply, Adopt: forge.AdoptIfUnowned}, Data: true,
			Start: func(*testing.T) reconcile.Provider { return flytest.Patient{Service: r.fks()} },
			Edit: func(t *testing.T) { // nothing of a cluster can be edited: somebody makes it anew
				remove(t)
				r.Make(name)
			},
			Delete:  remove,
			Restore: func(*testing.T) { r.Make(name) },
			Secrets: []string{"kubectl-token"},
		})
		h.Bystander = r.Unharmed
		return h
	})
}

// An answer that is lost is looked for; no request makes a second cluster,
// wherever a process ends.
func TestNeverTwo(t *testing.T) {
	faults := []flyemulator.Fault{
		{Body: `createAddOn`, Drop: flyemulator.DropAfter, Count: 1},
		{Body: `createAddOn`, Drop: flyemulator.DropBefore, Count: 1},
		{Body: `createAddOn`, Status: 502, Commit: true, Count: 1},
		{Body: `createAddOn`, Status: 503, Count: 3},
		{Body: `createAddOn`, Delay: flyemulator.Duration(29 * time.Second), Count: 1},
		{Body: `addOns\(`, Status: 502, Count: 10},
		{Body: `addOns?\(`, Delay: flyemulator.Duration(29 * time.Second), Count: 10},
		{Action: "machines.update", Drop: flyemulator.DropAfter, Count: 1},
	}
	for _, f := range faults {
		t.Run(fmt.Sprintf("%s %s%d", f.Body, f.Drop, f.Status), func(t *testing.T) {
			for _, restart := range []bool{false, true} {
				inBubble(t, flyemulator.Options{}, func(r *rig) {
					p := r.fks()
					r.Fault(f)
					for range 30 {
						if _, err := r.Round(p, r.request()); err == nil {
							continue
						}
						if restart {
							p = r.fks()
						}
						time.Sleep(3 * time.Second)
					}
					r.MendAll()
					r.Converge(p, r.request())
					_, steps := r.Plan(p, remove(r.request()))
					if len(steps) != 1 || len(steps[0].Destroys) != 1 {
						r.t.Errorf("it is not known that forged has made it: %v", steps)
					}
				})
			}
		})
	}
}

func remove(q reconcile.Request) reconcile.Request {
	q.Remove = true
	return q
}

// What Fly refuses is said, and tried again when that makes sense.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		what  string
		fault flyemulator.Fault
		kind  reconcile.ErrorKind
		want  string
	}{
		{"no payment", flyemulator.Fault{Body: `createAddOn`, Status: 200, Text: `{"errors":[{"message":"Please add a payment method"}],"data":null}`}, reconcile.Denied, "payment"},
		{"a taken name", flyemulator.Fault{Body: `createAddOn`, Status: 200, Text: `{"errors":[{"message":"Validation failed: Name has already been taken"}],"data":null}`}, reconcile.Conflict, "platform.cluster"},
		{"a revoked token", flyemulator.Fault{Status: 401}, reconcile.Denied, "revoked"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(r *rig) {
				p := r.fks()
				r.Plan(p, r.request())
				r.Fault(tt.fault)
				time.Sleep(time.Hour)
				_, err := r.Round(p, r.request())
				if reconcile.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
					r.t.Errorf("%s: %v", reconcile.KindOf(err), err)
				}
				r.MendAll()
				time.Sleep(time.Hour)
				r.Converge(p, r.request())
			})
		})
	}
}

// An organization that is not in the beta is told before anything is asked for.
func TestNotInTheBeta(t *testing.T) {
	inBubble(t, flyemulator.Options{Orgs: []flyemulator.Org{{Slug: flytest.Org}}}, func(r *rig) {
		p := r.fks()
		r.Blocked(p, r.request(), "beta@fly.io")
	})
}

// A cluster that could not be made is told of, with what to do; it is never
// deleted for that.
func TestFailure(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		r.SetMode(flyemulator.ModeAddOn, "error")
		p := r.fks()
		_, err := r.Round(p, r.request())
		r.Must(err)
		time.Sleep(10 * time.Minute)
		o, steps := r.Plan(p, r.request())
		if o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, "provisioning failed") ||
			!strings.Contains(o.Health.Message, "fly ext kubernetes destroy shop-k8s") || len(steps) != 0 {
			r.t.Errorf("%+v %v", o.Health, steps)
		}
		if _, err := p.Way(r.t.Context(), clusterID); reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(fmt.Sprint(err), "provisioning failed") {
			r.t.Errorf("a way into it: %v", err)
		}
	})
}

// A cluster without a kubeconfig, or with one that would have this machine do
// something, is told of.
func TestStrangeKubeconfigs(t *testing.T) {
	const flys = "apiVersion: v1\nkind: Config\ncurrent-context: k\nclusters: [{name: k, cluster: {server: 'https://k.flycast:6443'}}]\ncontexts: [{name: k, context: {cluster: k, user: k}}]\nusers: [{name: k, user: {%s}}]\n"
	for _, tt := range []struct{ what, kubeconfig, want string }{
		{"none", "", "no kubeconfig is given out"},
		{"another language", "\tfm2_secret: [", "cannot be read"},
		{"nothing in it", "{}", "no context"},
		{"a command", fmt.Sprintf(flys, "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, kubectl-token]}"), "runs a command"},
		{"a file", fmt.Sprintf(flys, "tokenFile: /etc/passwd"), "reads files"},
		{"plain text", strings.ReplaceAll(fmt.Sprintf(flys, "token: t"), "https:", "http:"), "https"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			inBubble(t, flyemulator.Options{Kubeconfig: func(cluster string) string {
				if cluster == name {
					return tt.kubeconfig
				}
				return "{}"
			}}, func(r *rig) {
				p := r.fks()
				_, err := r.Round(p, r.request())
				r.Must(err)
				time.Sleep(10 * time.Minute)
				o, steps := r.Plan(p, r.request())
				if o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, tt.want) || len(steps) != 0 || len(o.Outputs) != 0 {
					r.t.Errorf("%+v %v", o, steps)
				}
				if _, err := p.Way(r.t.Context(), clusterID); reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(fmt.Sprint(err), tt.want) {
					r.t.Errorf("a way into it: %v", err)
				}
			})
		})
	}
}

// What is wrong with a kubeconfig of the user is said without what is in it.
func TestBrokenKubeconfigOfTheUser(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.fks()
		file := filepath.Join(t.TempDir(), "kc")
		q := r.request(func(s *forge.FlyClusterSpec) { s.Kubeconfig = file })
		for text, want := range map[string]string{
			"": "no such file", "fm2_secret": "is no YAML or JSON of kind Config", "users: fm2_secret": "is no YAML or JSON of kind Config",
		} {
			if text != "" {
				r.Must(os.WriteFile(file, []byte(text), 0o600))
			} else if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
				r.t.Fatal(err)
			}
			r.Converge(p, r.request())
			o, _ := r.Plan(p, q)
			if o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, want) || strings.Contains(o.Health.Message, "fm2_") {
				r.t.Errorf("%q: %+v", text, o.Health)
			}
		}
	})
}

// The way in is an output that nobody can read. Nothing is written to the
// cluster's metadata, and a region that cannot change is told.
func TestWhatIsMade(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.fks()
		if _, err := p.Way(r.t.Context(), clusterID); reconcile.KindOf(err) != reconcile.Waiting {
			r.t.Errorf("nothing is known yet: %v", err)
		}
		o := r.Converge(p, r.request())
		if way := string(o.Outputs[forge.OutputKubeconfig].Secret.Reveal()); !strings.Contains(way, "fks-acme-shop-k8s.flycast:6443") || o.Outputs[forge.OutputKubeconfig].Value != "" {
			r.t.Errorf("%+v", o.Outputs)
		}
		cfg, err := p.Way(r.t.Context(), clusterID)
		r.Must(err)
		if cfg.Host != "https://fks-acme-shop-k8s.flycast:6443" || cfg.ExecProvider != nil || cfg.BearerToken != "" {
			r.t.Errorf("%s", cfg.Host)
		}
		if live := r.live(); len(live.Metadata) != 0 || live.Kubeconfig.IsZero() {
			r.t.Errorf("%+v", live)
		}
		for _, q := range r.Requests() {
			if strings.Contains(q.Action, "update") && strings.Contains(strings.ToLower(q.Action), "addon") {
				r.t.Errorf("an add-on was changed: %s", q.Action)
			}
		}
		q := r.request(func(s *forge.FlyClusterSpec) { s.Region = "syd" })
		step := r.Blocked(p, q, "can never change: it is in fra")
		if !step.Late || !step.Rollout() {
			r.t.Errorf("%+v", step)
		}
	})
}

// Nothing is taken over without being asked. What was taken over stays when it
// is asked for no more.
func TestAdoption(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.fks()
		use := r.request(func(s *forge.FlyClusterSpec) { s.Create = false })
		r.Blocked(p, use, "has no cluster shop-k8s")
		live := r.Make(name)
		time.Sleep(5 * time.Minute)
		if o, steps := r.Plan(p, use); len(steps) != 0 || o.Health.Status != reconcile.Ready {
			r.t.Errorf("%v %+v", steps, o)
		}
		if _, steps := r.Plan(p, remove(use)); len(steps) != 0 {
			r.t.Errorf("it was used, and: %v", steps)
		}
		q := r.request()
		r.Blocked(p, q, "forged did not make it")
		q.Policy.Adopt = forge.AdoptIfUnowned
		r.Converge(p, q)
		_, steps := r.Plan(p, remove(q))
		if len(steps) != 1 || steps[0].Action != reconcile.ActionForget || steps[0].Deletes != 0 || len(steps[0].Destroys) != 0 {
			r.t.Fatalf("it was taken over, and: %v", steps)
		}
		_, err := r.Round(p, remove(q))
		r.Must(err)
		if now := r.live(); now.ID != live.ID {
			r.t.Errorf("%+v", now)
		}
	})
}

// What forged has made goes when a person says so, and the way in with it.
func TestRemoval(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.fks()
		r.Converge(p, r.request())
		_, steps := r.Plan(p, remove(r.request()))
		if len(steps) != 1 || steps[0].Action != reconcile.ActionDelete || len(steps[0].Destroys) != 1 || !strings.Contains(steps[0].Destroys[0], "cluster shop-k8s") {
			r.t.Fatalf("%v", steps)
		}
		if _, err := p.Way(r.t.Context(), clusterID); err != nil {
			r.t.Errorf("what is in it could not be removed: %v", err)
		}
		r.occupants = []string{"staging of shop (namespace shop-staging)"}
		r.Blocked(p, remove(r.request()), "others are in it: staging of shop")
		r.occupants = nil
		_, err := r.Round(p, remove(r.request()))
		r.Must(err)
		if _, err := r.Somebody.AddOn(r.t.Context(), name, api.AddOnKubernetes); api.KindOf(err) != api.NotFound {
			r.t.Errorf("it is still there: %v", err)
		}
		if _, err := p.Way(r.t.Context(), clusterID); reconcile.KindOf(err) != reconcile.Invalid {
			r.t.Errorf("it is gone for good, and: %v", err)
		}
	})
}

// A cluster that somebody has deleted is gone for good, with what was in it,
// also when another one has its name: that one is nobody's to remove.
func TestRemovalOfOneThatWasReplaced(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.fks()
		r.Converge(p, r.request())
		r.Must(r.Somebody.DeleteAddOn(r.t.Context(), r.live().ID))
		another := r.Make(name)
		time.Sleep(10 * time.Minute)
		o, steps := r.Plan(p, remove(r.request()))
		if !o.Exists || len(steps) != 1 || steps[0].Action != reconcile.ActionForget || steps[0].Deletes != 0 {
			r.t.Fatalf("nobody lets go of it: %t, %v", o.Exists, steps)
		}
		if _, err := p.Way(r.t.Context(), clusterID); !errors.Is(err, reconcile.ErrGone) {
			r.t.Errorf("it is gone for good, and: %v", err)
		}
		_, err := r.Round(p, remove(r.request()))
		r.Must(err)
		if now := r.live(); now.ID != another.ID {
			r.t.Errorf("%+v", now)
		}
		if o, steps := r.Plan(p, remove(r.request())); o.Exists || len(steps) != 0 {
			r.t.Errorf("it was let go of: %t, %v", o.Exists, steps)
		}
	})
}

// The app of a cluster is told where it is the only one, and not guessed where
// there are two.
func TestApp(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.fks()
		if o := r.Converge(p, r.request()); o.Outputs[forge.OutputApp].Value != "" {
			r.t.Errorf("of two clusters: %q", o.Outputs[forge.OutputApp].Value)
		}
		w := p.ways[clusterID]
		if !w.unanswered.IsZero() {
			r.t.Error("of two clusters: the one itself was asked, which nobody has opened")
		}
		watching, stop := context.WithCancel(r.t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Watch(watching, func(reconcile.Event) {}) }()
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		asked := w.unanswered
		w.unanswered = time.Time{}
		w.mu.Unlock()
		if stop(); <-ended != nil || asked.IsZero() {
			r.t.Error("of two clusters: a daemon that has just begun does not ask the one itself")
		}
		w.tokens.value, w.tokens.minted, w.tokens.life, w.tokens.opens = secret.New([]byte("t")), time.Now(), time.Hour, true
		if r.Converge(p, r.request()); w.unanswered.IsZero() {
			r.t.Error("of two clusters: the one itself was not asked")
		}
		theirs, err := r.Somebody.AddOn(r.t.Context(), "theirs", api.AddOnKubernetes)
		r.Must(err)
		r.Must(r.Somebody.DeleteAddOn(r.t.Context(), theirs.ID))
		time.Sleep(10 * time.Minute)
		o := r.Converge(p, r.request())
		app, err := r.Somebody.App(r.t.Context(), o.Outputs[forge.OutputApp].Value)
		if err != nil || !strings.HasPrefix(app.Name, "fks-default-") {
			r.t.Errorf("%+v, %v", app, err)
		}
		r.MakeTheirs()
	})
}
