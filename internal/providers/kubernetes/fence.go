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
	acted  map[string]bool // environments that this process was told to change, and has
}

// environment refuses writes that belong to an environment. One that has moved
// has a lease in each of its namespaces, and the old one may go before the rest:
// it is refused when none of them may be counted on.
func (f *fence) environment(name string) error {
	return f.refusal(func(key inventoryKey) bool { return key.environment == name })
}

// inventory refuses writes of one inventory.
func (f *fence) inventory(key inventoryKey) error {
	return f.refusal(func(other inventoryKey) bool { return other == key })
}

func (f *fence) refusal(concerns func(inventoryKey) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var refused error
	for key, l := range f.leases {
		if !concerns(key) {
			continue
		}
		if !l.lapsed() {
			return nil
		}
		refused = lapsedError(l)
	}
	return refused
}

// act notes that an environment is being changed.
func (f *fence) act(environment string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acted[environment] = true
}

// acts tells whether this process changes an environment, and so may write down
// what it has noticed besides: who only looks writes nothing at all.
func (f *fence) acts(key inventoryKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.leases[key]
	return l == nil && f.acted[key.environment] || l != nil && !l.lapsed()
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
	return f.refusal(func(key inventoryKey) bool { return key.namespace == namespace })
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
