package helm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// admit reads an object that is about to be created and refuses it when it is
// there already and somebody else's: forged takes nothing over unasked.
func (c *client) admit(ctx context.Context, o object) error {
	live, err := c.h.cluster.Get(ctx, o.ref)
	if err != nil {
		return err
	}
	m, err := c.h.cluster.Mapping(ctx, o.ref.GVK)
	if err != nil {
		return err
	}
	var raw []byte
	if live != nil {
		if owner := c.foreign(live); owner != "" {
			return &reconcile.Error{
				Kind: reconcile.Conflict, ID: c.h.id, Object: o.ref.String(), Op: "create",
				Err:  fmt.Errorf("it is there already and %s", owner),
				Hint: "delete or rename it; forged takes nothing over unasked",
			}
		}
		if raw, err = live.MarshalJSON(); err != nil {
			return reconcile.Errorf(reconcile.Internal, "read "+o.ref.String(), "%v", err)
		}
	}
	c.mu.Lock()
	c.read[path(m, o.ref)] = raw
	c.mu.Unlock()
	return nil
}

// foreign says whose an object is; empty when it belongs to this release.
func (c *client) foreign(u *unstructured.Unstructured) string {
	if c.h.marked(u) {
		return ""
	}
	if owner := kubernetes.ForeignOwner(u, c.h.cluster.Instance()); owner != "" {
		return "belongs to " + owner
	}
	if f := u.GetManagedFields(); len(f) > 0 {
		return "was made by " + f[0].Manager
	}
	return "was made by somebody else"
}

// marked tells whether an object bears the marks of this release.
func (h *handle) marked(u *unstructured.Unstructured) bool {
	notes := u.GetAnnotations()
	return notes[annotationRelease] == h.spec.Name && notes[annotationReleaseNS] == h.spec.Namespace
}

// usurper says whose the object is that stands in the place of one of ours;
// empty when it is ours, or nobody's.
func (h *handle) usurper(e kubernetes.Entry, live *unstructured.Unstructured) string {
	if live == nil || string(live.GetUID()) == e.Baseline.UID || h.marked(live) {
		return ""
	}
	return kubernetes.ForeignOwner(live, h.cluster.Instance())
}

// undisturbed refuses to write over an object of another tool that stands in
// the place of one of ours.
func (h *handle) undisturbed(ctx context.Context, e kubernetes.Entry) error {
	s, err := h.cluster.Live(ctx, e.Ref)
	if err != nil || s.Exists && s.UID == e.Baseline.UID {
		return err
	}
	live, err := h.cluster.Get(ctx, e.Ref)
	if err != nil {
		return err
	}
	if owner := h.usurper(e, live); owner != "" {
		return &reconcile.Error{
			Kind: reconcile.Conflict, ID: h.id, Object: e.Ref.String(), Op: "apply",
			Err:  fmt.Errorf("another object stands in its place and belongs to %s", owner),
			Hint: "delete or rename it; forged takes nothing over unasked",
		}
	}
	return nil
}

func path(m *meta.RESTMapping, ref kubernetes.Ref) string {
	p := "/apis/" + m.Resource.Group + "/" + m.Resource.Version
	if m.Resource.Group == "" {
		p = "/api/" + m.Resource.Version
	}
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		p += "/namespaces/" + ref.Namespace
	}
	return p + "/" + m.Resource.Resource + "/" + ref.Name
}

// remembered answers the SDK's own look at existing objects with what admit
// has read a moment ago, side by side instead of one after the other.
type remembered struct {
	c    *client
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r *remembered) RoundTrip(req *http.Request) (*http.Response, error) {
	r.c.mu.Lock()
	raw, known := r.c.read[req.URL.Path]
	r.c.mu.Unlock()
	if req.Method != http.MethodGet || !known {
		return r.next.RoundTrip(req)
	}
	code := http.StatusOK
	if raw == nil {
		code = http.StatusNotFound
		status := &metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
		}
		var err error
		if raw, err = runtime.Encode(json.NewSerializerWithOptions(json.DefaultMetaFactory, nil, nil, json.SerializerOptions{}), status); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		Status: http.StatusText(code), StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(raw)),
		ContentLength: int64(len(raw)), Request: req,
	}, nil
}
