package fly

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// fence refuses changes to an environment whose lease this process has lost:
// one that was stopped for too long, and goes on in the middle of an action,
// must not write.
type fence struct {
	mu     sync.Mutex
	leases map[placeKey]*lease
}

// placeKey names an environment in an organization.
type placeKey struct{ org, environment string }

type actingKey struct{}

// acting is an action: where, and under which lease it began.
type acting struct {
	at    placeKey
	nonce string // empty: there was none
}

// Acting says that what is done with the context is done to an environment in
// this organization. An Apply begins with it, before it looks at anything:
// requests that change something are refused without the environment's lease,
// once there is one. A lease that was lost and had again is another one: who
// held it meanwhile may have changed what the action has seen.
func (o *Org) Acting(ctx context.Context, environment string) context.Context {
	return context.WithValue(ctx, actingKey{}, acting{placeKey{o.key, environment}, o.nonce(environment)})
}

// acting begins an action on a resource. It comes before anything is looked at.
func (a *Accounts) acting(ctx context.Context, r forge.Resource) (context.Context, error) {
	spec, ok := r.Spec.(forge.OnFly)
	if !ok {
		return ctx, &reconcile.Error{Kind: reconcile.Internal, ID: r.ID, Op: "apply", Err: fmt.Errorf("its spec is a %T", r.Spec)}
	}
	org, err := a.Open(ctx, spec.OnFly())
	if err != nil {
		return ctx, about(err, r.ID)
	}
	return org.Acting(ctx, r.ID.Environment), nil
}

// check is the refusal of a change; nil: it may be made.
func (f *fence) check(ctx context.Context) error {
	action, ok := ctx.Value(actingKey{}).(acting)
	if !ok {
		return nil // the lease itself
	}
	at := action.at
	f.mu.Lock()
	l := f.leases[at]
	f.mu.Unlock()
	if l == nil || l.heldAs(action.nonce) {
		return nil
	}
	return &reconcile.Error{
		Kind: reconcile.Unavailable, Op: "change", Object: "environment " + at.environment,
		Err:  fmt.Errorf("this forged lost the lease of the environment in the middle of an action"),
		Hint: "it goes on when it has the lease again; who has it now is in forged status",
	}
}

// over puts the fence before what sends requests.
func (f *fence) over(given *http.Client) *http.Client {
	var own http.Client
	if given != nil {
		own = *given
	}
	if own.Transport == nil {
		own.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	own.Transport = fenced{f, own.Transport}
	return &own
}

type fenced struct {
	fence *fence
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper. It is the last to see a request: after
// it has waited for its turn, and for each attempt.
func (t fenced) RoundTrip(r *http.Request) (*http.Response, error) {
	if api.Changes(r) {
		if err := cmp.Or(spared(r.URL.Path), t.fence.check(r.Context())); err != nil {
			return nil, &api.NotSent{Err: err}
		}
	}
	return t.next.RoundTrip(r)
}

// spared refuses changes to apps of Fly Kubernetes, whoever asks for them: only
// the certificates of host names in front of a cluster are ours there.
func spared(path string) error {
	_, at, _ := strings.Cut(path, "/v1/apps/")
	app, what, _ := strings.Cut(at, "/")
	if what == "certificates" || strings.HasPrefix(what, "certificates/") {
		return nil
	}
	return reserved(app)
}

// CloseIdleConnections lets http.Client find the method of what is behind.
func (t fenced) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
