package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// AnnotationKept stays on what was let go of and kept: who had made it. It may
// take it up again without being asked to; to everybody else it is nobody's.
const AnnotationKept = "forged.dev/kept-by"

// Claim says who is about to make an object.
type Claim struct {
	Ref   Ref
	Owner forge.ID // the resource it is to belong to
	Adopt string   // policy.adopt; empty: must-match
	UID   string   // of the object as it was applied last; empty: never

	// Marked tells whether an object bears marks of the caller's own that make
	// it ours. May be nil.
	Marked func(*unstructured.Unstructured) bool
}

// Admission is what stands in the place of an object that is about to be made.
type Admission struct {
	Live    *unstructured.Unstructured // nil: nothing does
	Refused string                     // why it must not be written; empty: it may
	Hint    string                     // what to do about that
	From    string                     // whose it was, when it has to be taken over first: see TakeOver

	claim Claim
}

// Err is the refusal as an error of kind Conflict; nil if there is none.
func (a Admission) Err(op string) error {
	if a.Refused == "" {
		return nil
	}
	return &reconcile.Error{
		Kind: reconcile.Conflict, ID: a.claim.Owner, Object: a.claim.Ref.String(), Op: op,
		Err: errors.New(a.Refused), Hint: a.Hint,
	}
}

// Blocked is the refusal as a step shows it; empty if there is none.
func (a Admission) Blocked() string {
	if a.Refused == "" || a.Hint == "" {
		return a.Refused
	}
	return a.Refused + "; " + a.Hint
}

// Told says of an object that is there, and is about to be ours, how that is; empty:
// there is none.
func (a Admission) Told() string {
	switch {
	case a.Live == nil:
		return ""
	case a.From == fromKept:
		return "it is there, was kept, and is used again"
	case a.From != "":
		return "it is there, and is taken over from " + a.From
	}
	return "it is there, and is ours"
}

// fromKept is where what is taken up again was.
const fromKept = "what was kept"

// Admit decides whether an object may be made, or written over if it is there
// already. It costs one read and changes nothing. Everything that forged
// creates passes here first, and then TakeOver:
//
//   - must-match: only what bears our mark, was recorded with this uid, or was
//     kept by us;
//   - if-unowned: also what bears no tool's mark;
//   - force: also what Helm, Flux, Argo CD, kapp or kubectl's apply sets manage.
//
// What a forged that still keeps an inventory here has marked, and what a
// controller owns, is refused always. An error means that nothing is known.
func (c *Cluster) Admit(ctx context.Context, claim Claim) (Admission, error) {
	a := Admission{claim: claim}
	live, err := c.Get(ctx, claim.Ref)
	if err != nil || live == nil {
		return a, err
	}
	return c.admit(ctx, a, live)
}

func (c *Cluster) admit(ctx context.Context, a Admission, live *unstructured.Unstructured) (Admission, error) {
	claim := a.claim
	a.Live = live
	mark := live.GetLabels()[LabelInstance]
	if mark == c.instance || claim.UID != "" && claim.UID == string(live.GetUID()) && mark == "" {
		return c.admitOwn(a, live), nil
	}
	if live.GetDeletionTimestamp() != nil {
		return a, &reconcile.Error{
			Kind: reconcile.Unavailable, ID: claim.Owner, Object: claim.Ref.String(), Op: "create",
			Err: errors.New("another object of this name is being deleted; it is made when that is gone"),
		}
	}
	owner, tool := ForeignOwner(live, c.instance), toolOf(live)
	switch {
	case live.GetAnnotations()[AnnotationKept] == c.keptMark(claim.Owner) && owner == "":
		a.From = fromKept
	case mark != "":
		return c.admitForged(ctx, a, mark)
	case controllerOf(live) != "":
		a.Refused = "it exists and is controlled by " + controllerOf(live)
		a.Hint = "rename it; what a controller owns is never taken over"
	case claim.Marked != nil && claim.Marked(live):
	case tool != "" && claim.Adopt != forge.AdoptForce:
		a.Refused = "it exists and belongs to " + tool
		a.Hint = `delete or rename it, or set policy.adopt to "force" to take it over`
	case owner == "" && claim.Adopt != forge.AdoptForce && claim.Adopt != forge.AdoptIfUnowned:
		a.Refused = "it exists and forged did not make it"
		if f := live.GetManagedFields(); len(f) > 0 {
			a.Refused += " (" + f[0].Manager + " did)"
		}
		a.Hint = `to hand it over: ` + c.handOver(claim.Ref) + `; or set policy.adopt to "if-unowned"`
	default:
		if a.From = tool; tool == "" {
			a.From = "nobody"
		}
	}
	return a, nil
}

