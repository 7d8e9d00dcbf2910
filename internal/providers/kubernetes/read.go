package kubernetes

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/reconcile"
)

func (c *Cluster) resource(mapping *meta.RESTMapping, namespace string) dynamic.ResourceInterface {
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.dynamic.Resource(mapping.Resource).Namespace(namespace)
	}
	return c.dynamic.Resource(mapping.Resource)
}

// Get reads an object from the server. An object that is not there is nil
// without an error, and so is one of a kind that the server does not serve; an
// error means that nothing is known.
func (c *Cluster) Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	mapping, err := c.mappingOf(ctx, ref.GVK)
	if UnknownKind(err) {
		return nil, nil
	}
	if err != nil {
		return nil, about(err, ref)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	live, err := c.resource(mapping, ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, Classify("get", ref, err)
	}
	return live, nil
}

// Delete deletes an object if it still is the one with the given uid, and what
// it owns in the background. An object that is gone already is no error; one
// that was replaced by another is Stale.
func (c *Cluster) Delete(ctx context.Context, ref Ref, uid string) error {
	if uid == "" {
		return &reconcile.Error{
			Kind: reconcile.Internal, Op: "delete", Object: ref.String(),
			Err: errors.New("its uid is not known, and without it another object could be hit"),
		}
	}
	mapping, err := c.mappingOf(ctx, ref.GVK)
	if UnknownKind(err) {
		return nil // it went with its kind
	}
	if err != nil {
		return about(err, ref)
	}
	release, err := c.write(ctx)
	if err != nil {
		return Classify("delete", ref, err)
	}
	defer release()
	if err := c.fence.environment(c.environmentOf(ref)); err != nil {
		return about(err, ref)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	if err := c.retainClaims(ctx, mapping, ref, uid); err != nil {
		return err
	}
	id, background := types.UID(uid), metav1.DeletePropagationBackground
	err = c.resource(mapping, ref.Namespace).Delete(ctx, ref.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &id},
		PropagationPolicy: &background,
	})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	if err == nil {
		c.forget(ref)
	}
	return Classify("delete", ref, err)
}
