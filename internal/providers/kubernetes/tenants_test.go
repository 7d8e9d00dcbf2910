package kubernetes

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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

// What is being deleted is no content, although something holds it for a while;
// but for custom resources, whose controllers may need the namespace for that.
func TestWhatIsBeingDeletedIsNoContent(t *testing.T) {
	b := newBed(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	held := []string{"test.forged.dev/hold"}
	services := b.Client.CoreV1().Services(b.Namespace)
	_, err := services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Finalizers: held}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	must(err)
	names := func() (all []string) {
		found, _, err := b.c.tenants(t.Context(), b.Namespace, "prod")
		must(err)
		for _, r := range found {
			all = append(all, r.Name)
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("found %v", got)
	}
	must(services.Delete(t.Context(), "web", metav1.DeleteOptions{}))
	if got := names(); len(got) > 0 {
		t.Errorf("found %v", got)
	}
	now := metav1.Now()
	item := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "db", DeletionTimestamp: &now}}
	if going(schema.GroupResource{Group: "postgresql.cnpg.io", Resource: "clusters"}, item) {
		t.Error("a custom resource that is being deleted needs its namespace")
	}
	_, err = services.Patch(t.Context(), "web", merge, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	must(err)
}
