package kubernetes

import (
	"errors"
	"net/http"
	"testing"
)

func TestVerbs(t *testing.T) {
	const apply = "application/apply-patch+yaml"
	for _, tt := range []struct{ method, url, contentType, want string }{
		{"GET", "/api", "", "GET"},
		{"GET", "/apis", "", "GET"},
		{"GET", "/version", "", "GET"},
		{"GET", "/api/v1", "", "GET"},
		{"GET", "/apis/apps/v1", "", "GET"},
		{"GET", "/api/v1/namespaces", "", "LIST"},
		{"GET", "/api/v1/namespaces/x", "", "GET"},
		{"GET", "/api/v1/namespaces/x/secrets", "", "LIST"},
		{"GET", "/api/v1/namespaces/x/secrets/y", "", "GET"},
		{"GET", "/apis/apps/v1/deployments?labelSelector=a", "", "LIST"},
		{"GET", "/apis/apps/v1/deployments?watch=true", "", "WATCH"},
		{"GET", "/apis/apps/v1/namespaces/x/deployments?watch=1", "", "WATCH"},
		{"GET", "/k8s/clusters/c-1/apis/apps/v1/deployments", "", "LIST"},
		{"GET", "/apis/apps/v1/namespaces/x/deployments/y/scale", "", "GET"},
		{"POST", "/api/v1/namespaces", "", "CREATE"},
		{"PUT", "/api/v1/namespaces/x", "", "UPDATE"},
		{"DELETE", "/api/v1/namespaces/x", "", "DELETE"},
		{"PATCH", "/api/v1/namespaces/x", "application/json-patch+json", "PATCH"},
		{"PATCH", "/api/v1/namespaces/x?force=true", apply, "APPLY"},
		{"PATCH", "/api/v1/namespaces/x?force=true&dryRun=All", apply, "DRYRUN"},
		{"POST", "/api/v1/namespaces?dryRun=All", "", "DRYRUN"},
	} {
		r, err := http.NewRequest(tt.method, "https://server"+tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", tt.contentType)
		if got := verbOf(r); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.url, got, tt.want)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	var got []string
	var codes []int
	observe := func(verb string, code int) { got, codes = append(got, verb), append(codes, code) }
	answer := roundTripper(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 429}, nil })
	silence := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no answer") })
	r, err := http.NewRequest("GET", "https://server/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []http.RoundTripper{answer, silence} {
		resp, err := (&counting{next: next, observe: observe}).RoundTrip(r)
		if err == nil && resp.StatusCode != 429 {
			t.Error("the answer is lost")
		}
	}
	if len(got) != 2 || codes[0] != 429 || codes[1] != 0 {
		t.Errorf("%q %v, want 429 and 0", got, codes)
	}
}
