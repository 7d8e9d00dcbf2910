package certificates

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/reconcile"
)

// supplied is the mode in which somebody else fills the Secret. It is looked
// at and never written to.
type supplied struct{}

var secretsGVR = corev1.SchemeGroupVersion.WithResource("secrets")

// want implements mode.
func (supplied) want(context.Context, *scene) ([]objects.Object, error) { return nil, nil }

// tell implements mode.
func (supplied) tell(ctx context.Context, s *scene, o *reconcile.Observed) error {
	live, err := s.One(ctx, secretsGVR, s.spec.Namespace, s.spec.Secret)
	if err != nil {
		return err
	}
	name := "Secret " + s.spec.Namespace + "/" + s.spec.Secret
	o.Exists = live != nil
	if live == nil {
		s.all.Alarm(s.ID(), time.Time{})
		worse(o, reconcile.Failed, fmt.Sprintf("%s does not exist; to make it: %s --namespace %s create secret tls %s --cert=FILE --key=FILE",
			name, s.Cluster.Target().Kubectl(), s.spec.Namespace, s.spec.Secret))
		return nil
	}
	kind, _, _ := unstructured.NestedString(live.Object, "type")
	p := readPair(kind, dataOf(live))
	if trouble := p.trouble(s.spec.Hosts, s.now); trouble != "" {
		worse(o, reconcile.Failed, name+": "+trouble)
	}
	if p.remark != "" {
		notice(o, noticeChain, name, p.remark)
	}
	if p.leaf == nil {
		return nil
	}
	o.Expires = p.leaf.NotAfter
	o.Outputs[forge.OutputChecksum] = reconcile.Output{Value: fingerprint(p.leaf)}
	if left := o.Expires.Sub(s.now); left > 0 && left <= warnBefore {
		notice(o, noticeExpiring, name, "its certificate expires in "+hostcert.Away(left)+", on "+hostcert.Day(o.Expires)+"; put a new one in its place")
	}
	s.all.Alarm(s.ID(), nextOf(s.now, p.leaf.NotBefore.Add(-hostcert.Skew), o.Expires.Add(-warnBefore), o.Expires.Add(time.Second)))
	return nil
}

// nextOf is the first of some times that is still to come, zero if none is.
func nextOf(now time.Time, times ...time.Time) time.Time {
	var next time.Time
	for _, t := range times {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// elsewhere is the mode in which the certificate is where forged cannot look.
type elsewhere struct{}

// want implements mode.
func (elsewhere) want(context.Context, *scene) ([]objects.Object, error) { return nil, nil }

// tell implements mode.
func (elsewhere) tell(_ context.Context, s *scene, o *reconcile.Observed) error {
	o.Exists = true
	notice(o, noticeNotChecked, s.spec.Name, "the certificate is kept by AWS and is not checked: whether it is issued, for these hosts and in the region of the load balancer is to be seen there")
	return nil
}
