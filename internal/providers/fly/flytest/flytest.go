// Package flytest gives the tests of everything that works on Fly a place to
// work in: an emulator in this process, a line to it that can be cut, somebody
// else who changes things there, and a bystander who must not be harmed. It is
// for bubbles of testing/synctest, in which nothing of that takes time.
package flytest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/secret"
)

// Names of the place.
const (
	Org         = "acme"
	Instance    = "shop"
	Environment = "prod"
	App         = "shop-prod"
	Inventory   = "forged-shop-prod"
	Bystander   = "bystander"
	Image       = "registry.fly.io/shop:v1"

	tokenVariable = "FLY_TOKEN"
)

// Patience is how long what the listings have to show may take.
const Patience = 20 * time.Minute

// Place is one of its own for a test.
type Place struct {
	*flyemulator.Emulator
	Line     *Line
	Somebody *api.Client // who else works there

	t      *testing.T
	before string // the bystander, as it was

	mu    sync.Mutex
	token string
}

// New makes a place. It ends with the test, which must be in a bubble.
func New(t *testing.T, o flyemulator.Options) *Place {
	t.Helper()
	o.RateLimits = true
	if o.Orgs == nil {
		o.Orgs = []flyemulator.Org{{Slug: Org}}
	}
	if o.Tokens == nil {
		o.Tokens = []flyemulator.Token{{Value: flyemulator.DefaultToken, Kind: flyemulator.OrgToken, Org: Org}}
	}
	e := flyemulator.New(o)
	t.Cleanup(e.Close)
	p := &Place{Emulator: e, Line: NewLine(e), t: t, token: flyemulator.DefaultToken}
	p.Somebody = p.ClientOf(flyemulator.DefaultToken)
	p.settle()
	return p
}

