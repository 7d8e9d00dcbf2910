package flytest

import (
	"bytes"
	"io"
	"net/http"

	"forged.dev/forged/internal/flyemulator"
)

// ByHand is a way to Fly for somebody who may do everything: past its limits
// and its troubles, and not in its log.
func ByHand(e *flyemulator.Emulator) http.RoundTripper { return byHand{e} }

type byHand struct{ fly *flyemulator.Emulator }

// RoundTrip implements http.RoundTripper.
func (b byHand) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		defer r.Body.Close()
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	status, answer := b.fly.Drift(flyemulator.Drift{Method: r.Method, Path: r.URL.RequestURI(), Body: body})
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)),
	}, nil
}
