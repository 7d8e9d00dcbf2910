package certificates

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/providers/sights"
	"forged.dev/forged/internal/reconcile"
)

// Codes of notices.
const (
	noticeExpiring   = "expiring"    // somebody has to renew a certificate
	noticeChain      = "chain"       // certificates in a Secret are not in order
	noticeNotChecked = "not-checked" // forged cannot look at it
	noticeRenewal    = "renewal"     // a certificate that still holds is not renewed
	noticeController = "controller"  // whether somebody acts on an object cannot be told
)

// Options of the providers.
type Options struct {
	Clusters *kubernetes.Clusters
	Resolver Resolver         // of names; nil: the system's
	Now      func() time.Time // nil: time.Now
}

// Providers are those of this package. They share what they watch.
type Providers struct {
	Certificates reconcile.Provider // of forge.KindCertificate
	Issuers      reconcile.Provider // of forge.KindIssuer
	DNS          reconcile.Provider // of forge.KindDNS
}

// New makes the providers.
func New(o Options) Providers {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Resolver == nil {
		o.Resolver = systemResolver()
	}
	all := sights.New(o.Now)
	return Providers{
		Certificates: newCertificates(o, all), Issuers: newIssuers(o, all), DNS: newDNS(o, all),
	}
}

// mode is one way to a certificate.
type mode interface {
	want(context.Context, *scene) ([]objects.Object, error)
	tell(context.Context, *scene, *reconcile.Observed) error
}

// glance is one look of a resource at what it depends on.
type glance struct {
	*sights.Glance
	all *sights.Sights
}

func look(all *sights.Sights, c *kubernetes.Cluster, id forge.ID) *glance {
	return &glance{all.Glance(c, id), all}
}

// scene is one look at a certificate.
type scene struct {
	*objects.Look
	*glance
	spec forge.CertificateSpec
	now  time.Time
}

func (s *scene) ID() forge.ID { return s.Look.ID() }

type certificates struct {
	all    *sights.Sights
	now    func() time.Time
	signed *selfSigned
	modes  map[string]mode
}

func newCertificates(o Options, all *sights.Sights) reconcile.Provider {
	signed := newSelfSigned()
	p := &certificates{all: all, now: o.Now, signed: signed, modes: map[string]mode{
		forge.TLSSelfSigned:  signed,
		forge.TLSCertManager: certManager{},
		forge.TLSGKEManaged:  managed{},
		forge.TLSSecret:      supplied{},
		forge.TLSACM:         elsewhere{},
	}}
	return &checked{remark: p.remark, Provider: objects.New(o.Clusters, objects.Kind{
		Name: forge.KindCertificate,
		Namespace: func(s forge.Spec) (string, bool) {
			spec, ok := s.(forge.CertificateSpec)
			return spec.Namespace, ok
		},
		Gone: func(namespace string) forge.Spec { return forge.CertificateSpec{Namespace: namespace} },
		Want: p.want, Tell: p.tell, Stays: stays,
		Watch: func(ctx context.Context, notify func(reconcile.Event)) error {
			all.Watch(ctx, forge.KindCertificate, notify)
			return nil
		},
		Forget: func(r forge.Resource) {
			all.Forget(r.ID)
			signed.forget(r)
		},
	})}
}

func (p *certificates) scene(l *objects.Look) (*scene, mode, error) {
	spec, ok := l.Request.Resource.Spec.(forge.CertificateSpec)
	how := p.modes[spec.Mode]
	if !ok || how == nil {
		return nil, nil, &reconcile.Error{Kind: reconcile.Internal, Op: "observe", Err: fmt.Errorf("mode %q of a certificate is not known", spec.Mode)}
	}
	return &scene{Look: l, glance: look(p.all, l.Cluster, l.ID()), spec: spec, now: p.now()}, how, nil
}

func (p *certificates) want(ctx context.Context, l *objects.Look) ([]objects.Object, error) {
	s, how, err := p.scene(l)
	if err != nil {
		return nil, err
	}
	return how.want(ctx, s)
}

func (p *certificates) tell(ctx context.Context, l *objects.Look, o *reconcile.Observed) error {
	s, how, err := p.scene(l)
	if err != nil {
		return err
	}
	if err := how.tell(ctx, s, o); err != nil {
		return err
	}
	s.Done()
	return nil
}

// remark adds to steps what only the mode knows.
func (p *certificates) remark(l *objects.Look, steps []reconcile.Step) error {
	s, how, err := p.scene(l)
	if err != nil {
		return err
	}
	if how == mode(p.signed) {
		for i := range steps {
			p.signed.remark(s, &steps[i])
		}
	}
	return nil
}

// stays tells of the Secret that forged has kept a certificate in: where
// somebody else fills it now, it is not deleted.
func stays(l *objects.Look, ref kubernetes.Ref) bool {
	spec, ok := l.Request.Resource.Spec.(forge.CertificateSpec)
	return ok && ref.GVK.Group == "" && ref.GVK.Kind == "Secret" && ref.Namespace == spec.Namespace && ref.Name == spec.Secret
}

// object makes a manifest of ours.
func object(apiVersion, kind, namespace, name string, labels map[string]string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	if namespace != "" {
		obj.SetNamespace(namespace)
	}
	obj.SetName(name)
	if len(labels) > 0 {
		obj.SetLabels(labels)
	}
	return obj
}

// texts makes a list of texts one of a manifest.
func texts(list []string) []any {
	all := make([]any, 0, len(list))
	for _, text := range list {
		all = append(all, text)
	}
	return all
}

// judge begins to say how an object is, of which more is known here than its
// conditions tell everybody.
func judge(o *reconcile.Observed) { o.Health = reconcile.Health{Status: reconcile.Ready} }

// worse counts a health besides what is known already.
func worse(o *reconcile.Observed, status reconcile.HealthStatus, message string) {
	o.Health = objects.Worse(o.Health, reconcile.Health{Status: status, Message: message})
}

func notice(o *reconcile.Observed, code, object, message string) {
	o.Notices = append(o.Notices, reconcile.Notice{Code: code, Object: object, Message: message})
}
