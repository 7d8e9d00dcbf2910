// Package rbac says which rights on a cluster an environment takes, and writes
// them down as roles: those and no others.
package rbac

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
)

// Object is one that a chart makes.
type Object struct {
	GVK  schema.GroupVersionKind
	Name string
}

// Place is a part of an environment: what it has in one cluster.
type Place struct {
	Target    forge.Target
	Resources []forge.Resource
	Objects   map[forge.ID][]Object // of its releases

	Prune       bool // what is not asked for any more is deleted
	DestroyData bool // volumes too
}

// Right is what is taken on a kind of objects.
type Right struct {
	schema.GroupResource
	Namespace string   // empty: in no namespace, or in all
	Names     []string // empty: all
	Verbs     []string
}

// Rights are what a place takes, and what a person should know of them.
type Rights struct {
	All   []Right
	Notes []string
}

// verbs that belong together.
var (
	follow = []string{"list", "watch"}
	keep   = []string{"get", "list", "watch", "create", "patch"}
	own    = []string{"get", "list", "watch", "create", "patch", "delete"}
)

// Of finds what a place takes.
func Of(p Place) Rights {
	c := collector{place: p, kinds: newKinds(p.Objects)}
	c.add("", "", "namespaces", []string{"kube-system"}, "get") // which cluster it is
	for _, r := range p.Resources {
		c.resource(r)
	}
	return Rights{All: merged(c.all), Notes: c.notes}
}

type collector struct {
	place Place
	kinds kinds
	all   []Right
	notes []string
	based map[string]bool // namespaces that have the notes of an environment
}

func (c *collector) add(namespace, group, resource string, names []string, verbs ...string) {
	c.all = append(c.all, Right{schema.GroupResource{Group: group, Resource: resource}, namespace, names, verbs})
}

func (c *collector) note(text string) {
	if !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
}

// owned is own, or keep where nothing is ever deleted.
func (c *collector) owned() []string {
	if c.place.Prune {
		return own
	}
	return keep
}

func (c *collector) resource(r forge.Resource) {
	switch s := r.Spec.(type) {
	case forge.NamespaceSpec:
		c.namespace(r.ID, s)
	case forge.SecretsSpec:
		c.base(r.ID, s.Namespace)
		c.add(s.Namespace, "", "secrets", nil, c.owned()...)
		c.references(r.ID, s)
	case forge.ConfigSpec:
		c.base(r.ID, s.Namespace)
		c.add(s.Namespace, "", "configmaps", nil, c.owned()...)
	case forge.ClaimSpec:
		c.base(r.ID, s.Namespace)
		c.add(s.Namespace, "", "persistentvolumeclaims", nil, keep...)
		var class []string // the cluster's own has a name that is not known here
		if s.StorageClass != "" {
			class = []string{s.StorageClass}
		}
		c.add("", "storage.k8s.io", "storageclasses", class, "get") // whether it lets volumes grow
		if c.place.Prune && c.place.DestroyData {
			c.add(s.Namespace, "", "persistentvolumeclaims", nil, "delete")
		}
	case forge.JobSpec:
		c.base(r.ID, s.Namespace)
		if s.Pod {
			c.add(s.Namespace, "", "pods", nil, own...)
		} else {
			c.add(s.Namespace, "batch", "jobs", nil, own...)
		}
		c.workload(s.Namespace, "Job")
	case forge.ProbeSpec:
		c.base(r.ID, s.Namespace)
		c.add(s.Namespace, "batch", "jobs", nil, own...)
		c.add(s.Namespace, "batch", "cronjobs", nil, c.owned()...)
		c.workload(s.Namespace, "Job")
	case forge.IssuerSpec:
		c.base(r.ID, s.Namespace)
		c.issuer(s)
	case forge.CertificateSpec:
		c.base(r.ID, s.Namespace)
		c.certificate(s)
	case forge.DNSSpec:
		c.dns(s)
	case forge.EndpointSpec:
		c.add(s.Namespace, "", "services", []string{s.Service}, follow...)
		c.add(s.Namespace, "", "pods", nil, follow...)
	case forge.ReleaseSpec:
		c.base(r.ID, s.Namespace)
		c.release(r.ID, s)
	case forge.CheckSpec:
		for _, ref := range []forge.SecretRef{s.URL, s.CABundle, s.APIKey, s.ClientCert, s.ClientKey} {
			c.source(s.Namespace, ref)
		}
	case forge.RolesSpec:
		c.source(s.Namespace, s.Admin)
		c.source(s.Namespace, s.CABundle)
		for _, role := range s.Roles {
			c.source(s.Namespace, role.URL)
		}
	}
}

