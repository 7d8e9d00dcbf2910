package kubernetes

import (
	"context"
	"crypto/sha256"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/reconcile"
)

// explainDesired explains drift of an object that the server stores as it is
// sent, which is so for namespaces' labels and for Secrets. It costs one read
// and no dry run.
func (c *Cluster) explainDesired(ctx context.Context, d Drift, desired *unstructured.Unstructured) (reconcile.Reason, []reconcile.Change, error) {
	if d.Code != reconcile.ReasonEdited {
		return reconcile.Reason{Code: d.Code}, nil, nil
	}
	// The same version of an object differs from the same wish in the same way.
	key := verdict{uid: d.State.UID, resourceVersion: d.State.ResourceVersion, desired: sha256.Sum256([]byte(compact(desired.Object)))}
	c.mu.Lock()
	known := c.verdicts[d.Entry.Ref.id()]
	c.mu.Unlock()
	if known.verdict == key && d.State.Exists {
		return known.reason, known.changes, nil
	}
	live, err := c.Get(ctx, d.Entry.Ref)
	if err != nil {
		return reconcile.Reason{}, nil, err
	}
	if live == nil {
		return reconcile.Reason{Code: reconcile.ReasonDeleted}, nil, nil
	}
	held, err := fieldSet(entryOf(live.GetManagedFields(), c.manager))
	if err != nil {
		held = fieldpath.NewSet()
	}
	extras := d.State.Lens.view().extras(live.GetManagedFields(), c.manager)
	reason, changes := explain(live, desired, held, leavesOf(desired), extras, c.manager)
	if key.uid == string(live.GetUID()) && key.resourceVersion == live.GetResourceVersion() {
		c.mu.Lock()
		c.verdicts[d.Entry.Ref.id()] = explained{key, reason, changes}
		c.mu.Unlock()
	}
	return reason, changes, nil
}

// verdict names a comparison: of one version of an object with one wish.
type verdict struct {
	uid, resourceVersion string
	desired              [sha256.Size]byte // of everything, values of Secrets too: it stays in memory
}

// explained is what a comparison has shown.
type explained struct {
	verdict
	reason  reconcile.Reason
	changes []reconcile.Change
}

// leavesOf is the set of fields an object made of maps and scalars sets.
func leavesOf(obj *unstructured.Unstructured) *fieldpath.Set {
	set := fieldpath.NewSet()
	var walk func(fieldpath.Path, any)
	walk = func(p fieldpath.Path, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			set.Insert(p.Copy())
			return
		}
		for key, value := range m {
			walk(append(p.Copy(), fieldpath.PathElement{FieldName: &key}), value)
		}
	}
	for key, value := range obj.Object {
		switch key {
		case "apiVersion", "kind", "status":
		case "metadata":
			for _, field := range []string{"labels", "annotations"} {
				if v, ok := child(obj.Object, key)[field]; ok {
					walk(fieldpath.MakePathOrDie(key, field), v)
				}
			}
		default:
			walk(fieldpath.MakePathOrDie(key), value)
		}
	}
	return set
}

// tokenOf is a fencing token: it changes with whatever a step was planned on.
func tokenOf(s State) string {
	return fmt.Sprintf("%t,%t,%s,%s", s.Exists, s.Deleting, s.UID, s.Digest)
}

func staleStep(s reconcile.Step) error {
	return &reconcile.Error{
		Kind: reconcile.Stale, ID: s.ID, Object: s.Object, Op: string(s.Action),
		Err: fmt.Errorf("it has changed since the step was planned"),
	}
}
