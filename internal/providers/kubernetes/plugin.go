package kubernetes

import (
	"fmt"
	"net/http"
)

// impatient ends requests with their context also where a credential plugin of
// the kubeconfig does not answer: client-go runs it without one. What is left
// behind ends with the plugin.
type impatient struct {
	next   http.RoundTripper
	plugin string
}

func (t *impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	type answer struct {
		resp *http.Response
		err  error
	}
	answers := make(chan answer)
	go func() {
		resp, err := t.next.RoundTrip(r)
		select {
		case answers <- answer{resp, err}:
		case <-r.Context().Done():
			if err == nil {
				_ = resp.Body.Close() // nobody waits for it
			}
		}
	}()
	select {
	case a := <-answers:
		return a.resp, a.err
	case <-r.Context().Done():
		return nil, fmt.Errorf("waited for the server, or for the credential plugin %s: %w", t.plugin, r.Context().Err())
	}
}

// CloseIdleConnections is what http.Client.CloseIdleConnections asks for.
func (t *impatient) CloseIdleConnections() {
	if inner, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		inner.CloseIdleConnections()
	}
}
