package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// AnnotationKeep on an object, from the manifest or put there by a person, says
// that it stays in the cluster when forged no longer wants it. Helm's own
// annotation says the same.
const (
	AnnotationKeep        = "forged.dev/keep"
	annotationHelmPolicy  = "helm.sh/resource-policy"
	helmPolicyKeep        = "keep"
	managedByLabel        = "app.kubernetes.io/managed-by"
	managedByForged       = "forged"
	opLetGo               = "let go of"
	attemptsAgainstOthers = 5
)

// Kept tells whether an object asks to be left in the cluster.
func Kept(obj metav1.Object) bool {
	notes := obj.GetAnnotations()
	return notes[annotationHelmPolicy] == helmPolicyKeep || notes[AnnotationKeep] == "true"
}

// holdsData tells kinds whose deletion takes with it what cannot be made
// again. They are never deleted as a side effect of anything.
func holdsData(ref Ref) bool {
	switch ref.GVK.Group + "/" + ref.GVK.Kind {
	case "/PersistentVolumeClaim", "/PersistentVolume", "/Namespace", "apiextensions.k8s.io/CustomResourceDefinition":
		return true
	}
	return false
}

// Stay says of an object that it is left in the cluster, and how a person
// removes it.
func (c *Cluster) Stay(ref Ref) reconcile.Stay {
	kind := strings.ToLower(ref.GVK.Kind)
	if ref.GVK.Group != "" {
		kind += "." + ref.GVK.Group
	}
	command := c.target.Kubectl() // what deletes must not go where kubectl happens to lead
	if ref.Namespace != "" {
		command += " --namespace " + ref.Namespace
	}
	return reconcile.Stay{Object: ref.String(), Remove: command + " delete " + kind + " " + ref.Name}
}

// Pruned is what became of an object that is not wanted any more.
type Pruned string

// What becomes of objects.
const (
	PrunedDeleted Pruned = "deleted" // its deletion has begun
	PrunedGone    Pruned = "gone"    // it was not there
	PrunedKept    Pruned = "kept"    // it was let go of: it stays, without our marks
	PrunedForeign Pruned = "foreign" // it is not ours, or not any more: it was not touched
)

// Prune removes one object that a resource owned and does not want any more. It
// deletes it if it is the one that was recorded, still bears our mark, belongs
// to no other resource, and neither entry nor object says that it is to be
// kept; claims, volumes, namespaces, definitions of kinds, and custom resources
// that claims belong to, are always kept.
// Calling it again is harmless. The caller then takes the entry out of the
// record.
func (inv *Inventory) Prune(ctx context.Context, id forge.ID, e Entry) (Pruned, error) {
	c := inv.c
	if inv.other(id, e.Ref) {
		return PrunedForeign, nil
	}
	live, err := c.Get(ctx, e.Ref)
	switch {
	case err != nil:
		return "", aboutResource(err, id)
	case live == nil:
		return PrunedGone, nil
	case !c.Still(live, id, e):
		return PrunedForeign, nil
	}
	uid := string(live.GetUID())
	keep := e.Keep || Kept(live) || holdsData(e.Ref)
	if !keep {
		claims, err := c.ownsClaims(ctx, e.Ref, uid)
		if err != nil {
			return "", aboutResource(err, id)
		}
		if keep = len(claims) > 0; keep {
			c.log.WarnContext(ctx, "it stays, since volumes belong to it, which would be deleted with it; delete it by hand when nobody needs them",
				"environment", id.Environment, "resource", id.String(), "object", e.Ref.String(), "claims", strings.Join(claims, ", "))
		}
	}
	if keep {
		return PrunedKept, aboutResource(c.letGo(ctx, e.Ref, live, id), id)
	}
	if err = c.Delete(ctx, e.Ref, uid); err == nil {
		return PrunedDeleted, nil
	}
	var lapsed errLapsed
	if reconcile.KindOf(err) == reconcile.Stale && !errors.As(err, &lapsed) {
		err = nil // somebody made another one under the name
	}
	return PrunedForeign, aboutResource(err, id)
}

// Still tells whether a live object is the one that was recorded, and belongs to
// the resource whose record that is: nothing else is ever deleted. Another one
// may have taken it over, and its uid stays the same then.
func (c *Cluster) Still(live *unstructured.Unstructured, id forge.ID, e Entry) bool {
	owner := live.GetAnnotations()[AnnotationOwner]
	switch {
	case e.Of != "":
		return live.GetLabels()[LabelInstance] == "" && len(live.GetOwnerReferences()) == 0 && e.Baseline.UID == string(live.GetUID())
	case live.GetLabels()[LabelInstance] != c.instance || controllerOf(live) != "":
		return false
	case e.Baseline.UID == "":
		// It was announced, and perhaps made, before a crash: in one request
		// with both marks.
		return owner == HomeID(id).String()
	case e.Baseline.UID != string(live.GetUID()):
		return false
	}
	var other forge.ID
	// A note that somebody has taken off or scribbled over names nobody.
	return (other.UnmarshalText([]byte(owner)) != nil || other == HomeID(id)) && !c.handedOn(live)
}

