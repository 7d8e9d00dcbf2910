package fks

import (
	"io"
	"net/http"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// bearer puts a token on each request. One that is refused is replaced, and the
// request sent once more.
type bearer struct {
	next   http.RoundTripper
	tokens *tokens
}

// RoundTrip implements http.RoundTripper.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	body := r.Body
	for again := true; ; again = false {
		token, err := b.tokens.get(r.Context())
		if err != nil {
			if body != nil {
				body.Close()
			}
			return nil, err
		}
		with := r.Clone(r.Context())
		with.Body = body
		with.Header.Set("Authorization", "Bearer "+string(token.Reveal()))
		resp, err := b.next.RoundTrip(with)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode != http.StatusUnauthorized:
			if resp.StatusCode < http.StatusInternalServerError {
				b.tokens.accepted(token)
			}
			return resp, nil
		case !again || !b.tokens.refused(token):
			return resp, nil
		}
		if r.Body != nil && r.Body != http.NoBody {
			if r.GetBody == nil {
				return resp, nil
			}
			if body, err = r.GetBody(); err != nil {
				return resp, nil //nolint:nilerr // what was answered is what counts
			}
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
		_ = resp.Body.Close()
	}
}

// WrappedRoundTripper lets client-go find the transport below.
func (b *bearer) WrappedRoundTripper() http.RoundTripper { return b.next }

// CloseIdleConnections is what http.Client.CloseIdleConnections asks for.
func (b *bearer) CloseIdleConnections() { utilnet.CloseIdleConnectionsFor(b.next) }
