package helm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// annotationHookOf marks the objects of hooks with the release they ran for.
// They bear no other mark of ours: they are no part of the release, so they
// are neither watched nor healed, and no inventory lists them.
const annotationHookOf = "forged.dev/hook-of"

const (
	defaultHookTimeout = 5 * time.Minute  // where the policy says nothing, as in Helm
	hookReserve        = 10 * time.Second // of the time for the whole action, to end it in an orderly way
	hookPoll           = 100 * time.Millisecond
)

// isHook tells the objects of a hook from those of the release: the SDK sends
// them by the same calls.
func isHook(list kube.ResourceList) bool {
	for _, info := range list {
		if u, ok := info.Object.(*unstructured.Unstructured); ok && u.GetAnnotations()[release.HookAnnotation] != "" {
			return true
		}
	}
	return false
}

// hookTimeout is how long each hook may take: as long as a rollout may take to
// become ready, and never longer than the action it belongs to.
func hookTimeout(ctx context.Context, policy forge.Policy) time.Duration {
	limit := policy.Timeout
	if limit <= 0 {
		limit = defaultHookTimeout
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		limit = min(limit, left-min(hookReserve, left/2))
	}
	return max(limit, time.Second) // the SDK takes 0 for its own default
}

// hookOf is the mark of this release on its hooks.
func (h *handle) hookOf() string {
	return h.cluster.Instance() + "/" + h.spec.Namespace + "/" + h.spec.Name
}

func (c *client) hookClient(info *resource.Info) dynamic.ResourceInterface {
	r := c.h.cluster.Dynamic().Resource(info.Mapping.Resource)
	if info.Namespaced() {
		return r.Namespace(info.Namespace)
	}
	return r
}

func hookRef(info *resource.Info) kubernetes.Ref {
	ref := kubernetes.Ref{GVK: info.Mapping.GroupVersionKind, Name: info.Name}
	if info.Namespaced() {
		ref.Namespace = info.Namespace
	}
	return ref
}

// createHooks makes the objects of a hook by plain requests. What was left by
// a run of the same hook that was cut makes room; Helm would fail over it each
// time.
func (c *client) createHooks(list kube.ResourceList) error {
	for _, info := range list {
		u, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return reconcile.Errorf(reconcile.Internal, "run hook", "%s is a %T", info.Name, info.Object)
		}
		u = u.DeepCopy()
		ref := hookRef(info)
		if err := c.h.inPlace(info.Mapping.Scope.Name(), u, info.Source); err != nil {
			return err
		}
		if _, err := kubernetes.Normalise(u); err != nil {
			return c.h.chartError(info.Source, ref, err)
		}
		notes := u.GetAnnotations()
		notes[annotationHookOf] = c.h.hookOf()
		u.SetAnnotations(notes)
		for attempt := 0; ; attempt++ {
			made, err := c.postHook(info, u)
			if err == nil {
				if err := info.Refresh(made, true); err != nil {
					return reconcile.Errorf(reconcile.Internal, "run hook "+ref.String(), "%v", err)
				}
				break
			}
			if !apierrors.IsAlreadyExists(err) || attempt > 0 {
				return kubernetes.Classify("run hook", ref, err)
			}
			live, err := c.removeHook(info)
			if err != nil {
				return err
			}
			if live != nil { // it holds data, and is taken as it is
				if err := info.Refresh(live, true); err != nil {
					return reconcile.Errorf(reconcile.Internal, "run hook "+ref.String(), "%v", err)
				}
				break
			}
		}
	}
	return nil
}

func (c *client) postHook(info *resource.Info, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(c.ctx, requestTimeout)
	defer cancel()
	return c.hookClient(info).Create(ctx, u, metav1.CreateOptions{FieldManager: c.h.cluster.Manager()})
}

// deleteHooks deletes the objects of a hook, before its next run or after
// this one, as its delete policy asks.
func (c *client) deleteHooks(list kube.ResourceList) error {
	for _, info := range list {
		if _, err := c.removeHook(info); err != nil {
			return err
		}
	}
	return nil
}

// removeHook deletes an object of a hook and waits until it is gone. One that
// holds data, or asks to be kept, stays and is returned.
func (c *client) removeHook(info *resource.Info) (*unstructured.Unstructured, error) {
	ref := hookRef(info)
	live, err := c.h.cluster.Get(c.ctx, ref)
	if err != nil || live == nil {
		return nil, err
	}
	if err := c.ownHook(ref, live); err != nil {
		return nil, err
	}
	if kubernetes.Kept(live) || holdsData(ref) {
		return live, nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, requestTimeout)
	defer cancel()
	uid, background := live.GetUID(), metav1.DeletePropagationBackground
	err = c.hookClient(info).Delete(ctx, ref.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background,
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, kubernetes.Classify("delete hook", ref, err)
	}
	return nil, c.gone(ctx, ref, uid)
}

