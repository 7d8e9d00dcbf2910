package kubernetes

import (
	"net/http"
	"strings"
	"sync"

	"forged.dev/forged/internal/reconcile"
)

// fence keeps a process whose lease has run out from writing: one that was
// stopped, or cut off, for so long that another one has taken over. It knows the
// leases that this process has held; where none ever was, nothing is refused.
type fence struct {
	mu     sync.Mutex
	leases map[inventoryKey]*lease
}

// environment refuses writes that belong to an environment.
func (f *fence) environment(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, l := range f.leases {
		if key.environment == name && l.lapsed() {
			return lapsedError(l)
		}
	}
	return nil
}

// request refuses a changing request, whoever sends it: Helm's SDK takes no
// context along. A namespace may hold several environments; which one a request
// is about is not in it, so it is refused when none of them may be acted on.
func (f *fence) request(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return nil
	}
	if r.URL.Query().Get("dryRun") != "" || strings.Contains(r.URL.Path, "/apis/coordination.k8s.io/") {
		return nil
	}
	namespace := namespaceOfPath(r.URL.Path)
	if namespace == "" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var refused error
	for key, l := range f.leases {
		if key.namespace != namespace {
			continue
		}
		if !l.lapsed() {
			return nil
		}
		refused = lapsedError(l)
	}
	return refused
}

func lapsedError(l *lease) error {
	return &reconcile.Error{
		Kind: reconcile.Stale, Op: "write",
		Err: errLapsed{}, Hint: "lease " + l.name() + " in namespace " + l.key.namespace + " says who acts now",
	}
}

type errLapsed struct{}

func (errLapsed) Error() string {
	return "the lease of this environment has run out: another forged may act on it"
}

// namespaceOfPath is the namespace a request is about.
func namespaceOfPath(path string) string {
	_, rest, ok := strings.Cut(path, "/namespaces/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}
