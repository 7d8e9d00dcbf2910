package certificates

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/providers/sights"
	"forged.dev/forged/internal/reconcile"
)

const (
	kindClusterIssuer = "ClusterIssuer"

	// Servers of Let's Encrypt.
	serverProduction = "https://acme-v02.api.letsencrypt.org/directory"
	serverStaging    = "https://acme-staging-v02.api.letsencrypt.org/directory"
	staging          = "staging"
)

type issuers struct{ all *sights.Sights }

func newIssuers(o Options, all *sights.Sights) reconcile.Provider {
	p := &issuers{all}
	return &checked{Provider: objects.New(o.Clusters, objects.Kind{
		Name: forge.KindIssuer,
		Namespace: func(s forge.Spec) (string, bool) {
			spec, ok := s.(forge.IssuerSpec)
			return spec.Namespace, ok
		},
		Gone: func(namespace string) forge.Spec { return forge.IssuerSpec{Namespace: namespace} },
		Want: p.want, Tell: p.tell,
		Watch: func(ctx context.Context, notify func(reconcile.Event)) error {
			all.Watch(ctx, forge.KindIssuer, notify)
			return nil
		},
		Forget: func(r forge.Resource) { all.Forget(r.ID) },
	})}
}

// place is where an issuer is: which resource of the API, and in which
// namespace, if in any.
func place(spec forge.IssuerSpec) (gvr schema.GroupVersionResource, namespace string) {
	if spec.Kind == kindClusterIssuer {
		return managerGVR(groupManager, "clusterissuers"), ""
	}
	return managerGVR(groupManager, "issuers"), spec.Namespace
}

func manifest(spec forge.IssuerSpec) *unstructured.Unstructured {
	_, namespace := place(spec)
	server := serverProduction
	if spec.Server == staging {
		server = serverStaging
	}
	http := map[string]any{}
	if spec.IngressClass != "" {
		http["ingressClassName"] = spec.IngressClass
	}
	obj := object(groupManager+"/v1", spec.Kind, namespace, spec.Name, spec.Labels)
	obj.Object["spec"] = map[string]any{"acme": map[string]any{
		"email": spec.Email, "server": server,
		"privateKeySecretRef": map[string]any{"name": spec.Name + "-account"},
		"solvers":             []any{map[string]any{"http01": map[string]any{"ingress": http}}},
	}}
	return obj
}

func (p *issuers) want(ctx context.Context, l *objects.Look) ([]objects.Object, error) {
	spec := l.Request.Resource.Spec.(forge.IssuerSpec)
	g := look(p.all, l.Cluster, l.ID())
	gvr, namespace := place(spec)
	if err := g.needsManager(ctx, gvr); err != nil || !spec.Create {
		return nil, err
	}
	obj := manifest(spec)
	want := objects.Object{Manifest: obj, Keep: spec.Kind == kindClusterIssuer}
	if _, ours := l.Applied(want.Ref()); ours {
		return []objects.Object{want}, nil
	}
	live, err := g.One(ctx, gvr, namespace, spec.Name)
	if err != nil || live == nil {
		return []objects.Object{want}, err
	}
	owner := ""
	if live.GetLabels()[kubernetes.LabelInstance] == l.Cluster.Instance() {
		owner = live.GetAnnotations()[kubernetes.AnnotationOwner]
	}
	switch {
	case owner == l.ID().String():
		return []objects.Object{want}, nil // whoever made it for us was cut before that was written down
	case contains(live.Object["spec"], obj.Object["spec"]):
		return nil, nil // it is as it is asked for, whoever has made it
	case owner != "":
		return nil, &reconcile.Error{
			Kind: reconcile.Conflict, Op: "apply", Object: want.Ref().String(),
			Err:  fmt.Errorf("it belongs to %s, which asks for another one", owner),
			Hint: "ask for the same in both environments, or give one of them another name",
		}
	}
	return []objects.Object{want}, nil
}

// contains tells whether all that is asked for is there; what a server has
// filled in besides does not matter.
func contains(live, asked any) bool {
	switch asked := asked.(type) {
	case map[string]any:
		have, ok := live.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range asked {
			if !contains(have[key], value) {
				return false
			}
		}
		return true
	case []any:
		have, ok := live.([]any)
		if !ok || len(have) != len(asked) {
			return false
		}
		for i := range asked {
			if !contains(have[i], asked[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(live, asked)
}

func (p *issuers) tell(ctx context.Context, l *objects.Look, o *reconcile.Observed) error {
	spec := l.Request.Resource.Spec.(forge.IssuerSpec)
	g := look(p.all, l.Cluster, l.ID())
	gvr, namespace := place(spec)
	if err := g.needsManager(ctx, gvr); err != nil {
		return err
	}
	trouble, found, err := g.managerTrouble(ctx)
	if err != nil {
		return err
	}
	live, err := g.One(ctx, gvr, namespace, spec.Name)
	if err != nil {
		return err
	}
	g.Done()
	name := spec.Kind + " " + spec.Name
	if namespace != "" {
		name = spec.Kind + " " + namespace + "/" + spec.Name
	}
	if live != nil { // what was applied is there, although this watch may be behind
		o.Exists = true
		judge(o)
	}
	switch {
	case live == nil && !spec.Create:
		worse(o, reconcile.Failed, name+" does not exist, and forge.cue says not to make it: make it, or write issuer.create")
	case live == nil:
		worse(o, reconcile.Progressing, name+" is not there yet")
	case trouble != "":
		worse(o, reconcile.Progressing, trouble)
	case holds(live, "Ready"):
		if !found {
			notice(o, noticeController, name, "whether anybody acts on it cannot be told: "+nobody)
		}
	default:
		text := words(condition(live, "Ready"))
		switch {
		case !found:
			text = nobody
		case text == "":
			text = "waiting for cert-manager to register with the authority"
		}
		worse(o, reconcile.Progressing, name+": "+text)
	}
	return nil
}
