// Package fly_test measures forged on Fly: its engine and its providers against
// the emulator, in one process and in virtual time. The rate limits are on, and
// things take as long as they do at Fly; only the wall clock does not wait.
//
//	go run ./bench -only fly
//
// runs it in full. As a test of `go test` it is a small one of the same, which
// fails when the figures that do not depend on the machine are missed.
package fly_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/providers/upstash"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

var (
	full    = flag.Bool("full", false, "measure at full size")
	results = flag.String("results", "", "file that a line of JSON is added to for each result")
)

// size is one of two: small by default.
func size(small, large int) int {
	if *full {
		return large
	}
	return small
}

// result is one line of the table of bench.
type result struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Floor  float64 `json:"floor,omitempty"`
	Target string  `json:"target,omitempty"`
	Met    bool    `json:"met"`
	Note   string  `json:"note,omitempty"`
}

func tell(t *testing.T, r result) {
	t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", line)
	if *results == "" {
		return
	}
	f, err := os.OpenFile(*results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

// world is a place on Fly, and a forged at work there.
type world struct {
	*flytest.Place
	t     *testing.T
	meter *meter
	alone bool // there is no other forged, so nobody needs a lease

	engine *reconcile.Engine
	number int
}

// inBubble runs a measurement on a place of its own.
func inBubble(t *testing.T, measure func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := flytest.New(t, flyemulator.Options{Latency: 100 * time.Millisecond})
		w := &world{Place: p, t: t, meter: &meter{next: p.Transport(), calls: calls{}}}
		measure(t, w)
		if n := w.meter.seen()["429"]; n > 0 {
			t.Errorf("%d requests were too many for Fly", n)
		}
		p.Unharmed(t)
	})
}

// forged begins a process: what the one before remembered is forgotten. It ends
// with the test, or with the returned function.
func (w *world) forged() (end func()) {
	w.t.Helper()
	a := fly.NewAccounts(fly.Options{
		Instance: flytest.Instance, Resolver: w.Resolver(), Endpoints: flytest.Endpoints(),
		HTTP: &http.Client{Transport: w.meter}, Logger: slog.New(slog.DiscardHandler), OnRequest: w.meter.answered,
	})
	values := &secret.Resolver{LookupEnv: func(name string) (string, bool) {
		return "for the benchmark only", strings.HasPrefix(name, "BENCH_")
	}}
	var leases reconcile.Leases
	if !w.alone {
		leases = fly.NewLeases(a)
	}
	w.engine = reconcile.New(reconcile.Options{
		Providers: map[string]reconcile.Provider{
			forge.KindFlyApp: fly.NewApps(a), forge.KindFlyIPs: fly.NewIPs(a), forge.KindFlyVolume: fly.NewVolumes(a),
			forge.KindFlySecrets: fly.NewSecrets(a, values), forge.KindFlyCertificate: fly.NewCertificates(a, values),
			forge.KindFlyPostgres: flypostgres.NewManaged(a), forge.KindUpstashRedis: upstash.New(a),
		},
		Leases: leases,
	})
	var once sync.Once
	end = func() { once.Do(a.Close) }
	w.t.Cleanup(end)
	return end
}

// run has the engine hold the environments against the world. It ends with the
// test, or with the returned function.
func (w *world) run(all []reconcile.Environment) (end func()) {
	w.t.Helper()
	closed := w.forged()
	engine := w.engine
	if err := engine.Set(w.generation(all)); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				w.t.Error(err)
			}
			closed()
		})
	}
	w.t.Cleanup(end)
	return end
}

func (w *world) generation(all []reconcile.Environment) reconcile.Generation {
	w.number++
	return reconcile.Generation{Number: w.number, Hash: fmt.Sprint(w.number), Environments: all}
}

