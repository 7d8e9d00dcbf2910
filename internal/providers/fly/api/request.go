package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

const (
	maxReply      = 32 << 20 // a page of a thousand machines is about one
	maxErrorReply = 64 << 10
	patience      = time.Minute      // for one answer
	attempts      = 4                // for one call
	noMoreAfter   = 90 * time.Second // an attempt that begins later is not made
	maxRetryAfter = time.Minute
	leaseHeader   = "fly-machine-lease-nonce"
)

// request is one call of an API.
type request struct {
	service service
	action  string // what is limited, and what metrics and errors name
	ident   string // whose limit it is
	app     string // whose replica is asked; empty: any
	method  string
	path    string // escaped, below the service's root
	query   url.Values
	body    any
	nonce   string // of a lease

	repeat   bool          // doing it twice is doing it once
	waits    bool          // the answer takes its time, and 408 is one
	patience time.Duration // zero: the usual
	hide     []string      // what answers must not give away

	holds string                    // a field without which an answer of success says nothing
	fails func([]byte, hider) error // finds a failure in an answer of success
}

// segment makes one part of a path of any text. A wildcard is "%2A" (Machines
// API docs, certificates).
func segment(s string) string {
	return strings.ReplaceAll(url.PathEscape(s), "*", "%2A")
}

// do makes a request, as often as it takes and may be made, and decodes the
// answer into out unless that is nil.
func (c *Client) do(ctx context.Context, r request, out any) error {
	for _, s := range r.inPath() {
		if s == "" || s == "." || s == ".." {
			return &Error{Kind: Invalid, Action: r.action, Method: r.method, Path: r.path, Text: "a name in the address is empty"}
		}
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return &Error{Kind: Invalid, Action: r.action, Method: r.method, Path: r.path, Err: err}
		}
	}
	key := limited{r.action, r.ident}
	began := time.Now()
	attempt, refused := 1, 0
	for {
		if err := c.limits.wait(ctx, key); err != nil {
			return &Error{Kind: Unavailable, Action: r.action, Method: r.method, Path: r.path, Err: err} // nothing was sent
		}
		err := c.once(ctx, r, body, out)
		if err == nil {
			return nil
		}
		var delay time.Duration
		switch {
		case err.Kind == Throttled:
			refused++ // it was not made, so this is no attempt: somebody else uses the limit, too
			delay = max(err.RetryAfter, backoff(refused))
			c.limits.refused(key, delay)
		case err.Kind == Unavailable && (r.repeat || err.unsent) && !err.final && err.Status/100 != 3 && attempt < attempts:
			delay = backoff(attempt)
			attempt++
		default:
			return err.Error
		}
		if ctx.Err() != nil || time.Since(began)+delay > noMoreAfter {
			return err.Error
		}
		c.logger.DebugContext(ctx, "asking Fly again", "action", r.action, "after", delay, "error", err.Error)
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err.Error
		}
	}
}

// inPath are the parts of the path.
func (r request) inPath() []string { return strings.Split(strings.TrimPrefix(r.path, "/"), "/") }

// failure is an Error, and whether the request has been sent at all.
type failure struct {
	*Error
	unsent bool
	final  bool // it would not be sent next time either
}

// backoff is how long to wait after so many attempts: twice as long each time,
// and never the same for two that failed together.
func backoff(attempt int) time.Duration {
	d := 500 * time.Millisecond << min(attempt-1, 6)
	return d/2 + rand.N(d)
}

