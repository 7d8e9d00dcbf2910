package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

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
