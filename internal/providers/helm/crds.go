package helm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

const (
	crdKind = "CustomResourceDefinition"
	// crdTimeout bounds the wait for a definition to be served.
	crdTimeout = time.Minute
)

var crdResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// crds are the definitions that come with a chart beside its templates. They
// are shared by all who use their kinds, in every namespace: forged makes what
// is missing and leaves what is there alone, whoever made it; it never changes
// nor deletes one.
type crds []*unstructured.Unstructured

// readCRDs reads what lies in a chart's directory crds/.
func readCRDs(files []chart.CRD) (crds, error) {
	var all crds
	for _, f := range files {
		objs, err := parseManifest("---\n# Source: " + f.Filename + "\n" + string(f.File.Data))
		if err != nil {
			return nil, err
		}
		for _, o := range objs {
			if o.GetKind() != crdKind || o.GroupVersionKind().Group != crdResource.Group {
				return nil, reconcile.Errorf(reconcile.Invalid, "read "+f.Filename, "%s %s is no %s", o.GetKind(), o.GetName(), crdKind)
			}
			if o.GroupVersionKind().Version != crdResource.Version {
				return nil, reconcile.Errorf(reconcile.Invalid, "read "+f.Filename, "%s is of %s, which no cluster serves any more", o.GetName(), o.GetAPIVersion())
			}
			all = append(all, o.Unstructured)
		}
	}
	return all, nil
}

// definedBy are the definitions among objects of a manifest.
func definedBy(objs []parsed) crds {
	var all crds
	for _, o := range objs {
		if o.GetKind() == crdKind && o.GroupVersionKind().Group == crdResource.Group {
			all = append(all, o.Unstructured)
		}
	}
	return all
}

// definitionsIn are the definitions among the objects of an action.
func definitionsIn(objs []object) (crds, error) {
	var all crds
	for _, o := range objs {
		if o.ref.GVK.Kind != crdKind || o.ref.GVK.Group != crdResource.Group {
			continue
		}
		d, err := o.unstructured()
		if err != nil {
			return nil, reconcile.Errorf(reconcile.Internal, "read "+o.ref.String(), "%v", err)
		}
		all = append(all, d)
	}
	return all, nil
}

