package flytest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/reconcile"
)

// Forged is forged at work in a place, one process after another, with the test
// as its engine.
type Forged struct {
	*Place
	Process *fly.Accounts       // the one that works now; nil: none yet
	Way     func() *http.Client // of forged to Fly
	Secrets []string            // must be in no text, as the token must not

	t *testing.T
}

// NewForged makes a place, and nobody at work in it.
func NewForged(t *testing.T, o flyemulator.Options) *Forged {
	t.Helper()
	f := &Forged{Place: New(t, o), t: t}
	f.Way = f.HTTP
	return f
}

// Must fails the test with an error.
func (f *Forged) Must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// Accounts begins a process of forged, when the one before has ended.
func (f *Forged) Accounts() *fly.Accounts {
	if f.Process != nil {
		f.Process.Close()
		time.Sleep(5 * time.Second) // a process takes a moment to begin
	}
	f.Process = fly.NewAccounts(fly.Options{
		Instance: Instance, Resolver: f.Resolver(), Endpoints: Endpoints(), HTTP: f.Way(), Logger: f.Logger(),
	})
	f.t.Cleanup(f.Process.Close)
	return f.Process
}

// Plan is what a provider sees and would do.
func (f *Forged) Plan(p reconcile.Provider, q reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	f.t.Helper()
	o, err := p.Observe(f.t.Context(), q)
	f.Must(err)
	steps, err := p.Plan(f.t.Context(), q, o)
	f.Must(err)
	b, err := json.Marshal(steps)
	f.Must(err)
	f.Silent(string(b), fmt.Sprint(steps), fmt.Sprintf("%+v %+v %+v", o.Health, o.Notices, o.Outputs))
	return o, steps
}

// Blocked is the only step that is planned: it is not done, and says why.
func (f *Forged) Blocked(p reconcile.Provider, q reconcile.Request, want string) reconcile.Step {
	f.t.Helper()
	_, steps := f.Plan(p, q)
	if len(steps) != 1 || steps[0].Blocked == "" || !strings.Contains(steps[0].Blocked, want) {
		f.t.Fatalf("planned %v, want one that is blocked: %s", steps, want)
	}
	if _, err := p.Apply(f.t.Context(), q, steps[0]); reconcile.KindOf(err) != reconcile.Invalid {
		f.t.Errorf("a blocked step was applied: %v", err)
	}
	return steps[0]
}

// Round is a cycle: the first error ends it.
func (f *Forged) Round(p reconcile.Provider, q reconcile.Request) (done int, err error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Minute)
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
			f.Silent(err.Error())
			return done, fmt.Errorf("%s: %w", s, err)
		}
		done++
	}
	return done, nil
}

// Converge goes on until nothing is to be done and all is ready, as an engine
// would: after an error it waits, and begins again.
func (f *Forged) Converge(p reconcile.Provider, q reconcile.Request) reconcile.Observed {
	f.t.Helper()
	var last error
	for range 120 {
		done, err := f.Round(p, q)
		if last = err; err == nil {
			o, steps := f.Plan(p, q)
			steps = slices.DeleteFunc(steps, func(s reconcile.Step) bool { return s.Blocked != "" })
			if done == 0 && len(steps) == 0 && (o.Health.Status == reconcile.Ready || q.Remove) {
				return o
			}
		}
		time.Sleep(15 * time.Second)
	}
	o, steps := f.Plan(p, q)
	f.t.Fatalf("there is no end to it: %v %+v %v", steps, o.Health, last)
	return o
}

// Silent fails the test when a secret is in a text.
func (f *Forged) Silent(texts ...string) {
	f.t.Helper()
	for _, text := range texts {
		for _, s := range append(slices.Clone(f.Secrets), flyemulator.DefaultToken) {
			if strings.Contains(text, s) {
				f.t.Errorf("a secret is in: %s", text)
			}
		}
	}
}
