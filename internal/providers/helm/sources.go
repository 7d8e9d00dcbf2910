package helm

import (
	"context"
	"encoding/base64"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// wanted asks for the chart of the user that a release is made of. keep is the
// version that runs. Where nothing new is to be rolled out, nothing new is
// looked for.
func (p *Provider) wanted(req reconcile.Request, spec forge.ReleaseSpec, keep string) chartsource.Request {
	r := chartsource.Request{ChartSource: *spec.Source, MaxAge: req.Policy.Interval, Keep: keep}
	if req.Policy.Mode == forge.ModeHeal {
		r.MaxAge = 0
	}
	r.Secret = func(ctx context.Context, ref forge.SecretRef) (secret.Value, error) {
		switch {
		case ref.Kubernetes != nil:
			return p.secretOf(ctx, req.Resource.Target, spec.Namespace, *ref.Kubernetes)
		case p.secret == nil:
			return secret.Value{}, reconcile.Errorf(reconcile.Invalid, "load chart", "nothing here reads secrets")
		}
		return p.secret(ctx, ref)
	}
	return r
}

// secretOf reads one line of a Secret of somebody else, once: it is needed
// where a registry is asked, and then only.
func (p *Provider) secretOf(ctx context.Context, target forge.Target, namespace string, k forge.KubernetesRef) (secret.Value, error) {
	if k.Namespace != "" {
		namespace = k.Namespace
	}
	ref := kubernetes.Ref{GVK: corev1.SchemeGroupVersion.WithKind("Secret"), Namespace: namespace, Name: k.Name}
	c, err := p.clusters.Cluster(ctx, target)
	if err != nil {
		return secret.Value{}, err
	}
	live, err := c.Get(ctx, ref)
	if err != nil {
		return secret.Value{}, err
	}
	invalid := func(err error) error {
		return &reconcile.Error{
			Kind: reconcile.Invalid, Op: "log in to load a chart: read", Object: ref.String(), Err: err,
			Hint: "a chart is loaded before anything is made, so the Secret has to be there already",
		}
	}
	if live == nil {
		return secret.Value{}, invalid(fmt.Errorf("it does not exist"))
	}
	text, found, err := unstructured.NestedString(live.Object, "data", k.Key)
	if err != nil || !found {
		return secret.Value{}, invalid(fmt.Errorf("it has no key %s", k.Key))
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return secret.Value{}, invalid(fmt.Errorf("key %s is not base64", k.Key))
	}
	v, err := secret.Clean(raw)
	if err == nil {
		err = secret.OneLine(v)
	}
	if err != nil {
		return secret.Value{}, invalid(fmt.Errorf("key %s %w", k.Key, err))
	}
	return v, nil
}

// unloaded says of a release that runs that its chart cannot be had. It is no
// error of the release: what runs is looked after all the same, and at once.
func (s *seen) unloaded() []reconcile.Step {
	if !s.desired.unloaded {
		return nil
	}
	return []reconcile.Step{{
		ID: s.h.id, Action: reconcile.ActionUpdate, Object: s.object(), Token: s.token("none"),
		Reason:  reconcile.Reason{Code: reconcile.ReasonConfig, Text: "its chart cannot be loaded"},
		Blocked: s.desired.missing.Error(),
	}}
}
