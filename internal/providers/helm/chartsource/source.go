package chartsource

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Kinds of sources, as the language has them.
const (
	kindPath       = "path"
	kindOCI        = "oci"
	kindRepository = "repository"
)

// Times.
const (
	loadLimit = 60 * time.Second // for one look at a source
	minAge    = 5 * time.Minute  // between two looks at a registry or a repository
	minRetry  = 2 * time.Second  // after a look that failed; doubles
	maxRetry  = 5 * time.Minute
	maxKnown  = 256 // sources that are remembered
)

// Options configure a Source. The zero value serves.
type Options struct {
	CacheDir  string            // where archives are kept; empty, or not writable: in memory alone
	Transport http.RoundTripper // nil: one that trusts the authorities that the system trusts
	Logger    *slog.Logger
	Now       func() time.Time // nil: the clock
}

// Request asks for a chart.
type Request struct {
	forge.ChartSource

	// Secret reads the username and the password. It is called when a registry
	// or a repository is asked, and then only.
	Secret func(ctx context.Context, ref forge.SecretRef) (secret.Value, error)

	// MaxAge is how long the answer to a look stays good, though at least five
	// minutes; 0: until somebody asks for another source.
	MaxAge time.Duration

	// Keep is the version that runs. Where forge.cue has a constraint, it is
	// preferred to a newer one as long as nothing else has been looked up.
	Keep string
}

// Chart is a chart as it was found.
type Chart struct {
	Name    string
	Version string
	Digest  string // SHA-256 of all its files, hexadecimal
	Lock    string // what may stand in the field digest of forge.cue: "sha256:…"; empty for a path
	From    string // where it was found, for people
	Files   []charts.File
	// Stale says why the source was not asked: this is what was loaded from it
	// before. Nil: it is up to date.
	Stale error
}

// String names the chart and where it comes from, for people.
func (c Chart) String() string {
	s := c.Name + " " + c.Version + " from " + c.From
	if c.Lock != "" {
		s += " (" + c.Lock + ")"
	}
	return s
}

// Source loads charts and remembers them. It may be used by many goroutines.
type Source struct {
	http  *http.Client
	disk  disk
	log   *slog.Logger
	now   func() time.Time
	close func()

	wake chan struct{} // a look may be due earlier than was thought

	mu       sync.Mutex
	known    map[string]*entry
	watching int
}

// entry is one source, as it stands in forge.cue.
type entry struct {
	key    string
	source forge.ChartSource
	busy   chan struct{} // holds a token while somebody looks

	// Guarded by the mutex of the Source.
	req    Request
	used   time.Time
	loaded *found
	err    error         // of the last look
	looked time.Time     // when that was
	retry  time.Duration // after err
	again  bool          // somebody has asked for another look
}

// found is what a look has found.
type found struct {
	chart Chart
	etag  string // of the index of a repository
}

// New makes a Source. Close it.
func New(o Options) *Source {
	s := &Source{
		disk: disk{dir: o.CacheDir}, log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), now: o.Now,
		wake: make(chan struct{}, 1), known: map[string]*entry{}, close: func() {},
	}
	if s.now == nil {
		s.now = time.Now
	}
	next := o.Transport
	if next == nil {
		t := newTransport()
		next, s.close = t, t.CloseIdleConnections
	}
	s.http = newClient(next)
	return s
}

// Close lets go of idle connections.
func (s *Source) Close() { s.close() }

// Load returns the chart that a source stands for. While there is an answer
// that is good enough it asks nobody.
//
// Errors have the kind Invalid for what only another forge.cue, or another
// chart, puts right; Denied when the source wants other credentials; and
// Unavailable or Throttled when it did not answer and nothing is known of it.
func (s *Source) Load(ctx context.Context, r Request) (Chart, error) {
	if ctx.Err() != nil {
		return Chart{}, unavailable(r.ChartSource, context.Cause(ctx))
	}
	e := s.entry(r)
	if c, err, enough := s.answer(e); enough {
		return c, err
	}
	if err := s.look(ctx, e); err != nil {
		return Chart{}, err
	}
	c, err, _ := s.answer(e)
	return c, err
}

// entry finds what is remembered of a source, and notes how it is wanted now.
func (s *Source) entry(r Request) *entry {
	key := keyOf(r.ChartSource)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known[key]
	if e == nil {
		s.forget()
		e = &entry{key: key, source: r.ChartSource, busy: make(chan struct{}, 1)}
		s.known[key] = e
	}
	if e.req.MaxAge != r.MaxAge {
		s.poke()
	}
	e.req, e.used = r, s.now()
	return e
}

