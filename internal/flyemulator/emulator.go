package flyemulator

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// Options say what world the emulator starts with. The zero value is one
// organization, "acme", that DefaultToken has all rights in.
type Options struct {
	Orgs    []Org
	Tokens  []Token
	Foreign []string // names of apps that strangers have

	RateLimits bool          // answer 429 where Fly does
	RetryAfter bool          // 429 carries Retry-After; Fly promises nothing
	TimeFactor float64       // virtual seconds in a second; 0 is 1
	Pace       float64       // how much faster Fly works than it does, while leases, limits and tokens last as long; 0 is 1
	Latency    time.Duration // of every answer
	Lag        Lag
	Times      Times // zero: as measured on the real service
	Seed       uint64
	Postgres   PostgresServer // behind Managed Postgres; nil: only its API is there
	Guest      Guest          // in machines; nil: nothing really runs in them

	Kubeconfig func(cluster string) string // of a cluster of Fly Kubernetes, by the add-on's name; nil: as Fly gives it out
	Clusters   Clusters                    // makes what stands behind Fly Kubernetes; nil: nothing does
}

// DefaultToken has all rights in the organization of the zero Options. It is a
// macaroon, as flyctl wants one.
const DefaultToken = "fm2_lJPEEmVtdWxhdG9yIG9mIEZseSAwMcQQbm90aGluZydzIHNlY3JldMLZFWh0dHBzOi8vYXBpLmZseS5pby92MZDEIG5vYm9keSBldmVyIGNoZWNrcyB0aGlzIHNpZ25hdHVy" //nolint:gosec // it opens nothing but an emulator

// Emulator is Fly. See the package's comment.
type Emulator struct {
	mu      sync.Mutex
	o       Options
	clock   clock
	state   *state
	routes  []*route
	kinds   map[string]func(event)
	buckets map[string]*bucket
	faults  []*Fault
	faultID int
	past    map[string][]past // of each app, while replicas lag
	unnoted map[string]time.Time
	listed  map[string]*listing // of each organization, while listings lag

	expressions map[string]*regexp.Regexp // of programs

	requests []Request
	changed  chan struct{} // closed and made anew when something happened
	timer    *time.Timer   // until the next transition
	done     chan struct{}
	closed   bool
}

// Request is one that was answered, or not.
type Request struct {
	At     time.Time
	Method string
	Action string // as rate limits are counted by; empty: unknown path
	Path   string // with the query
	App    string
	Status int // 0: the connection was dropped
	Host   string
}

// maxRequests bounds the log: the older half is dropped.
const maxRequests = 200_000

// New makes an emulator; Close ends it.
func New(o Options) *Emulator {
	if o.TimeFactor == 0 {
		o.TimeFactor = 1
	}
	if o.Pace == 0 {
		o.Pace = 1
	}
	o.Times = o.Times.withDefaults()
	e := &Emulator{
		o:       o,
		state:   newState(o),
		buckets: map[string]*bucket{},
		past:    map[string][]past{},
		unnoted: map[string]time.Time{},
		listed:  map[string]*listing{},

		expressions: map[string]*regexp.Regexp{},
		changed:     make(chan struct{}),
		done:        make(chan struct{}),
	}
	e.clock.start(time.Now(), o.TimeFactor)
	e.state.Founded = e.now()
	e.found()
	e.routes = e.allRoutes()
	e.kinds = e.allEvents()
	return e
}

// Close ends every request that waits; transitions happen no more.
func (e *Emulator) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	close(e.done)
	if e.timer != nil {
		e.timer.Stop()
	}
}

// maxBody is what Fly's proxy would hardly take.
const maxBody = 16 << 20

