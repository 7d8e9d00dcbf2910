// Package volume plays a cloud's volume service: it provisions an empty
// PersistentVolume for every claim on one of a provider's storage classes,
// grows it when the claim grows, and removes it when the claim is gone. It is
// an external provisioner like any CSI driver's; binding is left to the real
// volume controller in kube-controller-manager.
package volume

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// Provisioner is what the sandbox's storage classes name as provisioner.
const Provisioner = "sandbox.forged.dev/volume"

// Provider is where volumes come from.
type Provider interface {
	// Name is what storage classes and volumes call it by.
	Name() string
	// Provision gives the volume a source, and what else it has of the provider's.
	// It may be asked again for the same volume. A *Refusal says that there will
	// be none.
	Provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) error
	// Delete discards what is behind the volume; there may be nothing any more.
	Delete(ctx context.Context, volume *corev1.PersistentVolume) error
}

// Refusal is why a claim gets no volume, whenever it asks.
type Refusal struct{ Why string }

func (r *Refusal) Error() string { return r.Why }

// Plain is the provider of a cluster that is no cloud's in particular.
type Plain struct{}

// Name implements Provider.
func (Plain) Name() string { return Provisioner }

// Provision implements Provider.
func (Plain) Provision(_ context.Context, _ *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) error {
	// A volume needs a source. Nothing ever mounts this one.
	volume.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/var/lib/forged-sandbox/" + volume.Name}
	return nil
}

// Delete implements Provider.
func (Plain) Delete(context.Context, *corev1.PersistentVolume) error { return nil }

// Annotations of the protocol between kube-controller-manager and provisioners.
const (
	// On a claim: who is to provision it. The volume controller sets it once it
	// has found no existing volume to bind, and, for a class that waits, once the
	// scheduler has picked a node.
	askedOf = "volume.kubernetes.io/storage-provisioner"
	// On a volume: who made it, and so who deletes it.
	madeBy = "pv.kubernetes.io/provisioned-by"
)

// ref names a claim, or a volume when the namespace is empty.
type ref = cache.ObjectName

type controller struct {
	client   kubernetes.Interface
	provider Provider
	events   record.EventRecorder
	claims   corelisters.PersistentVolumeClaimLister
	volumes  corelisters.PersistentVolumeLister
	classes  storagelisters.StorageClassLister
	queue    workqueue.TypedRateLimitingInterface[ref]
}

// Run provisions volumes of the provider until ctx ends. It calls ready when it
// has seen all objects there are.
func Run(ctx context.Context, client kubernetes.Interface, provider Provider, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactory(client, 0)
	defer func() {
		cancel() // ends the informers, for which Shutdown waits
		factory.Shutdown()
	}()
	claims := factory.Core().V1().PersistentVolumeClaims()
	volumes := factory.Core().V1().PersistentVolumes()
	classes := factory.Storage().V1().StorageClasses()
	c := &controller{
		client:   client,
		provider: provider,
		events:   recorder(ctx, client, provider.Name()),
		claims:   claims.Lister(),
		volumes:  volumes.Lister(),
		classes:  classes.Lister(),
		queue:    workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[ref]()),
	}
	if err := errors.Join(c.watch(claims.Informer()), c.watch(volumes.Informer())); err != nil {
		return err
	}
	classes.Informer() // asking for it makes the factory start it

	factory.StartWithContext(ctx)
	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ready()

	defer context.AfterFunc(ctx, c.queue.ShutDown)()
	for c.next(ctx) {
	}
	return nil
}

// recorder writes events until ctx ends.
func recorder(ctx context.Context, client kubernetes.Interface, name string) record.EventRecorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: name})
}

func (c *controller) watch(informer cache.SharedIndexInformer) error {
	enqueue := func(object any) {
		if name, err := cache.ObjectToName(object); err == nil {
			c.queue.Add(name)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
		// What is gone needs nothing: the volume controller releases the volume
		// of a claim that went, and that is a change of the volume.
	})
	return err
}

// next handles one object; it returns false when there will be no more.
func (c *controller) next(ctx context.Context) bool {
	key, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(key)
	sync := c.claim
	if key.Namespace == "" {
		sync = c.volume
	}
	err := sync(ctx, key)
	var refused *Refusal
	if err != nil && !apierrors.IsNotFound(err) && !errors.As(err, &refused) {
		klog.FromContext(ctx).Error(err, "Will try again", "object", key)
		c.queue.AddRateLimited(key)
		return true
	}
	c.queue.Forget(key)
	return true
}

func (c *controller) claim(ctx context.Context, name ref) error {
	claim, err := c.claims.PersistentVolumeClaims(name.Namespace).Get(name.Name)
	if err != nil {
		return err
	}
	switch {
	case claim.DeletionTimestamp != nil:
		return nil
	case claim.Spec.VolumeName != "":
		return c.grow(ctx, claim)
	case claim.Annotations[askedOf] == c.provider.Name():
		return c.provision(ctx, claim)
	}
	return nil
}

// provision makes a volume for the claim. Its name follows from the claim, so a
// second attempt finds the first one's volume.
func (c *controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	class, err := c.classes.Get(ptr.Deref(claim.Spec.StorageClassName, ""))
	if err != nil {
		return err
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "pvc-" + string(claim.UID),
			Annotations: map[string]string{madeBy: c.provider.Name()},
		},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: ptr.Deref(class.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete),
			MountOptions:                  class.MountOptions,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1",
				Kind:       "PersistentVolumeClaim",
				Namespace:  claim.Namespace,
				Name:       claim.Name,
				UID:        claim.UID,
			},
		},
	}
	if err := c.provider.Provision(ctx, claim, volume); err != nil {
		c.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		return err
	}
	_, err = c.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// grow makes a bound volume as large as its claim asks, as a resizer would. The
// API server has checked that the class allows it.
func (c *controller) grow(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Status.Phase != corev1.ClaimBound {
		return nil
	}
	want := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	volume, err := c.volumes.Get(claim.Spec.VolumeName)
	if err != nil {
		return err
	}
	if volume.Annotations[madeBy] != c.provider.Name() {
		return nil
	}
	if has := volume.Spec.Capacity[corev1.ResourceStorage]; has.Cmp(want) < 0 {
		volume = volume.DeepCopy()
		volume.Spec.Capacity[corev1.ResourceStorage] = want
		if _, err := c.client.CoreV1().PersistentVolumes().Update(ctx, volume, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if has := claim.Status.Capacity[corev1.ResourceStorage]; has.Cmp(want) < 0 {
		claim = claim.DeepCopy()
		if claim.Status.Capacity == nil {
			claim.Status.Capacity = corev1.ResourceList{}
		}
		claim.Status.Capacity[corev1.ResourceStorage] = want
		claim.Status.Conditions = nil // "resizing" and "waiting for the file system"
		if _, err := c.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// volume removes a volume whose claim is gone, if that is its policy.
func (c *controller) volume(ctx context.Context, name ref) error {
	volume, err := c.volumes.Get(name.Name)
	if err != nil {
		return err
	}
	if volume.Annotations[madeBy] != c.provider.Name() ||
		volume.DeletionTimestamp != nil ||
		volume.Status.Phase != corev1.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return nil
	}
	if err := c.provider.Delete(ctx, volume); err != nil {
		return fmt.Errorf("delete what is behind volume %s: %w", volume.Name, err)
	}
	err = c.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(volume.UID)),
	})
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", volume.Name, err)
	}
	return nil
}
