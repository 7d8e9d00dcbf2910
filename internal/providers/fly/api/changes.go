package api

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// Changes tells whether a request of a Client may change something. Most of
// what is posted does, but for queries of GraphQL and questions about room.
func Changes(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasSuffix(r.URL.Path, "/platform/placements") {
		return false
	}
	if r.GetBody == nil || !strings.HasSuffix(r.URL.Path, "/graphql") {
		return true
	}
	body, err := r.GetBody()
	if err != nil {
		return true
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return err != nil || bytes.Contains(text, []byte("mutation"))
}
