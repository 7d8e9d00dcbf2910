package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"forged.dev/forged/hack/child"
)

// takeOverFrom ends the daemon that acts, waits until the other one does, and
// starts it again.
func (s *soak) takeOverFrom(ctx context.Context, how func(*child.Child) error) error {
	d, err := s.holder(ctx, patience, s.daemons...)
	if err != nil {
		return err
	}
	if err := d.end(ctx, how); err != nil {
		return err
	}
	if _, err := s.holder(ctx, patience, s.other(d)); err != nil {
		return err
	}
	s.takeovers++
	return d.start(ctx)
}

// cutLine takes a daemon's way to the API server away for a while.
func (s *soak) cutLine(ctx context.Context) error {
	d := s.daemons[s.chance.IntN(len(s.daemons))]
	d.relay.sever(true)
	defer d.relay.sever(false)
	timer := time.NewTimer(time.Duration(200+s.chance.IntN(6000)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *soak) killServers(ctx context.Context) error {
	c, err := s.place.Start("restart", nil, "forged-sandbox", "restart", "--dir", s.sandboxDir())
	if err != nil {
		return err
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
	}
	return c.Stop()
}

// addStrict adds to what nobody else may add to.
func (s *soak) addStrict(ctx context.Context) error {
	patch := fmt.Sprintf(`{"data":{"OF_ONES_OWN":"%d"}}`, s.chance.IntN(1000))
	_, err := s.objects.Resource(configMaps).Namespace(namespace).Patch(ctx, strictName, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"})
	if apierrors.IsNotFound(err) {
		return nil // it is being healed
	}
	return err
}

// removeJob deletes the Job of a migration that is over: it is not run again.
func (s *soak) removeJob(ctx context.Context) error {
	api := s.objects.Resource(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}).Namespace(namespace)
	list, err := api.List(ctx, metav1.ListOptions{LabelSelector: "forged.dev/job"})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	policy := metav1.DeletePropagationBackground
	err = api.Delete(ctx, list.Items[s.chance.IntN(len(list.Items))].GetName(), metav1.DeleteOptions{PropagationPolicy: &policy})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// helmUpgrade does what `helm upgrade --reuse-values --set …` does, with Helm's
// own client and under its own name.
func (s *soak) helmUpgrade(ctx context.Context) error {
	kube.ManagedFieldsManager = "helm"
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.Context, flags.Namespace = &s.kubeconfig, ptr("cluster-1"), ptr(namespace)
	cfg := new(action.Configuration)
	if err := cfg.Init(flags, namespace, "secret", func(string, ...any) {}); err != nil {
		return err
	}
	current, err := action.NewGet(cfg).Run(namespace)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	up := action.NewUpgrade(cfg)
	up.Namespace, up.ReuseValues = namespace, true
	_, err = up.RunWithContext(ctx, namespace, current.Chart, map[string]any{"env": map[string]any{"LOG_LEVEL": "trace"}})
	if err != nil && ctx.Err() == nil {
		// forged is at work there, or an object has just been deleted: people
		// see an error then, and leave it at that.
		s.say("helm upgrade: %s", strings.SplitN(err.Error(), "\n", 2)[0])
		return nil
	}
	return err
}

func ptr[T any](v T) *T { return &v }
