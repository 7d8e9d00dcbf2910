package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/evaluate"
	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// flyForge is a directory with a forge and what it refers to.
type flyForge struct{ dir string }

// newFlyForge makes one. What is loaded from it is loaded outside of bubbles.
func newFlyForge(t *testing.T) *flyForge {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	f := &flyForge{t.TempDir()}
	f.write(t, "token", flyemulator.DefaultToken)
	chain, key := ownPair(t, "api.acme.io")
	f.write(t, "own.pem", chain)
	f.write(t, "own.key", key)
	return f
}

func (f *flyForge) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// load is what a forge asks for, as forged run finds it out.
func (f *flyForge) load(t *testing.T, text string) *loaded {
	t.Helper()
	f.write(t, "forge.cue", text)
	src, err := readFile(t.Context(), filepath.Join(f.dir, "forge.cue"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := load(t.Context(), &evaluate.Evaluator{Load: judge}, src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// onFly is a place on Fly in a bubble, and all of forged that works there.
type onFly struct {
	*flytest.Place
	t     *testing.T
	forge *flyForge
	guest *flyPostgres // nil: none

	// Several forged do not know of each other's requests: Fly may refuse some
	// for their number, and they wait.
	crowded bool
}

// onFlyInBubble runs a test on a place of its own, in which time costs nothing.
// Nothing of somebody else's is touched in any of them, and no request is one
// too many.
func onFlyInBubble(t *testing.T, f *flyForge, o flyemulator.Options, test func(p *onFly)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &onFly{Place: flytest.New(t, o), t: t, forge: f}
		var err error
		p.Somebody, err = api.New(api.Options{ // no limit is shared with whoever looks
			Endpoints: flytest.Endpoints(), Token: secret.New([]byte(flyemulator.DefaultToken)), HTTP: &http.Client{Transport: flytest.ByHand(p.Emulator)},
		})
		p.must(err)
		if g, ok := o.Guest.(*flyPostgres); ok {
			p.guest = g
			g.enter(p)
		}
		test(p)
		p.Unharmed(t)
		for _, q := range p.Requests() {
			if q.Status == http.StatusTooManyRequests && !p.crowded {
				t.Errorf("too many requests: %s %s at %s", q.Method, q.Path, q.At)
			}
		}
	})
}

// flyLine is what the requests of one process go through, until it is killed.
type flyLine struct {
	next http.RoundTripper
	last int // the process dies after so many requests that change something; 0: it lives

	mu      sync.Mutex
	changes []string // those that passed
	cut     bool
	dead    chan struct{}
}

// RoundTrip implements http.RoundTripper. What is on its way when the process
// dies gets there; nobody hears the answer.
func (l *flyLine) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	if l.cut {
		l.mu.Unlock()
		return nil, syscall.ECONNRESET
	}
	last := false
	if api.Changes(r) {
		l.changes = append(l.changes, r.Method+" "+r.URL.Path)
		last = len(l.changes) == l.last
		l.cut = l.cut || last
	}
	l.mu.Unlock()
	resp, err := l.next.RoundTrip(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if last {
		close(l.dead)
	}
	if l.cut {
		if resp != nil {
			resp.Body.Close()
		}
		return nil, syscall.ECONNRESET
	}
	return resp, err
}

// sever has every request fail from now on, or not any more.
func (l *flyLine) sever(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
}

// changed are the requests that have changed something since from, but for
// leases, and for questions to DNS and to PostgreSQL.
func (l *flyLine) changed(from int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.changes[from:]), quiet)
}

func quiet(change string) bool {
	return strings.HasSuffix(change, "/lease") || strings.HasSuffix(change, "/check") || strings.HasSuffix(change, "/exec")
}

// lastChange is the number of the last request so far that changed something;
// those of the lease count.
func (l *flyLine) lastChange() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.changes)
	for n > 0 && quiet(l.changes[n-1]) {
		n--
	}
	return n
}

