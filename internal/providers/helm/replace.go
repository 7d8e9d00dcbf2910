package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// What policy.recreate allows.
const (
	recreateStateless = "stateless"
	recreateAny       = "any"
)

// goneTimeout bounds the wait for an object that is made anew to be gone.
const goneTimeout = time.Minute

// stateless are the kinds that hold nothing but their manifest, by group.
var stateless = map[string][]string{
	"":                             {"ConfigMap", "Secret", "Service", "ServiceAccount", "Pod", "ReplicationController", "ResourceQuota", "LimitRange"},
	"apps":                         {"Deployment", "DaemonSet", "ReplicaSet"},
	"batch":                        {"Job", "CronJob"},
	"autoscaling":                  {"HorizontalPodAutoscaler"},
	"policy":                       {"PodDisruptionBudget"},
	"networking.k8s.io":            {"Ingress", "IngressClass", "NetworkPolicy"},
	"rbac.authorization.k8s.io":    {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"},
	"scheduling.k8s.io":            {"PriorityClass"},
	"admissionregistration.k8s.io": {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"},
}

// mayReplace tells whether the policy lets an object be deleted and made
// again, and whether data may be lost with it.
func mayReplace(recreate string, ref kubernetes.Ref) (may, destroys bool) {
	if holdsData(ref) || recreate != recreateStateless && recreate != recreateAny {
		return false, false
	}
	for _, kind := range stateless[ref.GVK.Group] {
		if kind == ref.GVK.Kind {
			return true, false
		}
	}
	if recreate != recreateAny {
		return false, false
	}
	// The pods of a StatefulSet stay, and so do its claims. What a custom
	// resource stands for, nobody here knows.
	return true, !keepsPods(ref)
}

// keepsPods tells kinds whose pods are left running for the next object.
func keepsPods(ref kubernetes.Ref) bool {
	return ref.GVK.Group == "apps" && ref.GVK.Kind == "StatefulSet"
}

// check asks the API server whether it would take what has changed. What only
// an object made anew could take is replaced where the policy allows it;
// otherwise the step is blocked. Any other mistake is an error, and nothing is
// ever deleted for it.
func (h *handle) check(ctx context.Context, c *client, objs []object, missing crds, r *rollout, step *reconcile.Step) error {
	refused := make([]error, len(objs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, o := range objs {
		old, known := c.old[o.ref]
		if known && h.sealed(old, o) || missing.mapping(o.ref.GVK) != nil {
			continue
		}
		g.Go(func() error {
			u, err := o.unstructured()
			if err != nil {
				return reconcile.Errorf(reconcile.Internal, "check "+o.ref.String(), "%v", err)
			}
			if _, err = h.cluster.Mapping(gctx, o.ref.GVK); kubernetes.UnknownKind(err) {
				return nil // it comes with the release; prepare has seen to it
			}
			if _, err = h.cluster.DryRun(gctx, u); kubernetes.IsImmutable(err) {
				refused[i], err = err, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, err := range refused {
		if err == nil {
			continue
		}
		if err := h.immutable(ctx, c.old[objs[i].ref], objs[i], err, r, step); err != nil {
			return err
		}
	}
	return nil
}

// immutable decides about an object that cannot become what is wanted.
func (h *handle) immutable(ctx context.Context, old kubernetes.Entry, o object, refusal error, r *rollout, step *reconcile.Step) error {
	may, destroys := mayReplace(h.req.Policy.Recreate, o.ref)
	live, err := h.cluster.Get(ctx, o.ref)
	if err != nil {
		return err
	}
	if live == nil || old.Baseline.UID == "" || string(live.GetUID()) != old.Baseline.UID {
		may = false // only what was recorded as ours is deleted
	} else if marked, _, _ := unstructured.NestedBool(live.Object, "immutable"); marked {
		step.Blocked = fmt.Sprintf("%s is marked immutable, and would change; set back what leads to it", o.ref)
		return nil // whoever marked it has said that it is not to change, by no detour either
	}
	if !may {
		if step.Blocked == "" {
			step.Blocked = refused(refusal)
		}
		return nil
	}
	if err := h.couldBeMade(ctx, o); err != nil {
		return err
	}
	r.replace[o.ref] = old.Baseline.UID
	how := "deleted and made again"
	if keepsPods(o.ref) {
		how = "deleted and made again; its pods and their volumes stay"
	}
	step.Changes = append(step.Changes, reconcile.Change{Path: o.ref.String(), To: how})
	step.Deletes++
	if destroys {
		step.Destroys = append(step.Destroys, o.ref.String())
	}
	return nil
}

// refused is a refusal as a step tells it.
func refused(refusal error) string {
	var e *reconcile.Error
	if !errors.As(refusal, &e) {
		return refusal.Error()
	}
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "; " + e.Hint
}

// couldBeMade asks the API server whether it would take an object as a new one:
// it says of one that is there only that it cannot be changed, whatever else is
// wrong with it, and a mistake must not delete anything. The question is asked
// under a name that nothing has.
func (h *handle) couldBeMade(ctx context.Context, o object) error {
	u, err := o.unstructured()
	if err != nil {
		return reconcile.Errorf(reconcile.Internal, "check "+o.ref.String(), "%v", err)
	}
	name := o.ref.Name
	u.SetName(strings.TrimRight(name[:min(len(name), 50)], "-.") + "-" + digestOf(name)[:8])
	if _, err = h.cluster.DryRun(ctx, u); reconcile.KindOf(err) != reconcile.Invalid {
		return err
	}
	return &reconcile.Error{
		Kind: reconcile.Invalid, ID: h.id, Object: o.ref.String(), Op: "make anew",
		Err: fmt.Errorf("it has to be, since a field changes that cannot change in place, and as a new object it would be refused: %w", err),
	}
}

// makeRoom deletes an object that is to be made again, if it still is the one
// that was planned for, and waits until it is gone.
func (c *client) makeRoom(ctx context.Context, ref kubernetes.Ref, uid string) error {
	m, err := c.h.cluster.Mapping(ctx, ref.GVK)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	id, propagation := types.UID(uid), metav1.DeletePropagationBackground
	if keepsPods(ref) {
		propagation = metav1.DeletePropagationOrphan
	}
	in := c.h.cluster.Dynamic().Resource(m.Resource)
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &id}, PropagationPolicy: &propagation}
	if ref.Namespace != "" {
		err = in.Namespace(ref.Namespace).Delete(ctx, ref.Name, options)
	} else {
		err = in.Delete(ctx, ref.Name, options)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("make room: %w", kubernetes.Classify("delete", ref, err))
	}
	return c.gone(ctx, ref, id)
}
