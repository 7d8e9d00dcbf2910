package reconcile_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// policy is what the tests use unless they say otherwise: no interval, so that
// nothing happens without a reason.
var policy = forge.Policy{Mode: forge.ModeApply, Timeout: 10 * time.Minute, Prune: true, MaxDelete: 5}

func id(name string) forge.ID {
	return forge.ID{Environment: "local", Kind: forge.KindRelease, Name: name}
}

// res is a resource of environment local with one object for every pair.
func res(name string, objects map[string]any, needs ...string) forge.Resource {
	r := forge.Resource{ID: id(name), Spec: forge.ReleaseSpec{Name: name, Values: objects}}
	for _, n := range needs {
		r.Needs = append(r.Needs, id(n))
	}
	return r
}

// fed is a resource whose object "db" is the url of what it needs.
func fed(name, from, output string) forge.Resource {
	r := res(name, map[string]any{"pod": "1"}, from)
	spec := r.Spec.(forge.ReleaseSpec)
	spec.Inputs = []forge.Input{{Path: []string{"db"}, From: id(from), Output: output}}
	r.Spec = spec
	return r
}

func gen(n int, p forge.Policy, rs ...forge.Resource) reconcile.Generation {
	return reconcile.Generation{Number: n, Hash: fmt.Sprintf("hash-%d", n), Environments: []reconcile.Environment{
		{Name: "local", Platform: forge.PlatformMinikube, Target: "minikube", Policy: p, Resources: rs},
	}}
}

// witness is an Observer that counts, and a place for log lines.
type witness struct {
	mu       sync.Mutex
	outcomes map[string]int
	drifts   []reconcile.Reason
	healed   []time.Duration
	stepped  map[reconcile.Action]int
	retried  map[reconcile.ErrorKind]int
	fights   []string
	panics   int
	log      bytes.Buffer
}

func (w *witness) Reconciled(_ forge.ID, outcome string, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcomes[outcome]++
}

func (w *witness) Drift(_ forge.ID, r reconcile.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drifts = append(w.drifts, r)
}

func (w *witness) Healed(_ forge.ID, _ reconcile.Reason, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.healed = append(w.healed, d)
}

func (w *witness) Stepped(_ forge.ID, action reconcile.Action) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stepped[action]++
}

func (w *witness) count(action reconcile.Action) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stepped[action]
}

func (w *witness) Retried(_ forge.ID, k reconcile.ErrorKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retried[k]++
}

func (w *witness) Fight(_ forge.ID, object, writer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fights = append(w.fights, object+" "+writer)
}

func (w *witness) Panicked(forge.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.panics++
}

func (w *witness) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *witness) lines() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func newWitness() *witness {
	return &witness{outcomes: map[string]int{}, stepped: map[reconcile.Action]int{}, retried: map[reconcile.ErrorKind]int{}}
}

// forgeYard is a world with an engine on it.
type forgeYard struct {
	*world.World
	t      *testing.T
	engine *reconcile.Engine
	saw    *witness
}

func newYard(t *testing.T) *forgeYard {
	w, saw := world.New(), newWitness()
	return &forgeYard{World: w, t: t, saw: saw, engine: engineOn(w, saw)}
}

func engineOn(w *world.World, saw *witness) *reconcile.Engine {
	return reconcile.New(reconcile.Options{
		Providers: map[string]reconcile.Provider{forge.KindRelease: w, forge.KindNamespace: w},
		Logger:    slog.New(slog.NewTextHandler(saw, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Observer:  saw,
	})
}

// run runs f in a bubble of virtual time with the engine running.
func run(t *testing.T, f func(y *forgeYard)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		synctest.Wait()
		f(y)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if wrong := y.Wrong(); wrong != "" {
			t.Error(wrong)
		}
	})
}

func (y *forgeYard) set(g reconcile.Generation) {
	y.t.Helper()
	if err := y.engine.Set(g); err != nil {
		y.t.Fatal(err)
	}
	synctest.Wait()
}

// pass lets virtual time pass.
func (y *forgeYard) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (y *forgeYard) status(name string) *reconcile.ResourceStatus {
	y.t.Helper()
	for _, env := range y.engine.Status().Environments {
		i := slices.IndexFunc(env.Resources, func(r *reconcile.ResourceStatus) bool { return r.ID.Name == name })
		if i >= 0 {
			return env.Resources[i]
		}
	}
	y.t.Fatalf("%s is not in the status", name)
	return nil
}

func (y *forgeYard) wantState(name string, want reconcile.State) {
	y.t.Helper()
	if s := y.status(name); s.State != want {
		y.t.Errorf("%s is %s (%s), want %s", name, s.State, s.Message, want)
	}
}

func (y *forgeYard) wantCount(what string, want int) {
	y.t.Helper()
	if got := y.Count(what); got != want {
		y.t.Errorf("%s happened %d times, want %d", what, got, want)
	}
}

func applied(calls []world.Call) (names []string) {
	for _, c := range calls {
		names = append(names, c.ID.Name)
	}
	return names
}
