package helm

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

var everyKill = flag.Bool("every-kill", false, "kill after every request, not after a few of them")

// sampled is how many kills there are of each kind without -every-kill.
const sampled = 3

// behindProxy makes a rig that reaches the cluster through a proxy.
func behindProxy(t *testing.T) (*rig, *faultproxy.Proxy) {
	t.Helper()
	r := newRig(t)
	proxy := faultproxy.New(t, r.env.Config)
	r.stop()
	r.target = forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
	r.start()
	return r, proxy
}

// killing is an action to be cut: what comes before it, and what it is.
type killing struct {
	name   string
	before func(*rig)
	do     func(*rig)
	remove bool
}

var killings = []killing{
	{
		name:   "install",
		before: func(*rig) {},
		do:     func(r *rig) { r.values = two },
	},
	{
		name:   "upgrade",
		before: func(r *rig) { r.values = one; r.converge() },
		do:     func(r *rig) { r.values = two },
	},
	{
		name: "take back what helm did",
		before: func(r *rig) {
			r.values = two
			r.converge()
			r.helmUpgrade(map[string]any{"level": "theirs", "extra": true})
		},
		do: func(r *rig) { r.helmActed() },
	},
	{
		name: "go back",
		before: func(r *rig) {
			r.policy.Rollback = true
			r.values = two
			r.converge()
			r.untilReady()
			r.values = map[string]any{"level": "bad", "nowhere": true, "extra": true, "extraEnv": map[string]any{"Y": "1"}}
			r.converge()
		},
		do: func(r *rig) { r.overdue() },
	},
	{
		name:   "uninstall",
		before: func(r *rig) { r.values = one; r.converge() },
		do:     func(*rig) {},
		remove: true,
	},
}

var (
	one = map[string]any{"level": "one", "extra": true, "keys": map[string]any{"a": "1"}, "extraEnv": map[string]any{"X": "1"}}
	two = map[string]any{"level": "two", "keys": map[string]any{"b": "2"}}
)

// overdue has waited long enough for the revision that runs.
func (r *rig) overdue() {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	for _, u := range r.p.releases {
		u.mu.Lock()
		u.unready.since = u.unready.since.Add(-time.Hour)
		u.mu.Unlock()
	}
}

// killedHooks are hooks at every event, of objects that tell when they ran.
var killedHooks = map[string]string{"templates/hooks.yaml": hook("ConfigMap", "before", `"pre-install,pre-upgrade,pre-rollback"`) +
	hook("Job", "migrate", `"pre-install,pre-upgrade"`, `"helm.sh/hook-delete-policy": "hook-succeeded"`) +
	hook("ConfigMap", "after", `"post-install,post-upgrade,post-rollback"`, `"helm.sh/hook-weight": "1"`) +
	hook("Job", "tell", `"post-install,post-upgrade"`) +
	hook("ConfigMap", "last", "pre-delete", `"helm.sh/hook-delete-policy": "hook-succeeded"`) + hook("ConfigMap", "end", "post-delete")}

// act goes on until there is nothing left to do.
func (k killing) act(ctx context.Context, r *rig) error {
	for range 12 {
		req := r.request()
		req.Remove = k.remove
		o, err := r.p.Observe(ctx, req)
		if err == nil && k.remove && !o.Exists {
			return nil
		}
		steps, err := r.pass(ctx, req)
		switch {
		case err != nil && reconcile.KindOf(err) != reconcile.Stale:
			return err
		case err == nil && !slices.ContainsFunc(steps, func(s reconcile.Step) bool { return s.Blocked == "" }):
			return nil
		}
	}
	return errors.New("it does not come to rest")
}

// outcome is all there is in the end.
func (k killing) outcome(r *rig) string {
	r.t.Helper()
	if !k.remove {
		return r.live() + r.hooked()
	}
	var left []string
	o := metav1.ListOptions{LabelSelector: "forged.dev/instance=" + r.env.Instance}
	maps, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range maps.Items {
		if m.Name != "kube-root-ca.crt" {
			left = append(left, m.Name)
		}
	}
	deployments, err := r.env.Client.AppsV1().Deployments(r.env.Namespace).List(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	secrets, err := r.env.Client.CoreV1().Secrets(r.env.Namespace).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(left)
	return fmt.Sprintf("%v, %d Deployments, %d Secrets", left, len(deployments.Items), len(secrets.Items))
}

// hooked says which hooks are there, without the number of the revision: a cut
// action takes one more.
func (r *rig) hooked() string {
	r.t.Helper()
	var names []string
	for _, one := range strings.Split(r.ran("ConfigMap"), ", ") {
		name, _, _ := strings.Cut(one, " ")
		names = append(names, name)
	}
	return strings.Join(names, " ") + " / " + r.ran("Job")
}

// revisions is how many records there are.
func (r *rig) revisions() int {
	r.t.Helper()
	revs, err := action.NewHistory(r.helm()).Run(releaseName)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		r.t.Fatal(err)
	}
	return len(revs)
}

// Whatever forged was doing to a release when it was killed, and after
// whichever request: the next start ends as if nothing had happened, without
// anybody's help, and without a heap of revisions.
func TestKilledAfterEveryRequest(t *testing.T) {
	for _, k := range killings {
		t.Run(k.name, func(t *testing.T) {
			whole, proxy := behindProxy(t)
			whole.with(killedHooks)
			k.before(whole)
			before := proxy.Mutations()
			k.do(whole)
			if err := k.act(t.Context(), whole); err != nil {
				t.Fatal(err)
			}
			limit := proxy.Mutations() - before
			if limit < 5 {
				t.Fatalf("it takes %d mutations: is anything counted?", limit)
			}
			want, revisions := k.outcome(whole), whole.revisions()
			for n := 1; n <= limit; n++ {
				if !*everyKill && limit > sampled && n%((limit+sampled-1)/sampled) != 0 {
					continue
				}
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					t.Parallel()
					r, proxy := behindProxy(t)
					r.with(killedHooks)
					k.before(r)
					dead := proxy.DieAfter(n)
					k.do(r)
					r.killWhile(k, dead, n)
					if err := k.act(t.Context(), r); err != nil {
						t.Fatal(err)
					}
					if got := strings.ReplaceAll(k.outcome(r), r.env.Instance, whole.env.Instance); got != want {
						t.Errorf("after a kill at mutation %d\n%s\nwant\n%s", n, got, want)
					}
					if more := r.revisions() - revisions; more > 1 {
						t.Errorf("after a kill at mutation %d there are %d revisions more", n, more)
					}
				})
			}
		})
	}
}

// killWhile begins an action, and a new process when the old one is dead. That
// one no longer reaches the cluster; it is left behind as a killed one would be.
func (r *rig) killWhile(k killing, dead <-chan struct{}, n int) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	old := &rig{t: r.t, env: r.env, target: r.target, clusters: r.clusters, p: r.p, values: r.values, mode: r.mode, policy: r.policy, more: r.more}
	ended := make(chan error, 1)
	go func() { ended <- k.act(ctx, old) }()
	select {
	case <-dead:
	case err := <-ended:
		select {
		case <-dead:
		case <-time.After(time.Minute):
			r.t.Fatalf("it did not get to mutation %d: %v", n, err)
		}
	}
	killed := r.clusters
	r.t.Cleanup(func() {
		cancel()
		go killed.Close()
	})
	r.target = r.env.Target()
	r.start()
}

// sameInstance is the live state of a release as if it were the other's.
func sameInstance(r, other *rig) string {
	return strings.ReplaceAll(r.live(), r.env.Instance, other.env.Instance)
}
