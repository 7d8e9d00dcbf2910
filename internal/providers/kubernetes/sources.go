package kubernetes

import (
	"context"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Follow makes these the Secrets of somebody else that a resource reads, and no
// others: they are watched, and a change of one is told to whoever watches the
// resource's kind. namespace is where those are that name none.
func (c *Cluster) Follow(id forge.ID, namespace string, refs ...forge.KubernetesRef) {
	all := make([]Ref, 0, len(refs))
	for _, ref := range refs {
		all = append(all, sourceRef(ref, namespace))
	}
	c.follow(id, all)
}

// Source is the value of a key of a Secret that is followed. It waits until
// that is known; that there is none is an error of kind Invalid.
func (c *Cluster) Source(ctx context.Context, namespace string, k forge.KubernetesRef, multiLine bool) (secret.Value, error) {
	ref := sourceRef(k, namespace)
	values, exists, err := c.source(ctx, ref)
	if err != nil {
		return secret.Value{}, err
	}
	v, err := pick(ref, k.Key, values, exists, multiLine)
	if err != nil {
		return v, &reconcile.Error{Kind: reconcile.Invalid, Op: "resolve", Err: err}
	}
	return v, nil
}