// ServeHTTP answers like Fly: /v1 is the Machines API, /graphql, /api/v1 and
// /prometheus/ are those of api.fly.io. Below /_emulator/ stands what Fly has
// not: its controls.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rep := e.answer(r)
	if rep.dropped {
		panic(http.ErrAbortHandler) // the connection is closed without an answer
	}
	raw, contentType := rep.bytes()
	for k, vs := range rep.header {
		w.Header()[k] = vs
	}
	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.WriteHeader(rep.status)
	w.Write(raw) //nolint:errcheck // whoever hung up needs no answer
}

// Transport calls the emulator without a socket, whatever the host of the URL.
func (e *Emulator) Transport() http.RoundTripper { return transport{e} }

type transport struct{ e *Emulator }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	rep := t.e.answer(r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if rep.dropped {
		return nil, fmt.Errorf("read: %w", syscall.ECONNRESET)
	}
	raw, contentType := rep.bytes()
	header := http.Header{}
	for k, vs := range rep.header {
		header[k] = vs
	}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", rep.status, http.StatusText(rep.status)), StatusCode: rep.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(raw)), ContentLength: int64(len(raw)), Request: r,
	}, nil
}

// answer handles a request from its beginning to its end.
func (e *Emulator) answer(r *http.Request) reply {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, maxBody)); err != nil {
			return reply{status: http.StatusBadRequest, body: errorBody{Error: "request body: " + err.Error()}}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	c := e.newCall(r, body)
	rep := e.handle(c)
	e.log(c, rep)
	rep = c.finish(rep)
	rep.raw, rep.contentType = rep.bytes() // under e.mu: the body may be a part of the state
	return rep
}

// handle takes the request through trouble, rights and limits to its handler.
func (e *Emulator) handle(c *call) reply {
	if c.route == nil {
		return c.notRouted()
	}
	if c.route.scope == scopeControl {
		rep := c.route.handler(c)
		e.wake()
		return rep
	}
	if e.o.Latency > 0 {
		e.sleep(c, e.o.Latency)
	}
	f := e.strike(c)
	if f != nil {
		if f.Delay > 0 {
			e.sleep(c, time.Duration(f.Delay))
		}
		if f.Drop == DropBefore {
			return reply{dropped: true}
		}
		if f.Status != 0 && !f.Commit {
			return f.reply(c)
		}
	}
	if c.r.Context().Err() != nil {
		return reply{dropped: true} // nobody waits any more, and nothing was done
	}
	rep := e.permitted(c)
	if !c.route.read {
		e.remember(c.appName())
	}
	e.wake()
	if f != nil {
		switch {
		case f.Drop == DropAfter:
			return reply{dropped: true}
		case f.Status != 0:
			return f.reply(c)
		}
	}
	return rep
}

// permitted calls the handler if the token and the limits allow it.
func (e *Emulator) permitted(c *call) reply {
	if f := c.authenticate(); f != nil {
		return c.failed(f)
	}
	if f := c.authorize(); f != nil {
		return c.failed(f)
	}
	if f := e.throttle(c); f != nil {
		rep := c.failed(f)
		if e.o.RetryAfter {
			rep.header = http.Header{"Retry-After": {"1"}}
		}
		return rep
	}
	return c.route.handler(c)
}

func (e *Emulator) log(c *call, rep reply) {
	if c.route != nil && c.route.scope == scopeControl {
		return
	}
	if len(e.requests) >= maxRequests {
		e.requests = append(e.requests[:0], e.requests[maxRequests/2:]...)
	}
	one := Request{At: c.now, Method: c.r.Method, Path: c.r.URL.RequestURI(), App: c.appName(), Status: rep.status, Host: c.r.URL.Host}
	if c.route != nil {
		one.Action = c.route.action
	}
	if rep.dropped {
		one.Status = 0
	}
	e.requests = append(e.requests, one)
}

// Requests is what was asked so far, in the order in which it was answered.
func (e *Emulator) Requests() []Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Request(nil), e.requests...)
}

// ForgetRequests empties the log.
func (e *Emulator) ForgetRequests() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = nil
}
