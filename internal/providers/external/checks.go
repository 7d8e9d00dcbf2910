package external

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9/logging"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// causeAnswer is the cause of events about an answer that was asked for again.
const causeAnswer = "answer"

// Checks is the provider of kind "check": it asks services of somebody else
// whether they answer and let the app in. It changes nothing, and plans
// nothing; what it finds is the health of the resource.
type Checks struct {
	sources  sources
	schedule *schedule[answer]
}

var _ reconcile.Provider = (*Checks)(nil)

// NewChecks makes the provider. clusters are asked for references to Secrets.
func NewChecks(clusters *kubernetes.Clusters, resolver *secret.Resolver) *Checks {
	return newChecks(clusters, resolver, usualPace())
}

func newChecks(clusters *kubernetes.Clusters, resolver *secret.Resolver, p pace) *Checks {
	logging.Disable() // what the client of Redis has to say comes back as an error
	return &Checks{
		sources:  sources{clusters, resolver},
		schedule: newSchedule(p, causeAnswer, func(a answer) bool { return a.trouble == nil }),
	}
}

// Observe implements reconcile.Provider. The service is asked when there is no
// answer yet, or what is asked has changed.
func (p *Checks) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.CheckSpec)
	if !ok {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	if r.Remove {
		p.schedule.forget(id)
		p.sources.letGo(ctx, r.Resource)
		return reconcile.Observed{}, nil
	}
	l := p.sources.read(ctx, r, spec.Namespace, spec.URL, spec.CABundle, spec.APIKey, spec.ClientCert, spec.ClientKey)
	ask := p.question(ctx, l, spec)
	if l.err != nil {
		return reconcile.Observed{}, l.err
	}
	a, err := p.schedule.get(ctx, id, l.print, ask)
	if err != nil {
		return reconcile.Observed{}, kubernetes.Classify("ask "+spec.Service, kubernetes.Ref{}, err)
	}
	return reconcile.Observed{Exists: true, Health: a.health(), Notices: a.notices, Expires: a.expires}, nil
}

// question is what to ask, with everything that is needed for it.
func (p *Checks) question(ctx context.Context, l *reading, spec forge.CheckSpec) func(context.Context) answer {
	q := question{
		service: spec.Service, inside: spec.Namespace != "", limit: p.schedule.pace.limit, sslMode: spec.SSLMode,
		address: spec.Address, namespace: spec.TemporalNamespace, encrypted: spec.TLS,
	}
	for _, need := range l.request.Resource.Needs {
		if need.Kind == forge.KindRoles {
			q.roles = need.String()
		}
	}
	s := subject{service: spec.Service}
	q.url, q.bundle = l.line(ctx, q.field(), spec.URL), l.text(ctx, s.key("caBundle"), spec.CABundle)
	q.apiKey = l.line(ctx, s.key("apiKey"), spec.APIKey)
	q.cert, q.certKey = l.text(ctx, s.key("mtls.cert"), spec.ClientCert), l.text(ctx, s.key("mtls.key"), spec.ClientKey)
	for _, text := range []string{spec.Service, spec.SSLMode, spec.Address, spec.TemporalNamespace, fmt.Sprint(spec.TLS)} {
		l.note("", secret.New([]byte(text)))
	}
	ask := q.ask()
	if ask == nil && l.err == nil {
		l.err = &reconcile.Error{Kind: reconcile.Internal, ID: l.request.Resource.ID, Op: "observe", Err: fmt.Errorf("there is no check of %q", spec.Service)}
	}
	return ask
}

// Plan implements reconcile.Provider. There is never anything to do.
func (p *Checks) Plan(context.Context, reconcile.Request, reconcile.Observed) ([]reconcile.Step, error) {
	return nil, nil
}

// Apply implements reconcile.Provider.
func (p *Checks) Apply(_ context.Context, r reconcile.Request, _ reconcile.Step) (reconcile.Observed, error) {
	return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Internal, ID: r.Resource.ID, Op: "apply", Err: fmt.Errorf("a check changes nothing")}
}

// Watch implements reconcile.Provider: it asks again when it is time.
func (p *Checks) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return watchBoth(ctx, notify, p.schedule.watch, func(ctx context.Context, notify func(reconcile.Event)) error {
		return p.sources.clusters.Watch(ctx, forge.KindCheck, notify)
	})
}