// base is where an environment keeps its inventory, and its lease.
func (c *collector) base(id forge.ID, namespace string) {
	if c.based == nil {
		c.based = map[string]bool{}
	}
	if c.based[namespace] {
		return
	}
	c.based[namespace] = true
	c.add(namespace, "", "configmaps", nil, "get", "list", "create", "update", "delete")
	c.add(namespace, "coordination.k8s.io", "leases", nil, "create")
	c.add(namespace, "coordination.k8s.io", "leases", []string{"forged-" + id.Environment}, "get", "patch", "update")
}

func (c *collector) namespace(id forge.ID, s forge.NamespaceSpec) {
	c.base(id, s.Name)
	c.add("", "", "namespaces", []string{s.Name}, follow...)
	if s.Create {
		c.note("namespace " + s.Name + " has to be there before the roles in it, and is used as it is: " +
			c.place.Target.Kubectl() + " create namespace " + s.Name)
	}
}

// references are Secrets of somebody else.
func (c *collector) references(_ forge.ID, s forge.SecretsSpec) {
	for _, o := range s.Secrets {
		for _, e := range o.Entries {
			if e.Ref != nil {
				c.source(s.Namespace, *e.Ref)
			}
			for _, part := range e.Join {
				if part.Ref != nil {
					c.source(s.Namespace, *part.Ref)
				}
			}
		}
	}
}

func (c *collector) source(namespace string, ref forge.SecretRef) {
	if k := ref.Kubernetes; k != nil {
		c.add(cmp.Or(k.Namespace, namespace), "", "secrets", []string{k.Name}, follow...)
	}
}

// workload is what it takes to say why pods do not run.
func (c *collector) workload(namespace, kind string) {
	c.add(namespace, "", "pods", nil, "list", "watch")
	c.add(namespace, "", "pods/log", nil, "get")
	c.add(namespace, "", "events", nil, "list")
	c.add(namespace, "", "secrets", nil, "list") // what of a log is a secret
	switch kind {
	case "Deployment":
		c.add(namespace, "apps", "replicasets", nil, "list")
	case "StatefulSet", "DaemonSet":
		c.add(namespace, "apps", "controllerrevisions", nil, "list")
	}
	if kind == "Deployment" || kind == "StatefulSet" {
		c.add(namespace, "autoscaling", "horizontalpodautoscalers", nil, follow...)
	}
}

// release is what Helm keeps, and every kind that the chart makes.
func (c *collector) release(id forge.ID, s forge.ReleaseSpec) {
	c.add(s.Namespace, "", "secrets", nil, "get", "list", "watch", "create", "update", "delete")
	for _, o := range c.place.Objects[id] {
		kind := c.kinds.find(o.GVK)
		if kind.guessed {
			c.note("kind " + o.GVK.Kind + " of " + o.GVK.Group + " is not known here: it is taken for " + kind.resource + " in namespaces")
		}
		switch {
		case kind.clustered:
			c.add("", o.GVK.Group, kind.resource, nil, "list", "watch", "create")
			c.add("", o.GVK.Group, kind.resource, []string{o.Name}, "get", "patch", "delete")
		default:
			c.add(s.Namespace, o.GVK.Group, kind.resource, nil, own...)
		}
		if !kind.clustered && strings.Contains(o.GVK.Group, ".") && !strings.HasSuffix(o.GVK.Group, ".k8s.io") {
			c.add(s.Namespace, "", "persistentvolumeclaims", nil, "list") // that none goes with it
		}
		switch o.GVK.Group + "/" + o.GVK.Kind {
		case "apps/Deployment", "apps/StatefulSet", "apps/DaemonSet", "batch/Job":
			c.workload(s.Namespace, o.GVK.Kind)
			if o.GVK.Kind == "StatefulSet" && c.place.Prune && c.place.DestroyData {
				c.add(s.Namespace, "", "persistentvolumeclaims", nil, "get", "list", "watch", "delete") // its volumes
			}
		case "/Pod":
			c.add(s.Namespace, "", "pods/log", nil, "get")
		case "rbac.authorization.k8s.io/Role", "rbac.authorization.k8s.io/ClusterRole":
			c.note(o.GVK.Kind + " " + o.Name + " of release " + s.Name + " gives rights that its maker must have: give them to the same subject, or the verb escalate on it")
		case "rbac.authorization.k8s.io/RoleBinding", "rbac.authorization.k8s.io/ClusterRoleBinding":
			c.note(o.GVK.Kind + " " + o.Name + " of release " + s.Name + " binds a role whose rights its maker must have: give them to the same subject, or the verb bind on that role")
		}
	}
}

