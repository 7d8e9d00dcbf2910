package fks

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// quiet is a cluster that answers, and says nothing of its app.
type quiet struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int // by path
	idle  chan struct{}  // one for each connection that has ended
}

func newQuiet(t *testing.T) *quiet {
	q := &quiet{asked: map[string]int{}, idle: make(chan struct{}, 100)}
	q.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		q.asked[filepath.Base(r.URL.Path)]++
		q.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		kind := map[string]string{"services": "ServiceList", "persistentvolumes": "PersistentVolumeList"}[filepath.Base(r.URL.Path)]
		fmt.Fprintf(w, `{"kind": %q, "apiVersion": "v1", "items": []}`, kind)
	}))
	q.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			q.idle <- struct{}{}
		}
	}
	q.Start()
	t.Cleanup(q.Close)
	return q
}

// into is the way that a kubeconfig of the user leads.
func into(t *testing.T, server string) (*way, forge.FlyClusterSpec) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(kubeconfigOf(server, nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	accounts := fly.NewAccounts(fly.Options{Instance: "x"})
	t.Cleanup(accounts.Close)
	w := &way{connect: dialer(), accounts: accounts}
	w.tokens = newTokens(w.mint)
	spec := forge.FlyClusterSpec{Name: "k", Kubeconfig: file}
	if err := w.open(spec, forge.FlyAccount{Org: "acme"}, api.AddOn{ID: "1"}); err != nil {
		t.Fatal(err)
	}
	return w, spec
}

// Looks at a cluster that does not tell its app cost a few requests, and not some
// each; which cluster it is is asked once, and no connection stays.
func TestLooksInVain(t *testing.T) {
	q := newQuiet(t)
	w, _ := into(t, q.URL)
	for range 10 {
		w.lookInside(t.Context())
	}
	if a := q.asked; a["services"] != appLooks || a["persistentvolumes"] != appLooks || a["storageclasses"] != 1 || w.app() != "" {
		t.Errorf("10 looks cost %v, app %q", a, w.app())
	}
	for range appLooks {
		select {
		case <-q.idle:
		case <-time.After(patience):
			t.Fatal("a connection stays")
		}
	}
}

// What Fly has given out is not given out any more where the user gives a file.
func TestKubeconfigOfFlyThatWasReplaced(t *testing.T) {
	q := newQuiet(t)
	w, spec := into(t, q.URL)
	of := spec
	of.Kubeconfig = ""
	live := api.AddOn{ID: "1", Kubeconfig: secret.New([]byte(kubeconfigOf("https://k.flycast:6443", authority(t))))}
	if err := w.open(of, forge.FlyAccount{Org: "acme"}, live); err != nil || w.kubeconfig().IsZero() {
		t.Fatal(err)
	}
	if err := w.open(spec, forge.FlyAccount{Org: "acme"}, live); err != nil || !w.kubeconfig().IsZero() {
		t.Errorf("it still is: %v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// One asks where a kubeconfig leads; who waits for that heeds its own end, and an
// answer that says nothing is everybody's for a while.
func TestOneAsksForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, release := 0, make(chan struct{})
		u := &unsure{verdict: newVerdict([sha256.Size]byte{}), base: "https://k", spec: forge.FlyClusterSpec{Name: "k"}, next: roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			<-release
			return &http.Response{StatusCode: http.StatusBadGateway, Body: io.NopCloser(strings.NewReader(""))}, nil
		})}
		ask := func(ctx context.Context) <-chan error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://k/api", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			end := make(chan error, 1)
			go func() { end <- u.ask(r) }()
			synctest.Wait()
			return end
		}
		first, second := ask(t.Context()), ask(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		third := ask(ctx)
		cancel()
		synctest.Wait()
		select {
		case err := <-third:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		default:
			t.Error("it waits on, although nobody waits for it")
		}
		close(release)
		for _, end := range []<-chan error{first, second, ask(t.Context())} {
			if err := <-end; reconcile.KindOf(err) != reconcile.Unavailable {
				t.Error(err)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(askPause)
		if <-ask(t.Context()); asked != 2 {
			t.Errorf("later on it was asked %d times", asked)
		}
	})
}
