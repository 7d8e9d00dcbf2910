package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Namespaces is the provider of namespaces. A namespace that is there already is
// used as it is: nothing is written to it, and it is never deleted. One that
// forged made is deleted when it is not wanted any more and nothing is left in
// it, and not before.
type Namespaces struct {
	clusters *Clusters

	mu     sync.Mutex
	wanted map[knownKey]forge.NamespaceSpec // at the last look, for verification
}

var (
	_ reconcile.Provider = (*Namespaces)(nil)
	_ reconcile.Owner    = (*Namespaces)(nil)
	_ reconcile.Follower = (*Namespaces)(nil)
)

// NewNamespaces makes the provider of kind "namespace".
func NewNamespaces(clusters *Clusters) reconcile.Provider {
	p := &Namespaces{clusters: clusters, wanted: map[knownKey]forge.NamespaceSpec{}}
	clusters.VerifyBy(forge.KindNamespace, p.verify)
	return p
}

// namespace is what is known of one.
type namespace struct {
	cluster *Cluster
	inv     *Inventory
	spec    forge.NamespaceSpec
	ref     Ref
	state   State
	entry   Entry // zero if we have no record of it
	owned   bool  // we have a record of it
	remove  bool  // it is to be removed
}

func (p *Namespaces) look(ctx context.Context, r reconcile.Request) (*namespace, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.NamespaceSpec)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	if err := p.clusters.Rules(r); err != nil {
		return nil, err
	}
	c, err := p.clusters.Cluster(ctx, r.Resource.Target)
	if err != nil {
		return nil, aboutResource(err, id)
	}
	n := &namespace{cluster: c, spec: spec, ref: namespaceRef(spec.Name), remove: r.Remove}
	if n.inv, err = c.Inventory(ctx, id.Environment, spec.Name); err != nil {
		return nil, aboutResource(err, id)
	}
	if n.state, err = c.Live(ctx, n.ref); err != nil {
		return nil, aboutResource(err, id)
	}
	if !r.Remove {
		p.mu.Lock()
		p.wanted[knownKey{r.Resource.Target, id}] = spec
		p.mu.Unlock()
	}
	if record, ok := n.inv.Record(id); ok && len(record.Entries) > 0 {
		n.entry, n.owned = record.Entries[0], true
	}
	return n, nil
}

func namespaceRef(name string) Ref {
	return Ref{GVK: corev1.SchemeGroupVersion.WithKind("Namespace"), Name: name}
}

// Observe implements reconcile.Provider.
func (p *Namespaces) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	n, err := p.look(ctx, r)
	if err != nil {
		return reconcile.Observed{}, err
	}
	return n.observed(), nil
}

func (n *namespace) observed() reconcile.Observed {
	o := reconcile.Observed{Exists: n.state.Exists && (n.owned || !n.remove), Detail: n}
	switch {
	case !n.state.Exists:
		o.Health = reconcile.Health{Status: reconcile.Unknown, Message: n.ref.String() + " does not exist"}
	case n.state.Deleting:
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: n.ref.String() + " is being deleted"}
	default:
		o.Health = reconcile.Health{Status: reconcile.Ready}
	}
	if n.owned && n.state.Exists {
		o.Objects = 1
		o.Notices = Record{Entries: []Entry{n.entry}}.Notices()
	}
	return o
}