// admitOwn admits what bears our mark or is known by its uid, unless it belongs
// to another environment of this forged.
func (c *Cluster) admitOwn(a Admission, live *unstructured.Unstructured) Admission {
	var owner forge.ID
	text := live.GetAnnotations()[AnnotationOwner]
	switch err := owner.UnmarshalText([]byte(text)); {
	case a.claim.UID != "" && a.claim.UID == string(live.GetUID()):
	case text == "":
		a.From = "a person who has handed it over"
	case err == nil && owner.Environment != a.claim.Owner.Environment && a.claim.Adopt != forge.AdoptForce:
		a.Refused = "it exists and belongs to " + text + " of this forged"
		a.Hint = `give the environments different namespaces or names; if that environment is gone, set policy.adopt to "force" to take it over`
	}
	return a
}

// admitForged decides about what another forged has marked: it may be taken
// over by force when no inventory of that one is left in the cluster.
func (c *Cluster) admitForged(ctx context.Context, a Admission, mark string) (Admission, error) {
	a.Refused = "it exists and belongs to another forged, " + mark
	a.Hint = "delete or rename it, or remove it from the other forge.cue"
	if a.claim.Adopt != forge.AdoptForce {
		return a, nil
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	left, err := c.client.CoreV1().ConfigMaps(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: labelInventory + "=" + mark, Limit: 1, // of the storage, not of a cache that may be late
	})
	switch {
	case apierrors.IsForbidden(err):
		a.Refused += "; whether that one is still there cannot be seen"
	case err != nil:
		return a, Classify("look for inventories of forged "+mark, Ref{}, err)
	case len(left.Items) > 0:
		a.Refused += ", which keeps its inventory in namespace " + left.Items[0].Namespace
	default:
		a.Refused, a.Hint, a.From = "", "", "another forged, "+mark+", which is gone"
	}
	return a, nil
}

func (c *Cluster) keptMark(owner forge.ID) string { return c.instance + "/" + owner.String() }

// handOver is the command by which a person makes an object ours.
func (c *Cluster) handOver(ref Ref) string {
	namespace := ""
	if ref.Namespace != "" {
		namespace = " --namespace " + ref.Namespace
	}
	return fmt.Sprintf("%s%s label %s %s %s=%s", c.target.Kubectl(), namespace,
		strings.ToLower(ref.GVK.Kind), ref.Name, LabelInstance, c.instance)
}

// TakeOver prepares an admitted object for its first apply, where it was
// somebody else's until now: fields that client-side apply or another tool
// holds become ours, so that those which we do not send go with the apply;
// marks of other tools go, and so does the copy that kubectl apply keeps of the
// last manifest. It costs one write, or nothing where nothing is taken over.
// It answers Stale when the object has changed since it was admitted.
func (c *Cluster) TakeOver(ctx context.Context, a Admission) error {
	if a.Live == nil || a.From == "" {
		return nil
	}
	const op = "take over"
	ref := a.claim.Ref
	if err := a.Err(op); err != nil {
		return err
	}
	patch, err := c.takeOverPatch(a.Live, a.claim.Owner)
	if err != nil {
		return &reconcile.Error{Kind: reconcile.Internal, ID: a.claim.Owner, Op: op, Object: ref.String(), Err: err}
	}
	mapping, err := c.Mapping(ctx, ref.GVK)
	if err != nil {
		return about(err, ref)
	}
	release, err := c.write(ctx)
	if err != nil {
		return Classify(op, ref, err)
	}
	defer release()
	if err := c.fence.environment(a.claim.Owner.Environment); err != nil {
		return about(err, ref)
	}
	ctx = concerning(ctx, ref, a.claim.Owner)
	c.log.InfoContext(ctx, "taking over", "object", ref.String(), "from", a.From, "resource", a.claim.Owner.String())
	_, err = c.patch(ctx, mapping, ref, patch)
	return err
}