func (l *flyLine) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.changes)
}

// flyProcess is a forged, with the engine and all providers.
type flyProcess struct {
	*world
	*flyLine
	p      *onFly
	end    func()
	wanted map[string]bool // resources that forge.cue asks for
	told   *strings.Builder
	toldM  sync.Mutex
}

// begin starts a process. It is killed after so many changing requests; 0: it
// lives until the test ends, or it is stopped.
func (p *onFly) begin(l *loaded, last int) *flyProcess {
	p.t.Helper()
	d := &flyProcess{p: p, flyLine: &flyLine{next: p.Transport(), last: last, dead: make(chan struct{})}, told: &strings.Builder{}}
	w, err := newWorld(worldOptions{
		dir: p.forge.dir, instance: flytest.Instance, grace: 2 * time.Second,
		log:     slog.New(slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelDebug})),
		flyHTTP: &http.Client{Transport: d.flyLine},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	d.world = w
	d.set(l, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.engine.Run(ctx) }()
	d.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Error(err)
		}
		w.close()
		d.toldM.Lock()
		defer d.toldM.Unlock()
		if strings.Contains(d.told.String(), flyemulator.DefaultToken) {
			p.t.Error("the token is in the log")
		}
		if p.t.Failed() {
			p.t.Logf("a process said:\n%s", d.told)
		}
	})
	p.t.Cleanup(d.end)
	return d
}

// Write takes what is logged.
func (d *flyProcess) Write(b []byte) (int, error) {
	d.toldM.Lock()
	defer d.toldM.Unlock()
	return d.told.Write(b)
}

// says tells whether something was logged.
func (d *flyProcess) says(text string) bool {
	d.toldM.Lock()
	defer d.toldM.Unlock()
	return strings.Contains(d.told.String(), text)
}

// set has the process keep another forge.
func (d *flyProcess) set(l *loaded, number int) {
	d.p.t.Helper()
	g := l.generation
	g.Number = number
	d.wanted = map[string]bool{}
	for _, env := range g.Environments {
		for _, r := range env.Resources {
			d.wanted[r.ID.String()] = true
		}
	}
	if err := d.engine.Set(g); err != nil {
		d.p.t.Fatal(err)
	}
}

// states are those of the resources of all environments.
func (d *flyProcess) states() map[string]*reconcile.ResourceStatus {
	all := map[string]*reconcile.ResourceStatus{}
	for _, env := range d.engine.Status().Environments {
		for _, r := range env.Resources {
			all[r.ID.String()] = r
		}
	}
	return all
}

// settle waits until all is as forge.cue says, and was so for a while. Somebody
// is there who allows what may destroy data, when asked.
func (d *flyProcess) settle() {
	d.p.t.Helper()
	calm := 0
	for range 3600 {
		time.Sleep(2 * time.Second)
		status := d.engine.Status()
		calm++
		if status.State != reconcile.StateReady || status.Generation == 0 {
			calm = 0
		}
		for id, r := range d.states() {
			if !d.wanted[id] {
				calm = 0 // it is still to go
			}
			for _, s := range r.Steps {
				if s.Approve != "" {
					_ = d.engine.Approve(s.Approve) // it may be approved already
				}
			}
		}
		if calm > 60 {
			return
		}
	}
	for id, r := range d.states() {
		if r.State != reconcile.StateReady {
			d.p.t.Errorf("%s is %s: %s %+v %+v", id, r.State, r.Message, r.Error, r.Steps)
		}
	}
	d.p.t.Fatal("it does not settle")
}

// rests fails the test if a process that has settled changes anything.
func (d *flyProcess) rests() {
	d.p.t.Helper()
	before := d.count()
	time.Sleep(15 * time.Minute)
	if done := d.changed(before); len(done) > 0 {
		d.p.t.Errorf("it is not at rest: %q", done)
	}
}
