package faultproxy

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fault is trouble with some requests. What is zero does no harm.
type Fault struct {
	Match func(Request) bool // nil: every request
	Times int                // requests it strikes; 0: until it is mended

	Delay      time.Duration // before anything else happens
	Status     int           // answered in the place of the server, which never sees the request
	RetryAfter time.Duration // with Status: whole seconds that the client is told to wait
	Cut        bool          // the connection is closed; the server never sees the request
	LoseAnswer bool          // the server handles it, and the connection is closed before the answer
	Truncate   int           // the connection is closed after so many bytes of the answer
	Freeze     bool          // not a byte of the answer comes, and the connection stays, until it is mended
}

type fault struct {
	Fault
	left   int // negative: no end
	mended chan struct{}
}

// Inject has f strike from now on, until mend is called. Where several match,
// the one injected last strikes.
func (p *Proxy) Inject(f Fault) (mend func()) {
	one := &fault{Fault: f, left: f.Times, mended: make(chan struct{})}
	if f.Times == 0 {
		one.left = -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, one)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(p.faults, one); i >= 0 {
			p.faults = slices.Delete(p.faults, i, i+1)
			close(one.mended)
		}
	}
}

// HangUp closes every connection that waits for an answer; watches end.
func (p *Proxy) HangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUp()
	p.line, p.hangUp = context.WithCancel(p.ctx)
}

// faultFor is the fault that strikes a request. The caller holds mu.
func (p *Proxy) faultFor(r Request) *fault {
	for _, f := range slices.Backward(p.faults) {
		if f.left == 0 || f.Match != nil && !f.Match(r) {
			continue
		}
		if f.left > 0 {
			f.left--
		}
		return f
	}
	return nil
}

// answers tells whether the server never sees the request.
func (f *fault) answers() bool { return f.Status != 0 || f.Cut }

// before does what comes before the server; false: the request has ended.
func (f *fault) before(w http.ResponseWriter, r *http.Request, end context.Context) bool {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-f.mended:
		case <-r.Context().Done():
		case <-end.Done():
		}
	}
	switch {
	case f.Cut:
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		f.answer(w)
		return false
	}
	return true
}

// answer is what an API server of Kubernetes says with such a status.
func (f *fault) answer(w http.ResponseWriter) {
	reasons := map[int]metav1.StatusReason{
		http.StatusUnauthorized: metav1.StatusReasonUnauthorized, http.StatusForbidden: metav1.StatusReasonForbidden,
		http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusConflict: metav1.StatusReasonConflict,
		http.StatusGone: metav1.StatusReasonExpired, http.StatusTooManyRequests: metav1.StatusReasonTooManyRequests,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
		http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
		http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
	}
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Reason: reasons[f.Status], Code: int32(f.Status), Message: "a fault of the test: " + http.StatusText(f.Status),
	}
	if f.RetryAfter > 0 {
		seconds := int32(f.RetryAfter / time.Second)
		status.Details = &metav1.StatusDetails{RetryAfterSeconds: seconds}
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(status) // who has hung up is told nothing
}

// around is the writer that the answer goes through.
func (f *fault) around(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	switch {
	case f.Freeze:
		return &frozen{ResponseWriter: w, fault: f, request: r}
	case f.Truncate > 0:
		return &truncated{ResponseWriter: w, left: f.Truncate}
	}
	return w
}

// frozen lets nothing through until it is mended: the line is dead, and nobody
// has been told.
type frozen struct {
	http.ResponseWriter
	fault   *fault
	request *http.Request
}

func (w *frozen) wait() {
	select {
	case <-w.fault.mended:
	case <-w.request.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

func (w *frozen) WriteHeader(code int) { w.wait(); w.ResponseWriter.WriteHeader(code) }

func (w *frozen) Write(b []byte) (int, error) { w.wait(); return w.ResponseWriter.Write(b) }

func (w *frozen) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// truncated closes the connection after some bytes of the answer.
type truncated struct {
	http.ResponseWriter
	left int
}

func (w *truncated) Write(b []byte) (int, error) {
	if len(b) < w.left {
		w.left -= len(b)
		return w.ResponseWriter.Write(b)
	}
	_, _ = w.ResponseWriter.Write(b[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func (w *truncated) Unwrap() http.ResponseWriter { return w.ResponseWriter }