// versions are the API versions and kinds that the definitions bring, as a
// chart asks for them.
func (c crds) versions() []string {
	var all []string
	for _, d := range c {
		group, _, _ := unstructured.NestedString(d.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(d.Object, "spec", "names", "kind")
		for _, v := range served(d) {
			all = append(all, group+"/"+v, group+"/"+v+"/"+kind)
		}
	}
	return all
}

func served(d *unstructured.Unstructured) []string {
	var names []string
	versions, _, _ := unstructured.NestedSlice(d.Object, "spec", "versions")
	for _, v := range versions {
		m, ok := v.(map[string]any)
		if on, _ := m["served"].(bool); ok && on {
			name, _ := m["name"].(string)
			names = append(names, name)
		}
	}
	return names
}

// mapping is where objects of a kind will be found once its definition is
// there; nil if none of these defines it.
func (c crds) mapping(gvk schema.GroupVersionKind) *meta.RESTMapping {
	for _, d := range c {
		group, _, _ := unstructured.NestedString(d.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(d.Object, "spec", "names", "kind")
		plural, _, _ := unstructured.NestedString(d.Object, "spec", "names", "plural")
		if group != gvk.Group || kind != gvk.Kind || !slices.Contains(served(d), gvk.Version) {
			continue
		}
		m := &meta.RESTMapping{Resource: gvk.GroupVersion().WithResource(plural), GroupVersionKind: gvk, Scope: meta.RESTScopeRoot}
		if scope, _, _ := unstructured.NestedString(d.Object, "spec", "scope"); scope == "Namespaced" {
			m.Scope = meta.RESTScopeNamespace
		}
		return m
	}
	return nil
}

// missing are the definitions that the cluster does not have. Of those it has,
// told says which cannot do what the chart expects of them.
func (h *handle) missingCRDs(ctx context.Context, all crds) (missing crds, told []reconcile.Notice, err error) {
	for _, d := range all {
		live, err := h.cluster.Get(ctx, kubernetes.RefOf(d))
		if err != nil {
			return nil, nil, err
		}
		if live == nil {
			missing = append(missing, d)
			continue
		}
		have := served(live)
		for _, v := range served(d) {
			if !slices.Contains(have, v) {
				told = append(told, reconcile.Notice{
					Code: "crd-outdated", Object: crdKind + " " + d.GetName(),
					Message: fmt.Sprintf("it serves %s, the chart brings one with %s as well; forged does not change it, since others may use it: "+
						"apply the chart's own when all are ready for it", strings.Join(have, ", "), v),
				})
			}
		}
	}
	return missing, told, nil
}

// makeCRDs makes the definitions that are missing and waits until the API
// server serves their kinds.
func (h *handle) makeCRDs(ctx context.Context, all crds) error {
	missing, _, err := h.missingCRDs(ctx, all)
	if err != nil {
		return err
	}
	for _, d := range missing {
		ref := kubernetes.RefOf(d)
		d = d.DeepCopy()
		if _, err := kubernetes.Normalise(d); err != nil {
			return err
		}
		_, err := h.cluster.Dynamic().Resource(crdResource).Create(ctx, d, metav1.CreateOptions{FieldManager: h.cluster.Manager()})
		if err != nil && !apierrors.IsAlreadyExists(err) { // somebody was faster
			return kubernetes.Classify("create", ref, err)
		}
	}
	return h.served(ctx, all)
}

// served waits until the kinds of definitions can be used: those just made, and
// those that somebody else is making. What another forged was killed over is
// waited for here as well.
func (h *handle) served(ctx context.Context, all crds) error {
	ctx, cancel := context.WithTimeout(ctx, crdTimeout)
	defer cancel()
	for _, d := range all {
		ref := kubernetes.RefOf(d)
		why := "it is not there"
		err := wait.PollUntilContextCancel(ctx, crdPoll, true, func(ctx context.Context) (bool, error) {
			live, err := h.cluster.Get(ctx, ref)
			if err != nil || live == nil {
				return false, err
			}
			var ok bool
			ok, why = established(live)
			if ok && why != "" {
				return false, &reconcile.Error{Kind: reconcile.Conflict, ID: h.id, Object: ref.String(), Op: "create", Err: fmt.Errorf("%s", why)}
			}
			return ok, nil
		})
		if err != nil && reconcile.KindOf(err) == reconcile.Internal {
			err = &reconcile.Error{Kind: reconcile.Unavailable, ID: h.id, Object: ref.String(), Op: "wait for", Err: fmt.Errorf("the API server does not serve it: %s", why)}
		}
		if err != nil {
			return err
		}
	}
	if len(all) > 0 && !h.known(ctx, all) {
		h.cluster.ResetDiscovery()
	}
	// Discovery follows the condition by a moment.
	for _, d := range all {
		err := wait.PollUntilContextCancel(ctx, crdPoll, true, func(ctx context.Context) (bool, error) {
			return h.known(ctx, crds{d}), nil
		})
		if err != nil {
			return &reconcile.Error{Kind: reconcile.Unavailable, ID: h.id, Object: kubernetes.RefOf(d).String(), Op: "wait for", Err: fmt.Errorf("its kind is not served")}
		}
	}
	return nil
}

const crdPoll = 100 * time.Millisecond

// known tells whether all kinds of definitions are found.
func (h *handle) known(ctx context.Context, all crds) bool {
	for _, d := range all {
		group, _, _ := unstructured.NestedString(d.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(d.Object, "spec", "names", "kind")
		some := false
		for _, v := range served(d) {
			_, err := h.cluster.Mapping(ctx, schema.GroupVersionKind{Group: group, Version: v, Kind: kind})
			some = some || err == nil
		}
		if !some {
			return false
		}
	}
	return true
}

// established tells whether a definition is in use, or, with a reason, that it
// never will be.
func established(d *unstructured.Unstructured) (ok bool, why string) {
	why = "it is not established yet"
	conditions, _, _ := unstructured.NestedSlice(d.Object, "status", "conditions")
	for _, c := range conditions {
		m, isMap := c.(map[string]any)
		if !isMap {
			continue
		}
		switch {
		case m["type"] == "Established" && m["status"] == "True":
			return true, ""
		case m["type"] == "NamesAccepted" && m["status"] == "False":
			return true, fmt.Sprint(m["message"])
		}
	}
	return false, why
}