// handedOn tells of an object of ours that another tool manages by now: it bears
// a mark that we have not put there.
func (c *Cluster) handedOn(live *unstructured.Unstructured) bool {
	ours := entryOf(live.GetManagedFields(), c.manager)
	set, err := fieldSet(ours)
	if ours == nil || err != nil {
		return false
	}
	marked := func(field string, has map[string]string, keys []string) bool {
		return slices.ContainsFunc(keys, func(key string) bool {
			return has[key] != "" && !set.Has(fieldpath.MakePathOrDie("metadata", field, key))
		})
	}
	return marked("labels", live.GetLabels(), foreignLabels) || marked("annotations", live.GetAnnotations(), foreignAnnotations)
}

// Taken says which environment's resource has taken an object over from id, by
// policy.adopt: "force". It is not to be written to then; empty: none has.
func (s State) Taken(id forge.ID) string {
	var owner forge.ID
	if !s.Exists || owner.UnmarshalText([]byte(s.Owner)) != nil || owner.Environment == id.Environment {
		return ""
	}
	return fmt.Sprintf("it belongs to %s now, which has taken it over; take it out of one of the two environments, "+
		`or set policy.adopt to "force" here to take it back`, s.Owner)
}

// other tells whether another resource of the inventory has the object now, or
// the same resource in another version of its kind.
func (inv *Inventory) other(id forge.ID, ref Ref) bool {
	inv.c.mu.Lock()
	defer inv.c.mu.Unlock()
	for other, r := range inv.records {
		if slices.ContainsFunc(r.Entries, func(e Entry) bool { return e.Ref.Same(ref) && (other != HomeID(id) || e.Ref != ref) }) {
			return true
		}
	}
	return false
}

// LetGo takes our marks off an object that stays: whoever looks at it later must
// not think that it is managed. What is left is a note of who made it, so that
// the same resource may take it up again. An object that is gone, or is another
// one than that with the uid, or not ours, is left as it is.
func (c *Cluster) LetGo(ctx context.Context, ref Ref, uid string, owner forge.ID) error {
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil || uid != string(live.GetUID()) || live.GetLabels()[LabelInstance] != c.instance {
		return err
	}
	return c.letGo(ctx, ref, live, owner)
}

func (c *Cluster) letGo(ctx context.Context, ref Ref, live *unstructured.Unstructured, owner forge.ID) error {
	mapping, err := c.mappingOf(ctx, ref.GVK)
	if err != nil {
		return about(err, ref)
	}
	release, err := c.write(ctx)
	if err != nil {
		return Classify(opLetGo, ref, err)
	}
	defer release()
	if err := c.fence.environment(owner.Environment); err != nil {
		return about(err, ref)
	}
	ctx = concerning(ctx, ref, owner)
	for range attemptsAgainstOthers {
		if live == nil || live.GetLabels()[LabelInstance] != c.instance {
			return nil
		}
		var patch []byte
		if patch, err = c.letGoPatch(live, owner); err != nil {
			return &reconcile.Error{Kind: reconcile.Internal, ID: owner, Op: opLetGo, Object: ref.String(), Err: err}
		}
		if _, err = c.patch(ctx, mapping, ref, patch); err == nil || reconcile.KindOf(err) != reconcile.Stale {
			c.forget(ref)
			return err
		}
		uid := live.GetUID()
		if live, err = c.Get(ctx, ref); err != nil || live != nil && live.GetUID() != uid {
			return err
		}
	}
	return err
}

// letGoPatch takes off our label and owner, our claim to any field, and leaves
// the note.
func (c *Cluster) letGoPatch(live *unstructured.Unstructured, owner forge.ID) ([]byte, error) {
	labels, notes := live.GetLabels(), live.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, LabelInstance)
	if labels[managedByLabel] == managedByForged {
		delete(labels, managedByLabel)
	}
	if notes == nil {
		notes = map[string]string{}
	}
	delete(notes, AnnotationOwner)
	notes[AnnotationKept] = c.keptMark(HomeID(owner))
	fields := slices.DeleteFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == c.manager || strings.HasPrefix(e.Manager, c.manager+"/")
	})
	if len(fields) == 0 {
		fields = []metav1.ManagedFieldsEntry{{}} // how to say that there are none
	}
	return json.Marshal([]map[string]any{
		{"op": "add", "path": "/metadata/labels", "value": labels},
		{"op": "add", "path": "/metadata/annotations", "value": notes},
		{"op": "replace", "path": "/metadata/managedFields", "value": fields},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
	})
}