// ClientOf is a client of its own, past the line.
func (p *Place) ClientOf(token string) *api.Client {
	p.t.Helper()
	c, err := api.New(api.Options{
		Endpoints: Endpoints(), Token: secret.New([]byte(token)), HTTP: &http.Client{Transport: p.Transport()},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// Endpoints are any: the transport goes to the emulator whatever they are.
func Endpoints() api.Endpoints {
	const at = "https://fly.test"
	return api.Endpoints{Machines: at, GraphQL: at, UI: at, Prometheus: at}
}

// SetToken has the token read anew be another one.
func (p *Place) SetToken(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token = token
}

// Resolver knows the token.
func (p *Place) Resolver() *secret.Resolver {
	return &secret.Resolver{Dir: p.t.TempDir(), LookupEnv: func(name string) (string, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.token, name == tokenVariable
	}}
}

// HTTP goes through the line.
func (p *Place) HTTP() *http.Client { return &http.Client{Transport: p.Line} }

// Account is who the tests act as.
func (p *Place) Account() forge.FlyAccount {
	return forge.FlyAccount{Org: Org, Token: forge.SecretRef{Env: tokenVariable}, Inventory: Inventory}
}

// Logger shows what is logged when the test fails.
func (p *Place) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// MakeApp makes an app as somebody else.
func (p *Place) MakeApp(name string) {
	p.t.Helper()
	if _, err := p.Somebody.CreateApp(p.t.Context(), api.CreateApp{Name: name, Org: Org}); err != nil {
		p.t.Fatal(err)
	}
}

// MakeMachine makes a machine as somebody else.
func (p *Place) MakeMachine(app string, metadata map[string]string) api.Machine {
	p.t.Helper()
	m, err := p.Somebody.CreateMachine(p.t.Context(), app, api.CreateMachine{Region: "fra", Config: api.MachineConfig{Image: Image, Metadata: metadata}})
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// settle moves the bystander in: an app of somebody else's in the same
// organization, and one of a cluster of Fly Kubernetes.
func (p *Place) settle() {
	p.t.Helper()
	ctx := p.t.Context()
	for _, app := range []string{Bystander, "fks-" + Bystander} {
		p.MakeApp(app)
		p.MakeMachine(app, map[string]string{"owner": "somebody"})
		value := secret.New([]byte("theirs"))
		if _, err := p.Somebody.SetSecrets(ctx, app, map[string]*secret.Value{"THEIRS": &value}); err != nil {
			p.t.Fatal(err)
		}
		if _, err := p.Somebody.CreateVolume(ctx, app, api.CreateVolume{Name: "theirs", Region: "fra", SizeGB: 1}); err != nil {
			p.t.Fatal(err)
		}
		if _, err := p.Somebody.AssignIP(ctx, app, api.AssignIP{Type: "v6"}); err != nil {
			p.t.Fatal(err)
		}
	}
	time.Sleep(time.Minute) // until all has come to rest
	p.before = p.bystander(p.t)
}

// bystander is all that is known of it.
func (p *Place) bystander(t *testing.T) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var all []any
	note := func(of any, err error) {
		if err != nil {
			t.Fatalf("the bystander cannot be read: %v", err)
		}
		all = append(all, of)
	}
	for _, app := range []string{Bystander, "fks-" + Bystander} {
		a, err := p.Somebody.App(ctx, app)
		note(a, err)
		machines, err := p.Somebody.Machines(ctx, app, api.MachinesQuery{})
		for _, m := range machines {
			note([]any{m.ID, m.InstanceID, m.State, m.Config}, err)
		}
		volumes, err := p.Somebody.Volumes(ctx, app)
		note(volumes, err)
		secrets, err := p.Somebody.Secrets(ctx, app, 0)
		note(secrets, err)
		ips, err := p.Somebody.IPs(ctx, app)
		note(ips, err)
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Unharmed fails the test if the bystander was changed.
func (p *Place) Unharmed(t *testing.T) {
	t.Helper()
	p.MendAll()
	if now := p.bystander(t); now != p.before {
		t.Errorf("somebody else's app was changed:\nwas %s\nis  %s", p.before, now)
	}
}

// Harness completes the harness of a conformance suite with all that hangs on
// the place, but what is the test's own to say: Resource, Changed, Start, Edit,
// Delete.
func (p *Place) Harness(h providertest.Harness) providertest.Harness {
	if h.Patience == 0 {
		h.Patience = Patience
	}
	h.Attempt = 2 * time.Minute // two writes of the inventory take seconds
	h.Secrets = append(slices.Clone(h.Secrets), flyemulator.DefaultToken)
	h.BreakReads = func(*testing.T) func() { return p.Line.BreakReads() }
	h.CutAfter = func(_ *testing.T, n int) func() { return p.Line.CutAfter(n) }
	h.Writes = p.Line.Writes
	h.Bystander = p.Unharmed
	return h
}

// Line is what requests go through.
type Line struct {
	next http.RoundTripper

	mu       sync.Mutex
	writes   int
	requests int
	cutAfter int  // changing requests that still pass; -1: all
	cut      bool // nothing passes
	noReads  bool
}

// NewLine makes a line to an emulator.
func NewLine(e *flyemulator.Emulator) *Line { return &Line{next: e.Transport(), cutAfter: -1} }

// RoundTrip implements http.RoundTripper.
func (l *Line) RoundTrip(r *http.Request) (*http.Response, error) {
	changes := api.Changes(r)
	l.mu.Lock()
	l.requests++
	switch {
	case l.cut, l.noReads && !changes:
		l.mu.Unlock()
		return nil, syscall.ECONNRESET
	case changes && l.cutAfter == 0:
		l.cut = true
		l.mu.Unlock()
		return nil, syscall.ECONNRESET
	case changes:
		l.writes++
		if l.cutAfter > 0 {
			l.cutAfter--
		}
	}
	l.mu.Unlock()
	return l.next.RoundTrip(r)
}

// BreakReads has every request fail that changes nothing.
func (l *Line) BreakReads() (mend func()) {
	l.set(func() { l.noReads = true })
	return func() { l.set(func() { l.noReads = false }) }
}

// CutAfter lets n more changing requests through, and then nothing.
func (l *Line) CutAfter(n int) (mend func()) {
	l.set(func() { l.cutAfter = n })
	return func() { l.set(func() { l.cutAfter, l.cut = -1, false }) }
}

// Cut has every request fail.
func (l *Line) Cut() (mend func()) {
	l.set(func() { l.cut = true })
	return func() { l.set(func() { l.cut = false }) }
}

func (l *Line) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// Writes counts the changing requests that passed.
func (l *Line) Writes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes
}

// Requests counts all of them.
func (l *Line) Requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests
}

// HTTPOver goes through a line of its own.
func (*Place) HTTPOver(l *Line) *http.Client { return &http.Client{Transport: l} }
