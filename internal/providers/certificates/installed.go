package certificates

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/providers/sights"
	"forged.dev/forged/internal/reconcile"
)

var (
	crdsGVR        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	deploymentsGVR = appsv1.SchemeGroupVersion.WithResource("deployments")
)

// Labels that every way to install cert-manager puts on its Deployments.
const (
	labelComponent    = "app.kubernetes.io/component"
	managerSelector   = "app.kubernetes.io/name in (cert-manager, webhook)," + labelComponent + " in (controller, webhook)"
	componentDoing    = "controller"
	componentChecking = "webhook"
)

// served tells whether the cluster serves a kind: its definition is there,
// established, and has the version. It is watched, so that what had to wait for
// it goes on by itself.
func (g *glance) served(ctx context.Context, gvr schema.GroupVersionResource) (bool, error) {
	crd, err := g.One(ctx, crdsGVR, "", gvr.GroupResource().String())
	switch {
	case err != nil && reconcile.KindOf(err) == reconcile.Denied:
		return g.listed(ctx, gvr)
	case err != nil || crd == nil:
		return false, err
	}
	if c := condition(crd, "Established"); c["status"] != "True" {
		return false, nil
	}
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	return slices.ContainsFunc(versions, func(v any) bool {
		version, _ := v.(map[string]any)
		return version["name"] == gvr.Version && version["served"] == true
	}), nil
}

// listed looks for a kind where everybody may: in what the API server says that
// it serves. Nothing tells when that changes, so that what is missing comes with
// the next look only.
func (g *glance) listed(ctx context.Context, gvr schema.GroupVersionResource) (bool, error) {
	for range 2 {
		_, apis, err := g.Cluster().Discovery(ctx)
		if err != nil {
			return false, err
		}
		if slices.Contains(apis, gvr.GroupVersion().String()) {
			return true, nil
		}
		g.Cluster().ResetDiscovery()
	}
	return false, nil
}

// needsManager is an error unless cert-manager's kinds are served. That alone
// does not mean that somebody acts on them: see managerTrouble.
func (g *glance) needsManager(ctx context.Context, gvr schema.GroupVersionResource) error {
	is, err := g.served(ctx, gvr)
	if err != nil || is {
		return err
	}
	return &reconcile.Error{
		Kind: reconcile.Invalid, Op: "find cert-manager",
		Err: fmt.Errorf("it is not installed in cluster %s: there is no CustomResourceDefinition %s with version %s", g.Cluster().Target().Context, gvr.GroupResource(), gvr.Version),
		Hint: "install it: helm --kube-context " + g.Cluster().Target().Context +
			" install cert-manager oci://quay.io/jetstack/charts/cert-manager --namespace cert-manager --create-namespace --set crds.enabled=true; forged goes on when it is there",
	}
}

// managerTrouble says what keeps cert-manager from acting: its Deployments are
// found by their labels, in any namespace. found tells whether there is one at
// all; a pod somewhere is no proof.
func (g *glance) managerTrouble(ctx context.Context) (trouble string, found bool, err error) {
	deployments, err := g.Many(ctx, deploymentsGVR, "", managerSelector)
	switch {
	case err == nil:
	case reconcile.KindOf(err) == reconcile.Denied:
		deployments = nil // who may not look does not find any
	default:
		return "", false, err
	}
	slices.SortFunc(deployments, func(a, b *unstructured.Unstructured) int {
		return strings.Compare(sights.KeyOf(a).String(), sights.KeyOf(b).String())
	})
	running := map[string]bool{}
	for _, d := range deployments {
		component := d.GetLabels()[labelComponent]
		c := condition(d, string(appsv1.DeploymentAvailable))
		if c["status"] == "True" {
			running[component] = true
			continue
		}
		if trouble == "" {
			trouble = fmt.Sprintf("cert-manager does not work: Deployment %s is not available", sights.KeyOf(d))
			if message, _ := c["message"].(string); message != "" {
				trouble += ": " + sentence(message)
			}
		}
	}
	found = slices.ContainsFunc(deployments, func(d *unstructured.Unstructured) bool { return d.GetLabels()[labelComponent] == componentDoing })
	if running[componentDoing] && (running[componentChecking] || !slices.ContainsFunc(deployments, func(d *unstructured.Unstructured) bool {
		return d.GetLabels()[labelComponent] == componentChecking
	})) {
		trouble = "" // one that is not is of another installation
	}
	return trouble, found, nil
}

// nobody is what is said where no Deployment of cert-manager was found.
const nobody = "no Deployment with the labels of cert-manager's controller (app.kubernetes.io/name=cert-manager, app.kubernetes.io/component=controller) is found in any namespace"

// condition is one of an object's status; nil if it has none of the type.
func condition(obj *unstructured.Unstructured, kind string) map[string]any {
	if obj == nil {
		return nil
	}
	list, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == kind {
			return c
		}
	}
	return nil
}

// holds tells whether a condition is true of what the object is now.
func holds(obj *unstructured.Unstructured, kind string) bool {
	c := condition(obj, kind)
	of, told := c["observedGeneration"].(int64)
	return c["status"] == "True" && (!told || of >= obj.GetGeneration())
}

// words are a condition's reason and message.
func words(c map[string]any) string {
	reason, _ := c["reason"].(string)
	message, _ := c["message"].(string)
	switch {
	case message == "":
		return reason
	case reason == "":
		return sentence(message)
	default:
		return reason + ": " + sentence(message)
	}
}

// sentence makes a text of somebody else one line of bearable length.
func sentence(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strings.TrimSuffix(s, ".")
}

// checked asks the API server, before something new is applied, whether it
// would take it. For objects of cert-manager that asks its webhook: one that
// does not answer is told apart from one that refuses, and nothing is begun.
type checked struct {
	*objects.Provider
	remark func(*objects.Look, []reconcile.Step) error // adds to what is planned; may be nil
}

// Plan implements reconcile.Provider.
func (p *checked) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	steps, err := p.Provider.Plan(ctx, r, o)
	l, ok := o.Detail.(*objects.Look)
	if err != nil || !ok || r.Remove {
		return steps, err
	}
	if slices.ContainsFunc(steps, beginning) {
		for _, want := range l.Objects {
			if want.Ref().GVK.Group == "" {
				continue // the API server checks it by itself
			}
			if _, err := l.Cluster.DryRun(ctx, want.Manifest); err != nil {
				return nil, kubernetes.About(webhookError(err), r.Resource.ID)
			}
		}
	}
	if p.remark == nil {
		return steps, nil
	}
	return steps, p.remark(l, steps)
}

// beginning tells steps that bring in something new.
func beginning(s reconcile.Step) bool {
	return s.Rollout() && s.Blocked == "" && s.Action != reconcile.ActionDelete && s.Action != reconcile.ActionForget
}

// webhookError names a webhook that does not answer.
func webhookError(err error) error {
	var e *reconcile.Error
	if errors.As(err, &e) && e.Err != nil && strings.Contains(e.Err.Error(), "failed calling webhook") {
		silent := *e
		silent.Kind = reconcile.Unavailable
		silent.Hint = "its Deployment may be starting, or no network way leads from the API server to it; it is tried again"
		return &silent
	}
	return err
}
