package helm

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// hazard is a release of a chart of somebody else, in a directory.
type hazard struct {
	*rig
	dir      string
	chart    *forge.ChartSource // nil: what is in dir
	recreate string             // policy
	memory   uint64             // of templates; 0: as usual
	writes   atomic.Int64

	meanwhile func(cycle int) // what others do in quiet cycles
}

// newHazard makes a chart of a directory and more files. GROUP in them becomes
// an API group of this test's own, NAMESPACE its namespace.
func newHazard(t *testing.T, chart string, more map[string]string) *hazard {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	h := &hazard{
		rig: &rig{t: t, env: env, target: env.Target(), values: map[string]any{}, mode: forge.ModeApply},
		dir: filepath.Join(t.TempDir(), "chart"),
	}
	put := func(name, text string) {
		t.Helper()
		name = filepath.Join(h.dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		text = strings.NewReplacer("GROUP", env.Namespace+".example.com", "NAMESPACE", env.Namespace).Replace(text)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if chart != "" {
		from := os.DirFS(filepath.Join("testdata/hazards", chart))
		if err := os.CopyFS(h.dir, from); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(h.dir, func(name string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			at, err := filepath.Rel(h.dir, name)
			put(at, string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range more {
		put(name, text)
	}
	h.begin()
	t.Cleanup(h.end)
	return h
}

// begin makes a provider that knows nothing yet, as after a start of forged.
func (h *hazard) begin() {
	h.clusters = kubernetes.NewClusters(kubernetes.Options{
		Instance: h.env.Instance,
		OnRequest: func(_ forge.Target, verb string, _ int) {
			switch verb {
			case "WATCH":
				return
			case "GET", "LIST":
			default:
				h.writes.Add(1)
			}
			h.requests.Add(1)
		},
	})
	source := chartsource.New(chartsource.Options{})
	templates := render.NewChild(apart.Bounds{Memory: h.memory}, templatesCommand)
	h.t.Cleanup(templates.Close)
	h.p = New(Options{
		Clusters: h.clusters, Charts: source, Logger: slog.New(slog.DiscardHandler),
		Apart: templates,
	})
	h.events = make(chan reconcile.Event, 10_000)
	ctx, cancel := context.WithCancel(context.Background())
	clusters, p, events, ended := h.clusters, h.p, h.events, make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Watch(ctx, func(e reconcile.Event) { events <- e })
	}()
	h.t.Cleanup(func() { cancel(); clusters.Close(); <-ended; source.Close() })
}

func (h *hazard) end() { h.clusters.Close() }

func (h *hazard) request() reconcile.Request {
	req := h.rig.request()
	spec := forge.ReleaseSpec{
		Name: releaseName, Namespace: h.env.Namespace, Values: h.values,
		Source: &forge.ChartSource{Kind: forge.ChartPath, Path: h.dir},
	}
	if h.chart != nil {
		source := *h.chart
		spec.Source = &source
	}
	req.Resource.Spec = spec
	req.Policy.Interval, req.Policy.Recreate = 2*time.Minute, h.recreate
	return req
}

// settle passes until there is nothing left to do, and returns all steps.
func (h *hazard) settle() []reconcile.Step {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Minute)
	defer cancel()
	var all []reconcile.Step
	quiet := 0
	for quiet < 3 {
		steps, err := h.pass(ctx, h.request())
		if err != nil && reconcile.KindOf(err) != reconcile.Stale {
			h.t.Fatalf("pass: %v", err)
		}
		for _, s := range steps {
			if s.Blocked != "" {
				h.t.Fatalf("blocked: %v", s)
			}
		}
		if all = append(all, steps...); len(all) > 20 {
			h.t.Fatalf("does not come to rest: %v", all)
		}
		if quiet++; len(steps) > 0 || err != nil {
			quiet = 0
		}
	}
	return all
}

// quiet goes through cycles, while everything else in the cluster does what it
// does, and nothing must come of them.
func (h *hazard) quiet(cycles int) {
	h.t.Helper()
	history := h.history()
	revisions := h.rollouts()
	// What comes of the last action is still on its way to the watches, and what
	// is written down of it follows within seconds.
	deadline := time.After(time.Minute)
	written := h.writes.Load()
	for still := 0; still < 30; still++ {
		select {
		case <-h.events:
			still = 0
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			h.t.Fatal("the cluster does not come to rest")
		}
		if now := h.writes.Load(); now != written {
			written, still = now, 0
		}
		if steps, err := h.pass(h.t.Context(), h.request()); err != nil || len(steps) > 0 {
			h.t.Fatalf("before the cycles: %v, %v", steps, err)
		}
	}
	writes, requests := h.writes.Load(), h.requests.Load()
	for i := range cycles {
		if h.meanwhile != nil {
			h.meanwhile(i)
		}
		steps, err := h.pass(h.t.Context(), h.request())
		if err != nil || len(steps) > 0 {
			h.t.Fatalf("cycle %d: %v, %v", i, steps, err)
		}
		select {
		case <-h.events:
		case <-time.After(10 * time.Millisecond):
		}
	}
	if n := h.writes.Load() - writes; n != 0 {
		h.t.Errorf("%d writes in %d cycles", n, cycles)
	}
	// Why something that scales is not ready yet, its pods are asked.
	if n := h.requests.Load() - requests; n != 0 && h.meanwhile == nil {
		h.t.Errorf("%d requests in %d cycles", n, cycles)
	}
	if now := h.history(); now != history {
		h.t.Errorf("history %q, and it was %q", now, history)
	}
	if now := h.rollouts(); now != revisions {
		h.t.Errorf("pods were rolled: %s, and it was %s", now, revisions)
	}
}

// rollouts says which pods there are to be of each workload: how often those of
// a Deployment were replaced, what those of a StatefulSet are made of, and which
// Jobs have run.
func (h *hazard) rollouts() string {
	h.t.Helper()
	var out []string
	deployments, err := h.env.Client.AppsV1().Deployments(h.env.Namespace).List(h.t.Context(), metav1.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, d := range deployments.Items {
		out = append(out, d.Name+":"+d.Annotations["deployment.kubernetes.io/revision"])
	}
	sets, err := h.env.Client.AppsV1().StatefulSets(h.env.Namespace).List(h.t.Context(), metav1.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range sets.Items {
		out = append(out, s.Name+":"+s.Status.UpdateRevision)
	}
	jobs, err := h.env.Client.BatchV1().Jobs(h.env.Namespace).List(h.t.Context(), metav1.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, j := range jobs.Items {
		if len(j.OwnerReferences) == 0 {
			out = append(out, j.Name+":"+string(j.UID))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// Charts that render otherwise each time, that say things twice or in odd
// forms, and that leave fields to others, converge and stay quiet; after a
// restart too, and after a change of their values.
func TestHazardsStayQuiet(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"storefront": {"config": "changed: true\n"},
		"admission":  {"changed": true},
		"operator":   {"changed": true},
		"seasons":    {"changed": true},
		"umbrella":   {"tags": map[string]any{"observability": true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHazard(t, name, nil)
			if steps := h.settle(); len(steps) == 0 || steps[0].Action != reconcile.ActionCreate {
				t.Fatalf("steps %v", steps)
			}
			h.quiet(100)
			h.end()
			h.begin()
			if steps := h.settle(); len(steps) > 0 {
				t.Errorf("after a restart: %v", steps)
			}
			h.quiet(100)
			// A Job cannot be changed, so whoever changes one says what that may cost.
			h.values, h.recreate = values, "stateless"
			if steps := h.settle(); len(steps) != 1 || !steps[0].Rollout() {
				t.Errorf("after a change of its values: %v", steps)
			}
			h.quiet(20)
		})
	}
}