// gone waits until an object that is being deleted is not there any more.
func (c *client) gone(ctx context.Context, ref kubernetes.Ref, uid types.UID) error {
	held := ""
	err := wait.PollUntilContextCancel(ctx, hookPoll, true, func(ctx context.Context) (bool, error) {
		live, err := c.h.cluster.Get(ctx, ref)
		if err != nil || live == nil || live.GetUID() != uid {
			return err == nil, err
		}
		held = fmt.Sprint(live.GetFinalizers())
		return false, nil
	})
	if err != nil && reconcile.KindOf(err) == reconcile.Internal {
		return &reconcile.Error{
			Kind: reconcile.Unavailable, ID: c.h.id, Object: ref.String(), Op: "wait for the deletion of",
			Err: fmt.Errorf("it is still there, held by %s", held),
		}
	}
	return err
}

// ownHook refuses an object that is no hook of this release: it may be
// somebody's who is not here to be asked.
func (c *client) ownHook(ref kubernetes.Ref, live *unstructured.Unstructured) error {
	h, notes := c.h, live.GetAnnotations()
	of, owner := notes[annotationHookOf], kubernetes.ForeignOwner(live, h.cluster.Instance())
	mark := live.GetLabels()[kubernetes.LabelInstance]
	hint := "delete or rename it; forged takes nothing over unasked"
	var why string
	switch {
	case of == h.hookOf():
		return nil
	case of != "":
		why = "it is a hook of " + of
	case owner != "" && (mark != "" || !h.marked(live)):
		why = "it belongs to " + owner
	case notes[release.HookAnnotation] == "":
		why = "it is there already and is no hook"
	case h.marked(live):
		return nil
	default:
		// Helm leaves no mark on hooks, so that its records have to tell.
		if ran, err := c.ranByHelm(ref); err != nil || ran {
			return err
		}
		why = "it is a hook, and no revision of this release has made it"
		hint = "it may be that of another release, whose chart has one of the same name; if it is nobody's, delete it"
	}
	return &reconcile.Error{
		Kind: reconcile.Conflict, ID: h.id, Object: ref.String(), Op: "run hook", Err: errors.New(why), Hint: hint,
	}
}

// ranByHelm tells whether a record which somebody's helm has written of this
// release has an object among its hooks.
func (c *client) ranByHelm(ref kubernetes.Ref) (bool, error) {
	revs, err := c.h.store.watched(c.ctx, c.h.release)
	if err != nil {
		return false, err
	}
	records := c.h.store.records(c.ctx, c.h.release, revs)
	for _, r := range revs {
		if r.ours {
			continue
		}
		rel, err := records.Get(c.h.spec.Name, r.number)
		if errors.Is(err, driver.ErrReleaseNotFound) {
			continue // helm keeps some, not all
		}
		if err != nil {
			return false, (&seen{h: c.h}).wrap("read the hooks of", err)
		}
		objs, err := parseManifest(inOne(rel.Hooks))
		if err != nil {
			return false, err
		}
		for _, o := range objs {
			if o.GroupVersionKind().GroupKind() == ref.GVK.GroupKind() && o.GetName() == ref.Name {
				return true, nil
			}
		}
	}
	return false, nil
}

// preflightHooks refuses, before a revision is written, what hooks would fail
// over: objects in their place that are not theirs.
func (c *client) preflightHooks(ctx context.Context, hooks []*release.Hook, events ...release.HookEvent) error {
	for _, hook := range hooks {
		runs := false
		for _, e := range hook.Events {
			for _, due := range events {
				runs = runs || e == due
			}
		}
		if !runs {
			continue
		}
		objs, err := parseManifest("---\n# Source: " + hook.Path + "\n" + hook.Manifest)
		if err != nil {
			return err
		}
		for _, o := range objs {
			m, err := c.mapping(o.GroupVersionKind(), nil)
			if err != nil {
				return err
			}
			if err := c.h.inPlace(m.Scope.Name(), o.Unstructured, o.source); err != nil {
				return err
			}
			ref := kubernetes.RefOf(o.Unstructured)
			live, err := c.h.cluster.Get(ctx, ref)
			if kubernetes.UnknownKind(err) {
				continue // its kind comes with the release
			}
			if err != nil {
				return err
			}
			if live == nil {
				continue
			}
			if err := c.ownHook(ref, live); err != nil {
				return err
			}
		}
	}
	return nil
}

// holdsData tells kinds whose deletion would take what cannot be made again.
func holdsData(ref kubernetes.Ref) bool {
	switch ref.GVK.Kind {
	case "PersistentVolumeClaim", "PersistentVolume", "Namespace", crdKind:
		return true
	}
	return false
}
