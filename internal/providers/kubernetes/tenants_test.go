package kubernetes

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// A kind that goes after it was discovered and before it is listed keeps nobody
// from knowing what is in a namespace; one that is served and cannot be listed
// does.
func TestKindThatGoesWhileItIsListed(t *testing.T) {
	b := newBed(t)
	var left atomic.Int64
	b.clusters.Close()
	b.begin(func(*Options) {}, func(cs *Clusters) {
		cs.wrap = func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if !strings.HasSuffix(r.URL.Path, "/namespaces/"+b.Namespace+"/services") || left.Add(-1) < 0 {
					return next.RoundTrip(r)
				}
				return &http.Response{
					StatusCode: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/plain"}},
					Body: io.NopCloser(strings.NewReader("404 page not found\n")), Request: r, ProtoMajor: 2,
				}, nil
			})
		}
	})
	b.foreign("theirs", `{}`)
	left.Store(1)
	found, _, err := b.c.tenants(t.Context(), b.Namespace, "prod")
	if err != nil || !slices.ContainsFunc(found, func(r Ref) bool { return r.Name == "theirs" }) {
		t.Errorf("found %v, %v", found, err)
	}
	left.Store(1000)
	if found, _, err := b.c.tenants(t.Context(), b.Namespace, "prod"); err == nil {
		t.Errorf("it is served, cannot be listed, and found are %v", found)
	}
}