// takeOverPatch is a JSON patch. It marks the object as ours in the same moment
// in which it takes the other marks off: a crash leaves it with an owner.
func (c *Cluster) takeOverPatch(live *unstructured.Unstructured, owner forge.ID) ([]byte, error) {
	fields, err := c.inherit(live)
	if err != nil {
		return nil, err
	}
	marked := &unstructured.Unstructured{Object: map[string]any{}}
	labels, notes := live.GetLabels(), live.GetAnnotations()
	for _, key := range foreignLabels {
		delete(labels, key)
	}
	for _, key := range append(slices.Clone(foreignAnnotations), AnnotationKept, annotationLastApplied) {
		delete(notes, key)
	}
	marked.SetLabels(labels)
	marked.SetAnnotations(notes)
	c.Stamp(marked, owner)
	patch := []map[string]any{
		{"op": "add", "path": "/metadata/labels", "value": marked.GetLabels()},
		{"op": "add", "path": "/metadata/annotations", "value": marked.GetAnnotations()},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
	}
	if fields != nil {
		patch = append(patch, map[string]any{"op": "replace", "path": "/metadata/managedFields", "value": fields})
	}
	return json.Marshal(patch)
}

// inherit makes ours what other deployers hold of an object; nil: nothing.
func (c *Cluster) inherit(live *unstructured.Unstructured) ([]metav1.ManagedFieldsEntry, error) {
	obj := runtime.Object(live.DeepCopy())
	moved := obj.(*unstructured.Unstructured)
	before := live.GetManagedFields()
	// The dead forged's, or that of another tool that applies server-side: the
	// API server keeps one such entry for each manager, whatever its version.
	fields := slices.Clone(before)
	taken := entryOf(fields, c.manager) != nil
	for i := 0; i < len(fields); i++ {
		e := &fields[i]
		foreign := e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" && e.Manager != c.manager &&
			(slices.Contains(deployers, e.Manager) || strings.HasPrefix(e.Manager, "forged/"))
		switch {
		case !foreign:
		case !taken:
			e.Manager, taken = c.manager, true
		default:
			if err := absorb(entryOf(fields, c.manager), e); err != nil {
				return nil, err
			}
			fields = slices.Delete(fields, i, i+1)
			i--
		}
	}
	moved.SetManagedFields(fields)
	if err := csaupgrade.UpgradeManagedFields(moved, sets.New(deployers...), c.manager); err != nil {
		return nil, err
	}
	after := moved.GetManagedFields()
	if sameEntries(before, after) {
		return nil, nil
	}
	return after, nil
}

// absorb adds the fields of one entry to another of the same version.
func absorb(into, from *metav1.ManagedFieldsEntry) error {
	if into.APIVersion != from.APIVersion {
		return nil // its fields cannot be named in the other's version; they stay, and are nobody's
	}
	a, err := fieldSet(into)
	if err != nil {
		return err
	}
	b, err := fieldSet(from)
	if err != nil {
		return err
	}
	raw, err := a.Union(b).ToJSON()
	if err != nil {
		return err
	}
	into.FieldsV1 = &metav1.FieldsV1{}
	into.FieldsV1.SetRawBytes(raw)
	return nil
}

func sameEntries(a, b []metav1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.ManagedFieldsEntry) bool {
		if x.Manager != y.Manager || x.Operation != y.Operation || x.Subresource != y.Subresource {
			return false
		}
		s, err := fieldSet(&x)
		if err != nil {
			return false
		}
		t, err := fieldSet(&y)
		return err == nil && s.Equals(t)
	})
}
