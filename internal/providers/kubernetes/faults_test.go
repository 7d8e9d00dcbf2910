package kubernetes

import (
	"errors"
	"net"
	"net/http"
	"sync"
)

// faults is a line that goes dead after a number of changing requests, the
// answer to the last of which is lost.
type faults struct {
	mu      sync.Mutex
	allowed int // negative: all
	refuse  func(*http.Request) bool
}

// reject cuts single requests.
func (f *faults) reject(which func(*http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = which
}

func (f *faults) refuses(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refuse != nil && f.refuse(r)
}

// after lets n more changing requests through.
func (f *faults) after(n int) (mend func()) {
	f.set(n)
	return func() { f.set(-1) }
}

func (f *faults) set(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allowed = n
}

// take tells whether a request passes, and whether its answer does.
func (f *faults) take(changes bool) (passes, answered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.allowed == 0:
		return false, false
	case f.allowed > 0 && changes:
		f.allowed--
		return true, f.allowed > 0
	default:
		return true, true
	}
}

var errCut = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection cut by the test")}

func (f *faults) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		passes, answered := f.take(r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "")
		if !passes || f.refuses(r) {
			return nil, errCut
		}
		resp, err := next.RoundTrip(r)
		if err == nil && !answered {
			resp.Body.Close()
			return nil, errCut
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
