package kubernetes

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ForeignOwner tells who else manages an object, by the marks that tools
// leave: "Helm release shop/app". It is empty for an object without marks and
// for one of our own.
func ForeignOwner(obj *unstructured.Unstructured, instance string) string {
	labels, annotations := obj.GetLabels(), obj.GetAnnotations()
	switch {
	case labels[LabelInstance] == instance && instance != "":
		return ""
	case labels[LabelInstance] != "":
		return "another forged, " + labels[LabelInstance]
	case annotations["meta.helm.sh/release-name"] != "":
		return fmt.Sprintf("Helm release %s/%s", annotations["meta.helm.sh/release-namespace"], annotations["meta.helm.sh/release-name"])
	case labels["kustomize.toolkit.fluxcd.io/name"] != "":
		return fmt.Sprintf("Flux kustomization %s/%s", labels["kustomize.toolkit.fluxcd.io/namespace"], labels["kustomize.toolkit.fluxcd.io/name"])
	case labels["helm.toolkit.fluxcd.io/name"] != "":
		return fmt.Sprintf("Flux release %s/%s", labels["helm.toolkit.fluxcd.io/namespace"], labels["helm.toolkit.fluxcd.io/name"])
	case annotations["argocd.argoproj.io/tracking-id"] != "":
		return "Argo CD, " + annotations["argocd.argoproj.io/tracking-id"]
	case labels["argocd.argoproj.io/instance"] != "":
		return "Argo CD application " + labels["argocd.argoproj.io/instance"]
	case labels["kapp.k14s.io/app"] != "":
		return "kapp app " + labels["kapp.k14s.io/app"]
	}
	for _, o := range obj.GetOwnerReferences() {
		if o.Controller != nil && *o.Controller {
			return o.Kind + " " + o.Name
		}
	}
	return ""
}