const (
	certManager = "cert-manager.io"
	acme        = "acme.cert-manager.io"
	definitions = "apiextensions.k8s.io"
)

func (c *collector) manager() {
	c.add("", "apps", "deployments", nil, follow...)
}

func (c *collector) definition(name string) {
	c.add("", definitions, "customresourcedefinitions", []string{name}, follow...)
}

func (c *collector) issuer(s forge.IssuerSpec) {
	namespace, resource := "", "clusterissuers"
	if s.Kind == "Issuer" {
		namespace, resource = s.Namespace, "issuers"
	}
	c.manager()
	c.definition(resource + "." + certManager)
	names := []string{s.Name}
	c.add(namespace, certManager, resource, names, follow...)
	if s.Create {
		c.add(namespace, certManager, resource, nil, "list", "watch", "create")
		c.add(namespace, certManager, resource, names, "get", "patch")
		if namespace != "" { // one of the whole cluster stays
			c.add(namespace, certManager, resource, names, "delete")
		}
	}
}

func (c *collector) certificate(s forge.CertificateSpec) {
	switch s.Mode {
	case forge.TLSSelfSigned:
		c.add(s.Namespace, "", "secrets", nil, own...)
	case forge.TLSCertManager:
		c.manager()
		c.definition("certificates." + certManager)
		c.add(s.Namespace, certManager, "certificates", nil, own...)
		c.add(s.Namespace, certManager, "certificaterequests", nil, follow...)
		c.add(s.Namespace, acme, "orders", nil, follow...)
		c.add(s.Namespace, acme, "challenges", nil, follow...)
		c.add(s.Namespace, "", "secrets", []string{s.Secret}, follow...)
	case forge.TLSGKEManaged:
		c.definition("managedcertificates.networking.gke.io")
		c.add(s.Namespace, "networking.gke.io", "managedcertificates", nil, own...)
	case forge.TLSSecret:
		c.add(s.Namespace, "", "secrets", []string{s.Secret}, follow...)
	}
}

func (c *collector) dns(s forge.DNSSpec) {
	namespace := cmp.Or(s.From.Namespace, s.Namespace)
	switch s.From.Kind {
	case "Ingress":
		c.add(namespace, "networking.k8s.io", "ingresses", []string{s.From.Name}, follow...)
	case "Service":
		c.add(namespace, "", "services", []string{s.From.Name}, follow...)
	case "Gateway":
		c.definition("gateways.gateway.networking.k8s.io")
		c.add(namespace, "gateway.networking.k8s.io", "gateways", []string{s.From.Name}, follow...)
	}
}

// merged puts together what is about the same objects, and leaves out what is
// given to all objects, or in all namespaces, anyway.
func merged(all []Right) []Right {
	type corner struct {
		schema.GroupResource
		namespace, name string
	}
	verbs := map[corner][]string{}
	for _, r := range all {
		names := r.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			k := corner{r.GroupResource, r.Namespace, name}
			verbs[k] = append(verbs[k], r.Verbs...)
		}
	}
	var out []Right
	for k, vs := range verbs {
		slices.Sort(vs)
		vs = slices.Compact(vs)
		for _, wider := range []corner{{k.GroupResource, k.namespace, ""}, {k.GroupResource, "", ""}} {
			if wider != k {
				vs = slices.DeleteFunc(vs, func(v string) bool { return slices.Contains(verbs[wider], v) })
			}
		}
		if len(vs) == 0 {
			continue
		}
		r := Right{GroupResource: k.GroupResource, Namespace: k.namespace, Verbs: ordered(vs)}
		if k.name != "" {
			r.Names = []string{k.name}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, compare)
	// Names with the same verbs stand together.
	var tight []Right
	for _, r := range out {
		if n := len(tight) - 1; n >= 0 && len(r.Names) > 0 && len(tight[n].Names) > 0 && tight[n].GroupResource == r.GroupResource &&
			tight[n].Namespace == r.Namespace && slices.Equal(tight[n].Verbs, r.Verbs) {
			tight[n].Names = append(tight[n].Names, r.Names...)
			continue
		}
		tight = append(tight, r)
	}
	return tight
}

func compare(a, b Right) int {
	return cmp.Or(
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Group, b.Group), strings.Compare(a.Resource, b.Resource),
		cmp.Compare(min(1, len(a.Names)), min(1, len(b.Names))), slices.Compare(a.Verbs, b.Verbs), slices.Compare(a.Names, b.Names))
}

// ordered puts verbs in the order that people know.
func ordered(verbs []string) []string {
	order := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	slices.SortFunc(verbs, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	return verbs
}
