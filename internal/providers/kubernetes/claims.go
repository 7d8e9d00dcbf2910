package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// letGoPoll is how often it is looked whether claims have been let go of.
const letGoPoll = 100 * time.Millisecond

// retainClaims has a StatefulSet that is about to be deleted keep its claims.
// One with whenDeleted: Delete owns them, and the garbage collector would take
// them with it: data goes by permission, never along with something else. It
// returns when no claim is owned by it any more.
func (c *Cluster) retainClaims(ctx context.Context, mapping *meta.RESTMapping, ref Ref, uid string) error {
	const op = "keep the claims of"
	if ref.GVK.Group != "apps" || ref.GVK.Kind != "StatefulSet" {
		return nil
	}
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil || string(live.GetUID()) != uid {
		return err
	}
	if policy, _, _ := unstructured.NestedString(live.Object, "spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted"); policy != "Delete" {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": uid},
		"spec":     map[string]any{"persistentVolumeClaimRetentionPolicy": map[string]any{"whenDeleted": "Retain"}},
	})
	if err != nil {
		return &reconcile.Error{Kind: reconcile.Internal, Op: op, Object: ref.String(), Err: err}
	}
	_, err = c.resource(mapping, ref.Namespace).Patch(ctx, ref.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: c.manager})
	if err != nil {
		return Classify(op, ref, err)
	}
	ticker := time.NewTicker(letGoPoll)
	defer ticker.Stop()
	for {
		claims, err := c.client.CoreV1().PersistentVolumeClaims(ref.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return Classify(op, ref, err)
		}
		owned := slices.IndexFunc(claims.Items, func(claim corev1.PersistentVolumeClaim) bool {
			return slices.ContainsFunc(claim.OwnerReferences, func(o metav1.OwnerReference) bool { return string(o.UID) == uid })
		})
		if owned < 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return &reconcile.Error{
				Kind: reconcile.Unavailable, Op: op, Object: ref.String(),
				Err: fmt.Errorf("it still owns the claim %s, which would be deleted with it", claims.Items[owned].Name),
			}
		}
	}
}

// ownsClaims names the claims of volumes that would go with an object, since it
// owns them: that of an operator stands for a database more often than not. The
// kinds of Kubernetes own none, but for StatefulSets: see retainClaims.
func (c *Cluster) ownsClaims(ctx context.Context, ref Ref, uid string) ([]string, error) {
	if !custom(ref.GVK.GroupKind()) || ref.Namespace == "" || strings.HasSuffix(ref.GVK.Group, "cert-manager.io") {
		return nil, nil
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	claims, err := c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims")).Namespace(ref.Namespace).
		List(ctx, metav1.ListOptions{})
	if err != nil {
		err = Classify("list the claims of", ref, err)
		if e := (*reconcile.Error)(nil); errors.As(err, &e) && e.Kind == reconcile.Denied {
			e.Hint = "to delete a custom resource, forged has to see that no volume goes with it: it needs the verb list on persistentvolumeclaims in namespace " + ref.Namespace
		}
		return nil, err
	}
	var names []string
	for i := range claims.Items {
		if slices.ContainsFunc(claims.Items[i].OwnerReferences, func(o metav1.OwnerReference) bool { return string(o.UID) == uid }) {
			names = append(names, claims.Items[i].Name)
		}
	}
	return names, nil
}

// Volumes are the claims that a StatefulSet's controller has made for its pods,
// as they are to be listed in the record of its resource when their data is to
// go with it: e is the StatefulSet's entry there. Claims bear no mark of ours, so
// each has to fit in all that a controller gives it: the name, the labels that
// the pods are selected by, no other owner. What a person asks to be kept is not
// among them, nor anything of a StatefulSet that is not ours any more.
func (c *Cluster) Volumes(ctx context.Context, id forge.ID, e Entry) ([]Entry, error) {
	const op = "list the claims of"
	if e.Ref.GVK.Group != "apps" || e.Ref.GVK.Kind != "StatefulSet" || e.Keep {
		return nil, nil
	}
	live, err := c.Get(ctx, e.Ref)
	if err != nil || live == nil || !c.Still(live, id, e) || Kept(live) {
		return nil, err
	}
	raw, _, _ := unstructured.NestedStringMap(live.Object, "spec", "selector", "matchLabels")
	if len(raw) == 0 {
		return nil, nil // selected by other means, and so not told apart by labels
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	claims, err := c.client.CoreV1().PersistentVolumeClaims(e.Ref.Namespace).
		List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(raw).String()})
	if err != nil {
		return nil, Classify(op, e.Ref, err)
	}
	var found []Entry
	for i := range claims.Items {
		claim := &claims.Items[i]
		others := slices.ContainsFunc(claim.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID != live.GetUID() })
		if others || claim.Labels[LabelInstance] != "" || Kept(claim) || !claimFor(live, claim.Name) {
			continue
		}
		found = append(found, Entry{
			Ref: Ref{GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), Namespace: claim.Namespace, Name: claim.Name},
			Of:  string(live.GetUID()), Baseline: Baseline{UID: string(claim.UID)},
		})
	}
	slices.SortFunc(found, func(a, b Entry) int { return a.Ref.Compare(b.Ref) })
	return found, nil
}

// claimFor tells whether a claim has a name that the controller of a StatefulSet
// gives: that of the template, the set's, and the number of the pod.
func claimFor(set *unstructured.Unstructured, name string) bool {
	return slices.ContainsFunc(items(set.Object, "spec", "volumeClaimTemplates"), func(template map[string]any) bool {
		of, _ := child(template, "metadata")["name"].(string)
		number, ok := strings.CutPrefix(name, of+"-"+set.GetName()+"-")
		if !ok || number == "" || len(number) > 1 && number[0] == '0' {
			return false
		}
		return strings.Trim(number, "0123456789") == ""
	})
}