// once makes a request once.
func (c *Client) once(ctx context.Context, r request, body []byte, out any) *failure {
	limit := r.patience
	if limit == 0 {
		limit = patience
	}
	hide := c.hider(r)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	base := c.endpoints[r.service]
	target := base.String() + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	failed := func(kind Kind) *Error {
		return &Error{Kind: kind, Action: r.action, Method: r.method, Path: base.Path + r.path}
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, reader)
	if err != nil {
		e := failed(Invalid)
		e.Text = "it does not make an address"
		return &failure{Error: e}
	}
	req.Header.Set("Authorization", string(c.headers[r.service].Reveal()))
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.nonce != "" {
		req.Header.Set(leaseHeader, r.nonce)
	}
	if r.app != "" && r.service == machines {
		c.affinity.add(r.app, req)
	}
	began := time.Now()
	res, err := c.http.Do(req)
	if err != nil {
		c.onRequest(r.action, 0, time.Since(began))
		e := failed(Unavailable)
		e.Err = cause(ctx, hide, err)
		var kept *NotSent
		final := errors.As(err, &kept)
		unsent := final || neverSent(err)
		if !unsent && !r.repeat {
			e.Kind = Ambiguous
		}
		return &failure{Error: e, unsent: unsent, final: final}
	}
	defer res.Body.Close()
	if r.app != "" && r.service == machines {
		c.affinity.keep(r.app, res)
	}
	ok := res.StatusCode >= 200 && res.StatusCode < 300
	most := int64(maxErrorReply)
	if ok {
		most = maxReply
	}
	reply, readErr := io.ReadAll(io.LimitReader(res.Body, most+1))
	c.onRequest(r.action, res.StatusCode, time.Since(began))
	lost := func(err error) *failure { // it was done, and what it says is lost
		e := failed(Unavailable)
		if !r.repeat {
			e.Kind = Ambiguous
		}
		e.Status, e.RequestID, e.Err = res.StatusCode, requestID(res, hide), err
		return &failure{Error: e}
	}
	if !ok {
		if int64(len(reply)) > most {
			reply = reply[:most]
		}
		e := classify(r, res, reply, hide)
		e.Path = base.Path + r.path
		return &failure{Error: e}
	}
	switch {
	case readErr != nil:
		return lost(fmt.Errorf("the answer breaks off: %w", cause(ctx, hide, readErr)))
	case int64(len(reply)) > most:
		return lost(fmt.Errorf("the answer is larger than %d MiB", maxReply>>20))
	}
	if r.fails != nil {
		if err := r.fails(reply, hide); err != nil {
			var e *Error
			if !errors.As(err, &e) {
				return lost(err)
			}
			e.Action, e.Method, e.Path = r.action, r.method, base.Path+r.path
			e.Status, e.RequestID = res.StatusCode, requestID(res, hide)
			return &failure{Error: e}
		}
	}
	if out == nil {
		return nil
	}
	if r.holds != "" && !bytes.Contains(reply, []byte(`"`+r.holds+`"`)) {
		f := lost(fmt.Errorf("the answer holds no %q", r.holds))
		f.Field = r.holds
		if r.repeat && json.Valid(reply) {
			f.Kind = SchemaDrift
		}
		return f
	}
	// A second attempt must not find what the first one has left.
	reflect.ValueOf(out).Elem().SetZero()
	if err := json.Unmarshal(reply, out); err != nil {
		f := lost(errors.New("the answer is not JSON"))
		var mistyped *json.UnmarshalTypeError
		if errors.As(err, &mistyped) {
			f.Err = fmt.Errorf("the answer holds a %s where a %s is expected", mistyped.Value, mistyped.Type)
			f.Field = mistyped.Field
			if r.repeat {
				f.Kind = SchemaDrift
			}
		}
		return f
	}
	return nil
}

// neverSent tells of a request that did not leave: the write cannot have
// happened.
func neverSent(err error) bool {
	var dial *net.OpError
	var name *net.DNSError
	return errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &name)
}

// cause is why there is no answer, without what might give something away.
func cause(ctx context.Context, hide hider, err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) { // which holds the query
		err = inURL.Err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if text := err.Error(); hide(text) != text {
		return errors.New(hide(text))
	}
	return err
}

// hider takes out of a text what must not be told.
type hider func(string) string

// shortestHidden is the length of what is looked for: less is in any text.
const shortestHidden = 4

// hider knows the tokens, and what a request holds of secrets: as a whole, and
// line by line, as a complaint about a key would show it.
func (c *Client) hider(r request) hider {
	var pairs []string
	add := func(s string) {
		if len(s) >= shortestHidden {
			pairs = append(pairs, s, "[redacted]")
		}
	}
	for _, token := range c.tokens {
		add(string(token.Reveal()))
	}
	for _, s := range append([]string{r.nonce}, r.hide...) {
		add(s)
		if strings.Contains(s, "\n") {
			for line := range strings.Lines(s) {
				add(strings.TrimSpace(line))
			}
		}
	}
	return strings.NewReplacer(pairs...).Replace
}

func requestID(res *http.Response, hide hider) string {
	id := hide(res.Header.Get("fly-request-id"))
	if len(id) > 100 {
		id = id[:100]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, id)
}

// retryAfter reads how long Fly asks to wait.
func retryAfter(res *http.Response) time.Duration {
	text := res.Header.Get("Retry-After")
	var d time.Duration
	if seconds, err := strconv.Atoi(text); err == nil {
		d = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), maxRetryAfter)
}