// ready waits until everything is, and returns how long that took.
func (w *world) ready(patience time.Duration) time.Duration {
	w.t.Helper()
	began := time.Now()
	for {
		s := w.engine.Status()
		if s.State == reconcile.StateReady {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			for _, e := range s.Environments {
				for _, r := range e.Resources {
					if r.State != reconcile.StateReady {
						w.t.Logf("%s is %s: %s %+v", r.ID, r.State, r.Message, r.Error)
					}
				}
			}
			w.t.Fatalf("not ready within %s", patience)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func host(app string) string { return app + ".acme.test" }

// environment is one of ours: an app and all that belongs to it.
func (w *world) environment(name string) reconcile.Environment {
	app, account := "shop-"+name, w.Account()
	account.Inventory = "forged-" + app
	var all []forge.Resource
	add := func(kind, of string, spec forge.Spec, needs ...forge.ID) forge.ID {
		id := forge.ID{Environment: name, Kind: kind, Name: of}
		all = append(all, forge.Resource{ID: id, Target: forge.Target{Org: flytest.Org}, Needs: needs, Spec: spec})
		return id
	}
	in := add(forge.KindFlyApp, app, forge.FlyAppSpec{Account: account, Name: app})
	ips := add(forge.KindFlyIPs, app, forge.FlyIPsSpec{Account: account, App: app, V4: "shared", V6: true}, in)
	add(forge.KindFlySecrets, "secrets", forge.FlySecretsSpec{Account: account, Apps: []forge.SecretObject{{
		Name: app, Entries: []forge.SecretEntry{{Key: "API_KEY", Ref: &forge.SecretRef{Env: "BENCH_KEY"}}, {Key: "SALT", Ref: &forge.SecretRef{Env: "BENCH_SALT"}}},
	}}}, in)
	add(forge.KindFlyVolume, "app@fra", forge.FlyVolumeSpec{
		Account: account, App: app, Name: "data", Region: "fra", Count: 1, SizeGB: 1,
		Guest: forge.Guest{CPUKind: "shared", CPUs: 1, MemoryMB: 256},
	}, in)
	add(forge.KindFlyCertificate, host(app), forge.FlyCertificateSpec{Account: account, App: app, Hostname: host(app)}, in, ips)
	return w.of(name, all)
}

func (*world) of(name string, all []forge.Resource) reconcile.Environment {
	return reconcile.Environment{
		Name: name, Platform: forge.PlatformFly, Target: flytest.Org, Resources: all, Workers: 16, // as cmd/forged asks for
		Policy: forge.Policy{
			Mode: forge.ModeApply, Prune: true, MaxDelete: 10, DestroyData: "never", Adopt: forge.AdoptMustMatch,
			Interval: 2 * time.Minute, Timeout: 30 * time.Minute,
		},
	}
}

func (w *world) environments(n int) []reconcile.Environment {
	var all []reconcile.Environment
	for i := range n {
		all = append(all, w.environment(fmt.Sprintf("e%03d", i)))
	}
	return all
}

// resourcesOf counts what the environments ask for.
func resourcesOf(all []reconcile.Environment) int {
	n := 0
	for _, e := range all {
		n += len(e.Resources)
	}
	return n
}

// deploy has somebody else make machines in an app, and lead its name there.
func (w *world) deploy(app string, machines int) {
	w.t.Helper()
	for range machines {
		w.MakeMachine(app, map[string]string{"fly_platform_version": "v2", "fly_process_group": "app"})
	}
	list, err := w.Somebody.IPs(w.t.Context(), app)
	if err != nil {
		w.t.Fatal(err)
	}
	at := flyemulator.DNS{SOA: "dns.acme.test"}
	for _, ip := range list {
		if ip.Type() == "v6" {
			at.AAAA = append(at.AAAA, ip.Address)
		} else {
			at.A = append(at.A, ip.Address)
		}
	}
	w.SetDNS(host(app), &at)
}

// strangers are apps of the same organization that forged has nothing to do with.
func (w *world) strangers(n, machines int) {
	w.t.Helper()
	for i := range n {
		app := fmt.Sprintf("other-%03d", i)
		w.MakeApp(app)
		for range machines {
			w.MakeMachine(app, map[string]string{"fly_platform_version": "v2"})
		}
	}
}

// calls counts requests by action, and by status where Fly refused.
type calls map[string]int

func (c calls) since(before calls) calls {
	d := calls{}
	for name, n := range c {
		if n > before[name] {
			d[name] = n - before[name]
		}
	}
	return d
}

// total is that of the actions but some.
func (c calls) total(but ...string) int {
	n := 0
	for name, m := range c {
		if name != "429" && !slices.Contains(but, name) {
			n += m
		}
	}
	return n
}

func (c calls) String() string {
	names := slices.Sorted(maps.Keys(c))
	slices.SortStableFunc(names, func(a, b string) int { return c[b] - c[a] })
	var all []string
	for _, name := range names {
		all = append(all, fmt.Sprintf("%s %d", name, c[name]))
	}
	return strings.Join(all, ", ")
}

// meter is what forged's requests go through: it counts them, and the processor
// time that the emulator takes to answer, which is not forged's.
type meter struct {
	next http.RoundTripper

	mu    sync.Mutex
	calls calls
	cpu   time.Duration
}

// RoundTrip implements http.RoundTripper. The emulator answers on the thread of
// whoever asks.
func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	var res *http.Response
	var err error
	took := onThread(func() { res, err = m.next.RoundTrip(r) })
	m.mu.Lock()
	m.cpu += took
	m.mu.Unlock()
	return res, err
}

func (m *meter) answered(_, action string, status int, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[action]++
	if status == http.StatusTooManyRequests {
		m.calls["429"]++
	}
}

func (m *meter) seen() calls {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.calls)
}

// spent is the processor time of this process without the emulator's answers: an
// upper bound of forged's, since what the emulator leaves to the collector of
// garbage is in it.
func (m *meter) spent() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cpu(syscall.RUSAGE_SELF) - m.cpu
}
