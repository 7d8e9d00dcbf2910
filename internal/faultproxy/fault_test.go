package faultproxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/faultproxy"
)

// echo answers every request with its path, and counts them.
func echo(t *testing.T) (*faultproxy.Proxy, *atomic.Int32) {
	t.Helper()
	var served atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = io.WriteString(w, r.URL.Path)
	}))
	t.Cleanup(srv.Close)
	base, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return faultproxy.InFrontOf(t, base, nil), &served
}

func get(ctx context.Context, p *faultproxy.Proxy, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestFaultsEndTheWayTheySay(t *testing.T) {
	const path = "/api/v1/some/where"
	for name, tt := range map[string]struct {
		fault  faultproxy.Fault
		served int32
		body   string // what comes of the answer
		fails  bool
	}{
		"cut":         {faultproxy.Fault{Cut: true}, 0, "", true},
		"lost answer": {faultproxy.Fault{LoseAnswer: true}, 1, "", true},
		"truncated":   {faultproxy.Fault{Truncate: 4}, 1, path[:4], true},
		"late":        {faultproxy.Fault{Delay: time.Millisecond}, 1, path, false},
		"others":      {faultproxy.Fault{Cut: true, Match: func(r faultproxy.Request) bool { return r.Path != path }}, 1, path, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, served := echo(t)
			mend := p.Inject(tt.fault)
			body, err := get(t.Context(), p, path)
			if (err != nil) != tt.fails || body != tt.body || served.Load() != tt.served {
				t.Errorf("%q, %v; the server saw %d", body, err, served.Load())
			}
			mend()
			if body, err := get(t.Context(), p, path); err != nil || body != path {
				t.Errorf("mended: %q, %v", body, err)
			}
		})
	}
}

func TestFaultsStrikeAsOftenAsTheySay(t *testing.T) {
	p, served := echo(t)
	p.Inject(faultproxy.Fault{Cut: true, Times: 2})
	for i := range 4 {
		if _, err := get(t.Context(), p, "/"); (err != nil) != (i < 2) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if served.Load() != 2 {
		t.Errorf("the server saw %d", served.Load())
	}
}

func TestFrozenUntilMended(t *testing.T) {
	p, _ := echo(t)
	mend := p.Inject(faultproxy.Fault{Freeze: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := get(ctx, p, "/"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("frozen: %v", err)
	}
	answer := make(chan string, 1)
	go func() {
		body, err := get(t.Context(), p, "/later")
		answer <- body
		if err != nil {
			t.Error(err)
		}
	}()
	mend()
	if got := <-answer; got != "/later" {
		t.Errorf("mended: %q", got)
	}
}

// Clients of Kubernetes take the answers for those of an API server.
func TestAnswersOfAnAPIServer(t *testing.T) {
	p, served := echo(t)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: p.URL(), QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		status int
		is     func(error) bool
	}{
		"throttled":    {http.StatusTooManyRequests, apierrors.IsTooManyRequests},
		"expired":      {http.StatusGone, apierrors.IsResourceExpired},
		"forbidden":    {http.StatusForbidden, apierrors.IsForbidden},
		"unauthorized": {http.StatusUnauthorized, apierrors.IsUnauthorized},
		"broken":       {http.StatusInternalServerError, apierrors.IsInternalError},
		"away":         {http.StatusServiceUnavailable, apierrors.IsServiceUnavailable},
	} {
		mend := p.Inject(faultproxy.Fault{Status: tt.status})
		_, err := client.CoreV1().ConfigMaps("shop").Get(t.Context(), "x", metav1.GetOptions{})
		if !tt.is(err) {
			t.Errorf("%s: %v", name, err)
		}
		mend()
	}
	if served.Load() != 0 {
		t.Errorf("the server saw %d", served.Load())
	}
	mend := p.Inject(faultproxy.Fault{Status: http.StatusTooManyRequests, RetryAfter: time.Second, Times: 1})
	defer mend()
	_, err = client.CoreV1().ConfigMaps("shop").Get(t.Context(), "x", metav1.GetOptions{})
	if served.Load() != 1 {
		t.Errorf("after the time that it was told to wait, the client does not ask again: %v", err)
	}
}
