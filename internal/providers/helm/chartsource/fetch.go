package chartsource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"forged.dev/forged/internal/reconcile"
)

// userAgent is how servers see forged.
const userAgent = "forged"

// fetcher is one look at a registry or a repository.
type fetcher struct {
	*Source
	req    Request
	user   credentials
	before *found
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true, // digests are of what is sent
		ForceAttemptHTTP2:      true,
	}
}

func newClient(next http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: answers{next},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) >= 10:
				return errors.New("it redirects without end")
			case r.URL.Scheme != "https" && via[0].URL.Scheme == "https":
				return errors.New("it redirects to a connection without encryption")
			}
			return nil
		},
	}
}

// answers makes errors of answers that ask to come back later, so that no
// library in between takes them for something else.
type answers struct{ next http.RoundTripper }

// laterError is an answer that asks to come back later.
type laterError struct {
	code  int
	after time.Duration // 0: it does not say
}

func (e *laterError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.code, http.StatusText(e.code))
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.next.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500 {
		return resp, err
	}
	defer resp.Body.Close()
	later := &laterError{code: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		later.after = min(time.Duration(s)*time.Second, maxRetry)
	}
	return nil, later
}

// statusError is an answer without what was asked for.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.code, http.StatusText(e.code))
}

// failed gives an error of asking a server its kind. Its text has no query of
// an address, nor anything else that a server has made up.
func (f *fetcher) failed(what string, err error) error {
	var done *reconcile.Error
	if errors.As(err, &done) {
		return err
	}
	code := 0
	var answer *errcode.ErrorResponse
	var status *statusError
	var later *laterError
	var size *sizeError
	var address *url.Error
	out := &reconcile.Error{Kind: reconcile.Unavailable, Op: "load chart", Object: describe(f.req.ChartSource), Hint: "forged tries again by itself"}
	switch {
	case errors.As(err, &later):
		if later.after > 0 {
			out.Kind, out.After = reconcile.Throttled, later.after
		}
		err = later
	case errors.As(err, &answer):
		code = answer.StatusCode
		err = &statusError{code}
	case errors.As(err, &status):
		code = status.code
		err = status
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		code, err = http.StatusUnauthorized, &statusError{http.StatusUnauthorized}
	case errors.Is(err, errdef.ErrNotFound): // which is the answer 404, and nothing else
		code, err = http.StatusNotFound, &statusError{http.StatusNotFound}
	case errors.As(err, &size):
		out.Kind, out.Hint = reconcile.Invalid, ""
		err = size
	case errors.As(err, &address):
		err = address.Err
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		out.Kind, out.Hint = reconcile.Denied, "give it a username and a password that may read"
		if !f.user.isZero() {
			out.Hint = "look at its username and password"
		}
	case http.StatusNotFound:
		out.Kind, out.Hint = reconcile.Invalid, "look at the address and the version; some servers say so as well to who may not read"
	}
	out.Err = fmt.Errorf("%s: %w", what, err)
	return out
}

// get reads what lies at an address, with the credentials only where they
// belong.
func (f *fetcher) get(ctx context.Context, address string, most int64, header http.Header) ([]byte, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, nil, errors.New("its address cannot be read")
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("User-Agent", userAgent)
	if own, err := url.Parse(f.req.URL); err == nil && own.Scheme == r.URL.Scheme && own.Host == r.URL.Host && !f.user.isZero() {
		r.SetBasicAuth(string(f.user.username.Reveal()), string(f.user.password.Reveal()))
	}
	resp, err := f.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && header.Get("If-None-Match") != "":
		return nil, resp.Header, nil
	case resp.StatusCode != http.StatusOK:
		return nil, nil, &statusError{resp.StatusCode}
	case resp.ContentLength > most:
		return nil, nil, tooLarge(most)
	}
	b, err := readAll(resp.Body, most)
	return b, resp.Header, err
}

// sizeError is an answer that is larger than it may be.
type sizeError struct{ most int64 }

func (e *sizeError) Error() string { return fmt.Sprintf("it is larger than %d MiB", e.most>>20) }

func tooLarge(most int64) error { return &sizeError{most} }
