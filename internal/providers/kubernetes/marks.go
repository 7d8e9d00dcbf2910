package kubernetes

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Marks that other tools put on what they manage.
const (
	annotationHelmRelease   = "meta.helm.sh/release-name"
	annotationHelmNamespace = "meta.helm.sh/release-namespace"

	labelFluxKustomization   = "kustomize.toolkit.fluxcd.io/name"
	labelFluxKustomizationNS = "kustomize.toolkit.fluxcd.io/namespace"
	labelFluxRelease         = "helm.toolkit.fluxcd.io/name"
	labelFluxReleaseNS       = "helm.toolkit.fluxcd.io/namespace"

	annotationArgoTracking = "argocd.argoproj.io/tracking-id"
	annotationArgoInstall  = "argocd.argoproj.io/installation-id"
	labelArgoInstance      = "argocd.argoproj.io/instance"
	managerArgo            = "argocd-controller"

	labelKappApp         = "kapp.k14s.io/app"
	labelKappAssociation = "kapp.k14s.io/association"
	annotationKappID     = "kapp.k14s.io/identity"

	labelApplySet = "applyset.kubernetes.io/part-of"
)

// foreignLabels and foreignAnnotations are all of them. They go when an object
// is taken over, so that the tool they name lets go of it too.
var (
	foreignLabels = []string{
		labelFluxKustomization, labelFluxKustomizationNS, labelFluxRelease, labelFluxReleaseNS,
		labelArgoInstance, labelKappApp, labelKappAssociation, labelApplySet,
	}
	foreignAnnotations = []string{
		annotationHelmRelease, annotationHelmNamespace, annotationArgoTracking, annotationArgoInstall, annotationKappID,
	}
)

// deployers are the field managers of tools that send whole manifests. What
// they hold of an object that is taken over becomes ours, so that fields of
// their manifest which ours does not have go.
var deployers = []string{
	"kubectl-client-side-apply", managerHelm,
	"kustomize-controller", "helm-controller", // Flux
	managerArgo, "kapp",
}

// ForeignOwner tells who else manages an object, by the marks that tools
// leave: "Helm release shop/app". It is empty for an object without marks and
// for one of our own.
func ForeignOwner(obj *unstructured.Unstructured, instance string) string {
	if mine := obj.GetLabels()[LabelInstance]; mine != "" {
		if mine == instance {
			return ""
		}
		return "another forged, " + mine
	}
	if tool := toolOf(obj); tool != "" {
		return tool
	}
	return controllerOf(obj)
}

// toolOf reads the marks of other tools. Flux and Argo CD install charts too,
// so their marks count before Helm's.
func toolOf(obj *unstructured.Unstructured) string {
	labels, annotations := obj.GetLabels(), obj.GetAnnotations()
	named := func(what, namespace, name string) string {
		if namespace == "" {
			return what + " " + name
		}
		return fmt.Sprintf("%s %s/%s", what, namespace, name)
	}
	switch {
	case labels[labelFluxKustomization] != "":
		return named("Flux Kustomization", labels[labelFluxKustomizationNS], labels[labelFluxKustomization])
	case labels[labelFluxRelease] != "":
		return named("Flux HelmRelease", labels[labelFluxReleaseNS], labels[labelFluxRelease])
	case annotations[annotationArgoTracking] != "":
		// app:group/kind:namespace/name
		app, _, _ := strings.Cut(annotations[annotationArgoTracking], ":")
		return "Argo CD application " + app
	case labels[labelArgoInstance] != "":
		return "Argo CD application " + labels[labelArgoInstance]
	case labels["app.kubernetes.io/instance"] != "" && managedBy(obj, managerArgo):
		// How Argo CD tracks unless told otherwise; by itself the label is anybody's.
		return "Argo CD application " + labels["app.kubernetes.io/instance"]
	case annotations[annotationHelmRelease] != "":
		return named("Helm release", annotations[annotationHelmNamespace], annotations[annotationHelmRelease])
	case labels[labelKappApp] != "":
		return "kapp app " + labels[labelKappApp]
	case labels[labelApplySet] != "":
		return "kubectl's apply set " + labels[labelApplySet]
	}
	return ""
}

func managedBy(obj metav1.Object, manager string) bool {
	return slices.ContainsFunc(obj.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == manager })
}

// controllerOf names the object that controls this one, and would make it anew
// or undo what is written to it.
func controllerOf(obj metav1.Object) string {
	for _, o := range obj.GetOwnerReferences() {
		if o.Controller != nil && *o.Controller {
			return o.Kind + " " + o.Name
		}
	}
	return ""
}
