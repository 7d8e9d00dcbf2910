package fks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clients "k8s.io/client-go/kubernetes"

	"forged.dev/forged/internal/reconcile"
)

// lines are the connections to clusters.
type lines struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// over has all of them noted.
func (l *lines) over(next connect) connect {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := next(ctx, network, address)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.conns == nil {
				l.conns = map[net.Conn]struct{}{}
			}
			l.conns[c] = struct{}{}
		}
		return c, err
	}
}

// cut closes them; watches end.
func (l *lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // it may have ended
	}
	l.conns = nil
}

// mint lets tokens be made, or not.
type mint struct {
	mu     sync.Mutex
	closed bool
	made   int
	failed int
}

func (m *mint) set(closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = closed
}

func (m *mint) counts() (made, failed int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made, m.failed
}

// RoundTrip implements http.RoundTripper.
func (m *mint) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/graphql") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte("createLimitedAccessToken")) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.closed {
				m.failed++
				return nil, errors.New("no tokens today")
			}
			m.made++
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// tokensRunOut has the hour of all tokens go by, by Fly's clock alone, as it does
// for a process that was stopped, and ends the watches: the API server answers
// 401 to whoever comes back with the old token.
func (in *inside) tokensRunOut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	in.must(in.engine.Set(in.generation("4")))
	go func() { ended <- in.engine.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	theirs, err := clients.NewForConfig(in.fly.Open(t, in.name).Config) // with a token of their own, that lasts
	in.must(err)
	files := theirs.CoreV1().ConfigMaps("shop")
	live := func(ctx context.Context) string {
		got, err := files.Get(ctx, "files", metav1.GetOptions{})
		in.must(err)
		return got.Data["a"]
	}
	ready := func() bool { return in.engine.Status().Environments[0].State == reconcile.StateReady }
	settled := func(text string) {
		t.Helper()
		in.await("all is well", func(ctx context.Context) bool { return ready() && live(ctx) == text })
	}
	drift := func() {
		t.Helper()
		_, err := files.Patch(ctx, "files", "application/merge-patch+json", []byte(`{"data":{"a":"theirs"}}`), metav1.PatchOptions{FieldManager: "kubectl"})
		in.must(err)
	}
	settled("4")
	w := in.provider.ways[in.cluster().ID]
	old, err := w.tokens.get(ctx)
	in.must(err)
	bearing := func() int {
		t.Helper()
		cfg, err := in.provider.Way(ctx, in.cluster().ID)
		in.must(err)
		cfg.WrapTransport, cfg.BearerToken = nil, string(old.Reveal())
		c, err := clients.NewForConfig(cfg)
		in.must(err)
		status := 0
		c.CoreV1().RESTClient().Get().AbsPath("/api").Do(ctx).StatusCode(&status)
		return status
	}
	if code := bearing(); code != http.StatusOK {
		t.Fatalf("the token in use is answered %d", code)
	}
	runOut := func() {
		t.Helper()
		in.must(in.fly.Call(ctx, http.MethodPost, "/_emulator/advance", map[string]string{"by": "61m"}, nil))
		in.await("the token is refused", func(context.Context) bool { return bearing() == http.StatusUnauthorized })
	}
	runOut()

	// The watches come back with another token, where they were: nothing is
	// listed again, and what was done meanwhile is healed.
	lists, made := in.lists.Load(), func() int { n, _ := in.mint.counts(); return n }()
	history := len(in.engine.Status().History)
	drift()
	in.lines.cut()
	settled("4")
	if n := in.lists.Load() - lists; n != 0 {
		t.Errorf("%d lists", n)
	}
	if n, _ := in.mint.counts(); n != made+1 {
		t.Errorf("%d tokens were made", n-made)
	}

	// While there is no token, nothing is known, and nothing is taken for gone.
	old, err = w.tokens.get(ctx)
	in.must(err)
	runOut()
	in.mint.set(true)
	in.lines.cut()
	in.await("it is said that nothing is known", func(context.Context) bool { return !ready() })
	drift()
	in.mint.set(false)
	settled("4")

	// In the middle of a rollout.
	old, err = w.tokens.get(ctx)
	in.must(err)
	runOut()
	in.must(in.engine.Set(in.generation("5")))
	in.lines.cut()
	settled("5")

	for _, action := range in.engine.Status().History[history:] { // some were cut in their middle
		if action.Action != reconcile.ActionHeal && action.Action != reconcile.ActionUpdate {
			t.Errorf("%+v", action)
		}
	}
}
