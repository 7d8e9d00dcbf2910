package objects

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// NewClaims makes the provider of kind "claim": a volume that outlives what
// uses it. It can grow where its storage class lets it. It is deleted only
// where that was asked for and confirmed, and let go of where it is to be
// kept.
func NewClaims(clusters *kubernetes.Clusters) reconcile.Provider {
	c := &claims{waits: map[string]bool{}}
	return New(clusters, Kind{
		Name: forge.KindClaim,
		Namespace: func(s forge.Spec) (string, bool) {
			spec, ok := s.(forge.ClaimSpec)
			return spec.Namespace, ok
		},
		Gone:   func(namespace string) forge.Spec { return forge.ClaimSpec{Namespace: namespace} },
		Want:   c.want,
		Tell:   c.tell,
		Review: c.review,
		Data:   true,
	})
}

type claims struct {
	mu    sync.Mutex
	waits map[string]bool // by uid of a claim that is not bound: it is bound when a pod wants it
}

// labelRegion is how Fly Kubernetes is asked for a disk in a region: Fly docs,
// Using volumes with FKS.
const labelRegion = "region"

var claimGVK = corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim")

func (*claims) want(_ context.Context, l *Look) ([]Object, error) {
	spec := l.Request.Resource.Spec.(forge.ClaimSpec) // Namespace has seen to that
	size, err := resource.ParseQuantity(spec.Size)
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Invalid, "make", "the size %q is no quantity", spec.Size)
	}
	want := map[string]any{
		"accessModes": []any{spec.Access},
		"resources":   map[string]any{"requests": map[string]any{"storage": size.String()}},
	}
	if spec.StorageClass != "" {
		want["storageClassName"] = spec.StorageClass
	}
	if spec.Region != "" {
		want["selector"] = map[string]any{"matchLabels": map[string]any{labelRegion: spec.Region}}
	}
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": want}}
	obj.SetGroupVersionKind(claimGVK)
	obj.SetNamespace(spec.Namespace)
	obj.SetName(spec.Name)
	if len(spec.Labels) > 0 {
		obj.SetLabels(spec.Labels)
	}
	o := Object{Manifest: obj, Keep: spec.Retain}
	if o.Desired, err = o.hash(); err != nil {
		return nil, err
	}
	o.Desired += fmt.Sprintf("/%t", spec.Retain) // what happens at its end is kept with it
	return []Object{o}, nil
}

// tell has a claim that waits for its first pod count as ready: the pod waits
// for the claim.
func (c *claims) tell(ctx context.Context, l *Look, o *reconcile.Observed) error {
	if o.Health.Status != reconcile.Progressing || len(l.Objects) == 0 {
		return nil
	}
	ref := l.Objects[0].Ref()
	if _, applied := l.Applied(ref); !applied || l.Drift(ref) != nil {
		return nil
	}
	state, err := l.Cluster.Live(ctx, ref)
	if err != nil || !state.Exists || state.Deleting {
		return err
	}
	waits, err := c.waitsForPod(ctx, l.Cluster, ref, state.UID)
	if err != nil {
		return err
	}
	if waits {
		o.Health = reconcile.Health{Status: reconcile.Ready, Message: ref.String() + " is bound when the first pod uses it"}
	}
	return nil
}

// waitsForPod tells whether a claim is bound no sooner than a pod uses it.
func (c *claims) waitsForPod(ctx context.Context, cluster *kubernetes.Cluster, ref kubernetes.Ref, uid string) (bool, error) {
	c.mu.Lock()
	waits, known := c.waits[uid]
	c.mu.Unlock()
	if known {
		return waits, nil
	}
	class, err := classOf(ctx, cluster, ref)
	if err != nil || class == nil {
		return false, err // a class that comes later has the claim looked at again by its own change
	}
	waits = class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	c.mu.Lock()
	c.waits[uid] = waits // neither the class of a claim nor the mode of a class can change
	c.mu.Unlock()
	return waits, nil
}

// classOf is the storage class of a claim that is there; nil if it has none.
func classOf(ctx context.Context, cluster *kubernetes.Cluster, ref kubernetes.Ref) (*storagev1.StorageClass, error) {
	live, err := cluster.Get(ctx, ref)
	if err != nil || live == nil {
		return nil, err
	}
	name, _, _ := unstructured.NestedString(live.Object, "spec", "storageClassName")
	if name == "" {
		return nil, nil
	}
	class, err := cluster.Client().StorageV1().StorageClasses().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, kubernetes.Classify("get", kubernetes.Ref{GVK: storagev1.SchemeGroupVersion.WithKind("StorageClass"), Name: name}, err)
	}
	return class, nil
}

// review blocks what a volume cannot do: shrink, grow where its class does not
// let it, become another kind of volume.
func (c *claims) review(ctx context.Context, l *Look, o Object, live *unstructured.Unstructured, step *reconcile.Step) error {
	spec := l.Request.Resource.Spec.(forge.ClaimSpec)
	has, want, err := sizes(live, o.Manifest)
	if err != nil {
		return err
	}
	class, _, _ := unstructured.NestedString(live.Object, "spec", "storageClassName")
	region, _, _ := unstructured.NestedString(live.Object, "spec", "selector", "matchLabels", labelRegion)
	phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
	modes, _, _ := unstructured.NestedStringSlice(live.Object, "spec", "accessModes")
	switch {
	case spec.StorageClass != "" && class != spec.StorageClass:
		step.Blocked = fmt.Sprintf("its storage class is %s and cannot become %s; make a volume of another name and copy the data", class, spec.StorageClass)
	case len(modes) != 1 || modes[0] != spec.Access:
		step.Blocked = fmt.Sprintf("its access mode is %v and cannot become %s; make a volume of another name and copy the data", modes, spec.Access)
	case spec.Region != region:
		step.Blocked = fmt.Sprintf("its region is %s and cannot become %s; write the region that it has, or make a volume of another name and copy the data", place(region), place(spec.Region))
	case want.Cmp(has) < 0:
		step.Blocked = fmt.Sprintf("it has %s and cannot shrink to %s; make a volume of another name and copy the data", has.String(), want.String())
	case want.Cmp(has) > 0 && phase != string(corev1.ClaimBound):
		step.Blocked = fmt.Sprintf("it asks for %s and cannot grow to %s before it is bound to a volume", has.String(), want.String())
	case want.Cmp(has) > 0:
		class, err := classOf(ctx, l.Cluster, o.Ref())
		if err != nil {
			return err
		}
		if class == nil || class.AllowVolumeExpansion == nil || !*class.AllowVolumeExpansion {
			name := "no storage class"
			if class != nil {
				name = "storage class " + class.Name
			}
			step.Blocked = fmt.Sprintf("it has %s and cannot grow to %s: %s allows no expansion", has.String(), want.String(), name)
		}
	}
	return nil
}

// place is a region as a person reads it.
func place(region string) string {
	if region == "" {
		return "that of the cluster"
	}
	return region
}

// sizes are what a claim asks for, and what it is to ask for.
func sizes(live, wanted *unstructured.Unstructured) (has, want resource.Quantity, err error) {
	for _, s := range []struct {
		obj *unstructured.Unstructured
		to  *resource.Quantity
	}{{live, &has}, {wanted, &want}} {
		text, _, _ := unstructured.NestedString(s.obj.Object, "spec", "resources", "requests", "storage")
		if *s.to, err = resource.ParseQuantity(text); err != nil {
			return has, want, reconcile.Errorf(reconcile.Internal, "read the size of "+kubernetes.RefOf(s.obj).String(), "%v", err)
		}
	}
	return has, want, nil
}
