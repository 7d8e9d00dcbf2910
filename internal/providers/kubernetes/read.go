package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	if unserved(err) {
		mapping, err = c.remapped(ctx, mapping, err)
		if UnknownKind(err) {
			return nil, nil
		}
		if err == nil {
			live, err = c.resource(mapping, ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		}
	}
	switch {
	case err == nil:
		return live, nil
	case apierrors.IsNotFound(err) && !unserved(err):
		return nil, nil
	}
	return nil, Classify("get", ref, err)
}

// unserved tells the answer that nothing is served under a path from the one that
// an object is not there. Only the second says anything of the object: the
// version of its kind may have been taken out of service since we looked, or
// what is behind the API server may be away.
func unserved(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && slices.ContainsFunc(details.Causes, func(c metav1.StatusCause) bool {
		return c.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}

// remapped looks again how a kind is served, after an answer that it is not as
// it was. Where that has not changed, nothing is known.
func (c *Cluster) remapped(ctx context.Context, was *meta.RESTMapping, answer error) (*meta.RESTMapping, error) {
	c.ResetDiscovery()
	now, err := c.mappingOf(ctx, was.GroupVersionKind)
	if err == nil && now.Resource == was.Resource && now.Scope.Name() == was.Scope.Name() {
		return nil, answer
	}
	return now, err
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
	if err := c.fence.environment(c.trackedBy(ref).Environment); err != nil {
		return about(err, ref)
	}
	ctx, cancel := bound(concerning(ctx, ref, c.trackedBy(ref)))
	defer cancel()
	if err := c.retainClaims(ctx, mapping, ref, uid); err != nil {
		return err
	}
	if claims, err := c.ownsClaims(ctx, ref, uid); err != nil || len(claims) > 0 {
		if err == nil {
			err = &reconcile.Error{
				Kind: reconcile.Invalid, Op: "delete", Object: ref.String(),
				Err:  fmt.Errorf("volumes belong to it and would be deleted with it: %s", strings.Join(claims, ", ")),
				Hint: "delete it by hand when nobody needs them",
			}
		}
		return err
	}
	id, background := types.UID(uid), metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &id}, PropagationPolicy: &background}
	err = c.resource(mapping, ref.Namespace).Delete(ctx, ref.Name, options)
	if unserved(err) {
		if mapping, err = c.remapped(ctx, mapping, err); UnknownKind(err) {
			return nil
		}
		if err == nil {
			err = c.resource(mapping, ref.Namespace).Delete(ctx, ref.Name, options)
		}
	}
	if apierrors.IsNotFound(err) && !unserved(err) {
		err = nil
	}
	if err == nil {
		c.forget(ref)
	}
	return Classify("delete", ref, err)
}
