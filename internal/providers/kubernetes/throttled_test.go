package kubernetes

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"forged.dev/forged/internal/reconcile"
)

// throttling answers writes of ConfigMaps with 429 and Retry-After, as an API server
// that has too much to do, and notes when they came.
type throttling struct {
	mu    sync.Mutex
	left  int
	times []time.Time
}

func (f *throttling) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPatch || !strings.HasSuffix(r.URL.Path, "/configmaps/c") || r.Context().Err() != nil {
			return next.RoundTrip(r)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.times = append(f.times, time.Now())
		if f.left == 0 {
			return next.RoundTrip(r)
		}
		f.left--
		const body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429,"message":"too many requests","details":{"retryAfterSeconds":1}}`
		return &http.Response{
			StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}, "Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(body)), Request: r, ProtoMajor: 2,
		}, nil
	})
}

// A server that says when to come again is not asked before that, however long
// it goes on.
func TestThrottlingServerIsNotAskedEarly(t *testing.T) {
	b := newBed(t)
	f := &throttling{}
	b.clusters.Close()
	b.begin(func(*Options) {}, func(cs *Clusters) { cs.wrap = f.wrap })
	apply := func(ctx context.Context, throttled int, value string) error {
		f.mu.Lock()
		f.left, f.times = throttled, nil
		f.mu.Unlock()
		obj := b.configMap("c", `{a: "`+value+`"}`)
		b.c.Stamp(obj, releaseID("c"))
		_, err := b.c.Apply(ctx, obj)
		for i := 1; i < len(f.times); i++ {
			if gap := f.times[i].Sub(f.times[i-1]); gap < 990*time.Millisecond {
				t.Errorf("asked again after %s, and it was told to wait a second", gap)
			}
		}
		return err
	}
	if err := apply(t.Context(), 1, "1"); err != nil || len(f.times) != 2 {
		t.Errorf("%d requests, %v", len(f.times), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	err := apply(ctx, 100, "2")
	if kind := reconcile.KindOf(err); kind != reconcile.Throttled && kind != reconcile.Unavailable {
		t.Errorf("an error of kind %s: %v", kind, err)
	}
	if len(f.times) > 2 {
		t.Errorf("%d requests within 1.5 seconds", len(f.times))
	}
}
