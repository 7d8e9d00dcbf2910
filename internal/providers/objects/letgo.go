package objects

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// letGo takes our marks off an object that stays, if it still is the one with
// the given uid: who looks at it later must not think that it is managed.
func (l *Look) letGo(ctx context.Context, ref kubernetes.Ref, uid string) error {
	const op = "let go of"
	mapping, err := l.Cluster.Mapping(ctx, ref.GVK)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         uid,
		"labels":      map[string]any{kubernetes.LabelInstance: nil},
		"annotations": map[string]any{kubernetes.AnnotationOwner: nil},
	}})
	if err != nil {
		return reconcile.Errorf(reconcile.Internal, op, "%v", err)
	}
	var client dynamic.ResourceInterface = l.Cluster.Dynamic().Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		client = l.Cluster.Dynamic().Resource(mapping.Resource).Namespace(ref.Namespace)
	}
	_, err = client.Patch(ctx, ref.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: l.Cluster.Manager()})
	return kubernetes.Classify(op, ref, err)
}
