package helm

import (
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// compared is the number of the revision that the SDK compares the next one
// with: what that one holds and the next does not is deleted. 0: none.
func (s *seen) compared(d deed) int {
	switch {
	case s.installs():
		return 0
	case s.newest.status == release.StatusDeployed, d == deedGoBack, d == deedRestore, d == deedReturn:
		return s.newest.number
	}
	deployed := 0
	for _, r := range s.revs {
		if r.status == release.StatusDeployed {
			deployed = max(deployed, r.number)
		}
	}
	if deployed == 0 {
		return s.newest.number
	}
	return deployed
}

// listLeaving lists in a step what is deleted with a revision that somebody
// else's helm has made, and what of that stays. No inventory lists it, and it
// counts as much as what one does. wanted are the objects of the next revision.
func (s *seen) listLeaving(ctx context.Context, number int, wanted []kubernetes.Ref, step *reconcile.Step) error {
	theirs := slices.ContainsFunc(s.revs, func(r revision) bool { return r.number == number && !r.ours })
	if !theirs {
		return nil // what we have made is in the inventory
	}
	rel, err := s.h.store.records(ctx, s.h.release, s.revs).Get(s.h.spec.Name, number)
	if err != nil {
		return s.wrap(fmt.Sprintf("read revision %d of", number), err)
	}
	objs, err := parseManifest(rel.Manifest)
	if err != nil {
		return err
	}
	known := map[kubernetes.Ref]bool{}
	for _, ref := range wanted {
		known[anyVersion(ref)] = true
	}
	for _, e := range s.record.Entries {
		known[anyVersion(e.Ref)] = true
	}
	for _, o := range objs {
		m, err := s.h.cluster.Mapping(ctx, o.GroupVersionKind())
		if kubernetes.UnknownKind(err) {
			continue // it went with its kind
		}
		if err != nil {
			return err
		}
		ref := kubernetes.RefOf(o.Unstructured)
		switch {
		case m.Scope.Name() != meta.RESTScopeNameNamespace:
			ref.Namespace = ""
		case ref.Namespace == "":
			ref.Namespace = s.h.spec.Namespace
		}
		if known[anyVersion(ref)] {
			continue
		}
		live, err := s.h.cluster.Get(ctx, ref)
		if err != nil {
			return err
		}
		switch {
		case live == nil:
		case s.h.leaves(ref, live):
			step.Changes = append(step.Changes, reconcile.Change{Path: ref.String(), From: "Helm's", To: "deleted"})
			step.Deletes++
		default:
			step.Changes = append(step.Changes, reconcile.Change{Path: ref.String(), From: "Helm's", To: "kept"})
		}
	}
	return nil
}

// leaves tells whether an object that no inventory lists goes with a revision
// of somebody's helm: it bears the marks of this release and of nobody else,
// holds no data and does not ask to be kept.
func (h *handle) leaves(ref kubernetes.Ref, live *unstructured.Unstructured) bool {
	return h.marked(live) && !kubernetes.Kept(live) && !holdsData(ref) && live.GetLabels()[kubernetes.LabelInstance] == ""
}

func refsOf(objs []object) []kubernetes.Ref {
	refs := make([]kubernetes.Ref, len(objs))
	for i, o := range objs {
		refs[i] = o.ref
	}
	return refs
}