// Plan implements reconcile.Provider.
func (p *Namespaces) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	n, ok := o.Detail.(*namespace)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "observed by another provider: %T", o.Detail)
	}
	id := r.Resource.ID
	step := reconcile.Step{ID: id, Object: n.ref.String(), Token: tokenOf(n.state)}
	switch {
	case r.Remove:
		if !n.owned || !n.state.Exists || n.state.Deleting {
			return nil, nil
		}
		step.Action, step.Deletes = reconcile.ActionDelete, 1
		step.Reason.Code = reconcile.ReasonUnwanted
		var err error
		if step.Blocked, err = n.inhabited(ctx, id); err != nil {
			return nil, aboutResource(err, id)
		}
		return []reconcile.Step{step}, nil

	case n.state.Deleting:
		// Making it again now is not possible, and would be a loop.
		return nil, &reconcile.Error{
			Kind: reconcile.Unavailable, ID: id, Object: n.ref.String(), Op: "plan",
			Err:  errors.New("it is being deleted"),
			Hint: "if it stays so, see what holds it: " + n.cluster.target.Kubectl() + " get namespace " + n.spec.Name + " -o yaml",
		}

	case !n.state.Exists && !n.spec.Create:
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, ID: id, Object: n.ref.String(), Op: "plan",
			Err:  errors.New("it does not exist, and forge.cue says not to make it"),
			Hint: "set platform.createNamespace, or run: " + n.kubectl("create"),
		}

	case !n.state.Exists:
		step.Action, step.Reason.Code = reconcile.ActionCreate, reconcile.ReasonAbsent
		if n.owned {
			step.Action, step.Reason.Code = reconcile.ActionHeal, reconcile.ReasonDeleted
		}
		return []reconcile.Step{step}, nil

	case !n.spec.Create || !n.owned && n.state.Digest == noEntry || n.state.Taken(id) != "":
		return nil, nil // somebody else's

	case !n.owned:
		// Made by us, and we died before that was written down.
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
		return []reconcile.Step{step}, nil

	case n.entry.Desired != n.desired():
		step.Action, step.Reason.Code = reconcile.ActionUpdate, reconcile.ReasonConfig
		return []reconcile.Step{step}, nil
	}

	drifts, err := n.inv.Drifted(ctx, id)
	if err != nil || len(drifts) == 0 {
		return nil, err
	}
	step.Action = reconcile.ActionHeal
	if drifts[0].Code == reconcile.ReasonReplaced {
		step.Reason = reconcile.Reason{Code: reconcile.ReasonReplaced, Text: "somebody made it anew; it is used, but no longer ours"}
		return []reconcile.Step{step}, nil
	}
	step.Reason, step.Changes, err = n.cluster.explainDesired(ctx, drifts[0], n.object(id))
	if err != nil {
		return nil, aboutResource(err, id)
	}
	return []reconcile.Step{step}, nil
}

// Apply implements reconcile.Provider.
func (p *Namespaces) Apply(ctx context.Context, r reconcile.Request, s reconcile.Step) (reconcile.Observed, error) {
	n, err := p.look(ctx, r)
	if err != nil {
		return reconcile.Observed{}, err
	}
	if tokenOf(n.state) != s.Token {
		return n.observed(), staleStep(s)
	}
	id := r.Resource.ID
	switch {
	case s.Blocked != "":
		return n.observed(), &reconcile.Error{Kind: reconcile.Invalid, ID: id, Object: s.Object, Op: string(s.Action), Err: errors.New(s.Blocked)}
	case s.Action == reconcile.ActionDelete:
		err = n.delete(ctx, id)
	case s.Reason.Code == reconcile.ReasonReplaced:
		err = n.inv.Drop(ctx, id)
	default:
		var a Applied
		if a, err = n.cluster.Apply(ctx, n.object(id)); err == nil {
			err = n.inv.Commit(ctx, Record{ID: id, Needs: r.Resource.Needs, Entries: []Entry{{
				Ref: n.ref, Desired: n.desired(), Baseline: a.Baseline, Keep: true,
			}}})
		}
	}
	if err != nil {
		return n.observed(), aboutResource(err, id)
	}
	return p.Observe(ctx, r)
}

// Owned implements reconcile.Owner.
func (p *Namespaces) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return p.clusters.Owned(ctx, environment, forge.KindNamespace, wanted, func(namespace string) forge.Spec {
		return forge.NamespaceSpec{Name: namespace, Create: true}
	})
}

// Follows implements reconcile.Follower.
func (p *Namespaces) Follows(r forge.Resource) bool {
	spec, ok := r.Spec.(forge.NamespaceSpec)
	c := p.clusters.followed(r.Target)
	// Of a namespace that is not ours, nobody is told when it goes.
	return ok && c != nil && c.trackedBy(namespaceRef(spec.Name)) != (forge.ID{})
}

// Watch implements reconcile.Provider.
func (p *Namespaces) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return p.clusters.Watch(ctx, forge.KindNamespace, notify)
}

func (n *namespace) object(owner forge.ID) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	obj.SetName(n.spec.Name)
	if len(n.spec.Labels) > 0 {
		obj.SetLabels(n.spec.Labels)
	}
	n.cluster.Stamp(obj, owner)
	return obj
}

// desired is a hash of what is asked for.
func (n *namespace) desired() string {
	h := sha256.New()
	for _, key := range sortedKeys(n.spec.Labels) {
		fmt.Fprintf(h, "%q=%q\n", key, n.spec.Labels[key])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (n *namespace) kubectl(verb string) string {
	return fmt.Sprintf("%s %s namespace %s", n.cluster.target.Kubectl(), verb, n.spec.Name)
}
