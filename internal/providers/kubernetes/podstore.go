package kubernetes

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// podSeen is what is kept of a pod.
type podSeen struct {
	name    string
	owner   string // uid of its controller; its own if it has none
	hash    string // of the revision it was made from
	first   string // of its containers
	ending  bool
	trouble trouble
}

// watch fills the store until ctx ends.
func (f *podWatch) watch(ctx context.Context, selector labels.Selector) {
	logger := logr.Discard()
	api := f.c.client.CoreV1().Pods(f.ref.Namespace)
	only := ""
	if f.ref.GVK.GroupKind() == podKind {
		only = fields.OneTermEqualSelector(metav1.ObjectNameField, f.ref.Name).String()
	}
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector, o.FieldSelector = selector.String(), only
			l, err := api.List(ctx, o)
			f.mu.Lock()
			was := f.blind
			f.blind = Classify("list the pods of", f.ref, err)
			f.mu.Unlock()
			if (was == nil) != (err == nil) && !errors.Is(err, context.Canceled) {
				f.wake()
			}
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
			o.LabelSelector, o.FieldSelector = selector.String(), only
			return api.Watch(ctx, o)
		},
	}, nil, f, cache.ReflectorOptions{Logger: &logger, Name: "pods of " + f.ref.String(), TypeDescription: "Pod"})
	reflector.RunWithContext(ctx)
}

func (f *podWatch) wake() {
	select {
	case f.moved <- struct{}{}:
	default: // it is awake
	}
}

func (f *podWatch) put(pod *corev1.Pod) {
	p := podSeen{
		name: pod.Name, owner: string(pod.UID), hash: pod.Labels[appsv1.ControllerRevisionHashLabelKey],
		ending: pod.DeletionTimestamp != nil, trouble: troubleOf(pod),
	}
	if len(pod.Spec.Containers) > 0 {
		p.first = pod.Spec.Containers[0].Name
	}
	if o := metav1.GetControllerOfNoCopy(pod); o != nil {
		p.owner = string(o.UID)
	}
	f.mu.Lock()
	_, known := f.pods[pod.Name]
	f.pods[pod.Name] = p
	f.fresh = f.fresh || !known
	f.mu.Unlock()
	f.wake()
}

// Add implements cache.ReflectorStore.
func (f *podWatch) Add(obj any) error { return f.Update(obj) }

// Update implements cache.ReflectorStore.
func (f *podWatch) Update(obj any) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("watch of the pods of %s: unexpected %T", f.ref, obj)
	}
	f.put(pod)
	return nil
}

// Delete implements cache.ReflectorStore.
func (f *podWatch) Delete(obj any) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("watch of the pods of %s: unexpected %T", f.ref, obj)
	}
	f.mu.Lock()
	delete(f.pods, pod.Name)
	f.mu.Unlock()
	f.wake()
	return nil
}

// Replace implements cache.ReflectorStore: this is all there is.
func (f *podWatch) Replace(list []any, _ string) error {
	f.mu.Lock()
	f.pods = map[string]podSeen{}
	f.mu.Unlock()
	for _, obj := range list {
		if err := f.Update(obj); err != nil {
			return err
		}
	}
	f.wake()
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (f *podWatch) Resync() error { return nil }
