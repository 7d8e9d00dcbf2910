package rbac

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"forged.dev/forged/internal/forge"
)

// kind is how the API knows a kind of objects.
type kind struct {
	resource  string
	clustered bool // its objects are in no namespace
	guessed   bool
}

// kinds are known without asking a cluster: those of Kubernetes, and those of
// others that are in use with it.
type kinds struct{ others map[schema.GroupKind]kind }

// clustered are the kinds of Kubernetes whose objects are in no namespace.
var clustered = []string{
	"Namespace", "Node", "PersistentVolume", "ClusterRole", "ClusterRoleBinding", "StorageClass", "IngressClass", "PriorityClass",
	"RuntimeClass", "CSIDriver", "CSINode", "VolumeAttachment", "VolumeAttributesClass", "CertificateSigningRequest", "ClusterTrustBundle",
	"FlowSchema", "PriorityLevelConfiguration", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
	"DeviceClass", "ResourceSlice", "IPAddress", "ServiceCIDR",
}

func newKinds(_ map[forge.ID][]Object) kinds {
	named := func(group, name, resource string, clustered bool) (schema.GroupKind, kind) {
		return schema.GroupKind{Group: group, Kind: name}, kind{resource: resource, clustered: clustered}
	}
	all := map[schema.GroupKind]kind{}
	for _, k := range []struct {
		group, name, resource string
		clustered             bool
	}{
		{definitions, "CustomResourceDefinition", "customresourcedefinitions", true},
		{"apiregistration.k8s.io", "APIService", "apiservices", true},
		{certManager, "Certificate", "certificates", false},
		{certManager, "Issuer", "issuers", false},
		{certManager, "ClusterIssuer", "clusterissuers", true},
		{"gateway.networking.k8s.io", "GatewayClass", "gatewayclasses", true},
		{"gateway.networking.k8s.io", "Gateway", "gateways", false},
		{"gateway.networking.k8s.io", "HTTPRoute", "httproutes", false},
		{"gateway.networking.k8s.io", "GRPCRoute", "grpcroutes", false},
		{"gateway.networking.k8s.io", "ReferenceGrant", "referencegrants", false},
		{"networking.gke.io", "ManagedCertificate", "managedcertificates", false},
		{"networking.gke.io", "FrontendConfig", "frontendconfigs", false},
		{"cloud.google.com", "BackendConfig", "backendconfigs", false},
		{"traefik.io", "Middleware", "middlewares", false},
		{"traefik.io", "IngressRoute", "ingressroutes", false},
		{"monitoring.coreos.com", "ServiceMonitor", "servicemonitors", false},
		{"monitoring.coreos.com", "PodMonitor", "podmonitors", false},
		{"monitoring.coreos.com", "PrometheusRule", "prometheusrules", false},
		{"snapshot.storage.k8s.io", "VolumeSnapshot", "volumesnapshots", false},
	} {
		gk, is := named(k.group, k.name, k.resource, k.clustered)
		all[gk] = is
	}
	return kinds{all}
}

func (k kinds) find(gvk schema.GroupVersionKind) kind {
	if known, ok := k.others[gvk.GroupKind()]; ok {
		return known
	}
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	is := kind{resource: plural.Resource, guessed: true}
	if scheme.Scheme.Recognizes(gvk) || strings.HasSuffix(gvk.Group, ".k8s.io") && slices.Contains(clustered, gvk.Kind) {
		is.guessed, is.clustered = false, slices.Contains(clustered, gvk.Kind)
	}
	return is
}