// keyOf tells sources apart. Where credentials are read is part of it.
func keyOf(c forge.ChartSource) string {
	b, err := json.Marshal(c)
	if err != nil { // strings, and lists of them
		b = fmt.Appendf(nil, "%#v", c)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// forget makes room for one more source.
func (s *Source) forget() {
	if len(s.known) < maxKnown {
		return
	}
	var oldest *entry
	for _, e := range s.known {
		if oldest == nil || e.used.Before(oldest.used) {
			oldest = e
		}
	}
	delete(s.known, oldest.key)
}

// answer is what is known of a source, and whether that is enough: it is not
// while a look is due that nobody else takes.
func (s *Source) answer(e *entry) (c Chart, err error, enough bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	enough = !e.looked.IsZero() && (s.watching > 0 || s.due(e).After(s.now()))
	if e.loaded == nil {
		return Chart{}, e.err, enough
	}
	c = e.loaded.chart
	c.Stale = e.err
	return c, nil, enough
}

// due is when a source is to be looked at again. The caller holds the mutex.
func (s *Source) due(e *entry) time.Time {
	switch {
	case e.again || e.looked.IsZero():
		return time.Time{}
	case e.err != nil:
		return e.looked.Add(e.retry)
	case e.req.MaxAge <= 0:
		return e.looked.Add(100 * 365 * 24 * time.Hour)
	case e.req.Kind == kindPath:
		return e.looked.Add(e.req.MaxAge)
	}
	return e.looked.Add(max(e.req.MaxAge, minAge))
}

// look asks the source, unless somebody has done so while we waited. Its error
// says that ctx has ended; what the source said is kept in the entry.
func (s *Source) look(ctx context.Context, e *entry) error {
	select {
	case e.busy <- struct{}{}:
	case <-ctx.Done():
		return unavailable(e.source, context.Cause(ctx))
	}
	defer func() { <-e.busy }()
	s.mu.Lock()
	if s.due(e).After(s.now()) {
		s.mu.Unlock()
		return nil
	}
	req, before, first := e.req, e.loaded, e.looked.IsZero()
	e.again = false
	s.mu.Unlock()

	limited, cancel := context.WithTimeoutCause(ctx, loadLimit, fmt.Errorf("no end within %s", loadLimit))
	defer cancel()
	now, err := s.fetch(limited, req, before, first)
	if err != nil && ctx.Err() != nil {
		return unavailable(req.ChartSource, context.Cause(ctx)) // that is no news of the source
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.looked, e.err = s.now(), err
	if now != nil { // with an error: what was loaded before this process began
		e.loaded = now
	}
	if err == nil {
		e.retry = 0
	} else {
		e.retry = min(max(2*e.retry, minRetry), maxRetry)
	}
	s.poke()
	return nil
}

// fetch loads a chart. before is what is known of it; first: nobody has asked
// for it in this process.
func (s *Source) fetch(ctx context.Context, r Request, before *found, first bool) (*found, error) {
	if r.Kind == kindPath {
		c, err := loadPath(ctx, r.Path)
		if err != nil {
			return nil, err
		}
		return &found{chart: c}, nil
	}
	record, kept := s.disk.record(r.ChartSource)
	if first && kept && (r.MaxAge <= 0 || locked(r.ChartSource) || s.now().Before(record.At.Add(max(r.MaxAge, minAge)))) {
		if now, err := s.fromDisk(r.ChartSource, record); err == nil {
			return now, nil
		}
	}
	now, err := s.fromRemote(ctx, r, before)
	if err == nil || before != nil || !kept || !passes(err) {
		return now, err
	}
	if old, diskErr := s.fromDisk(r.ChartSource, record); diskErr == nil {
		return old, err
	}
	return nil, err
}

// locked tells whether a source can stand for one archive alone.
func locked(c forge.ChartSource) bool { return c.Digest != "" }

// passes tells of an error that says nothing about the chart itself.
func passes(err error) bool {
	switch reconcile.KindOf(err) {
	case reconcile.Unavailable, reconcile.Throttled, reconcile.Denied:
		return true
	}
	return false
}

// fromRemote asks a registry or a repository, and keeps what it loads.
func (s *Source) fromRemote(ctx context.Context, r Request, before *found) (*found, error) {
	user, err := s.credentials(ctx, r)
	if err != nil {
		return nil, err
	}
	f := fetcher{Source: s, req: r, user: user, before: before}
	var now *found
	var archive []byte
	switch r.Kind {
	case kindOCI:
		now, archive, err = f.oci(ctx)
	case kindRepository:
		now, archive, err = f.repository(ctx)
	default:
		err = invalid(r.ChartSource, fmt.Errorf("%q is no kind of source", r.Kind), "")
	}
	if err != nil {
		return nil, err
	}
	record := record{Version: now.chart.Version, Lock: now.chart.Lock, From: now.chart.From, At: s.now()}
	if err := s.disk.keep(r.ChartSource, record, archive); err != nil {
		s.log.Debug("a chart is kept in memory alone", "chart", now.chart.String(), "error", err)
	}
	if before == nil || before.chart.Digest != now.chart.Digest {
		s.log.Info("chart loaded", "chart", now.chart.Name, "version", now.chart.Version, "from", now.chart.From, "digest", now.chart.Lock)
	}
	return now, nil
}

// fromDisk loads what was kept.
func (s *Source) fromDisk(c forge.ChartSource, r record) (*found, error) {
	archive, err := s.disk.archive(r)
	if err != nil {
		return nil, err
	}
	chart, err := unpack(describe(c), archive, false)
	if err != nil {
		return nil, err
	}
	chart.Lock, chart.From = r.Lock, r.From
	if err := accept(c, chart); err != nil {
		return nil, err
	}
	return &found{chart: chart}, nil
}
