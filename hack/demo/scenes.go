package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/reconcile"
)

const (
	release = "shop"
	person  = "alice" // who edits by hand, as the API server records it
)

// watchFor reads events until one satisfies ok and tells when it came.
func watchFor(ctx context.Context, w watch.Interface, ok func(watch.Event) bool) (time.Time, error) {
	defer w.Stop()
	limit := time.After(time.Minute)
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return time.Time{}, errors.New("the watch ended")
			}
			if ok(e) {
				return time.Now(), nil
			}
		case <-limit:
			return time.Time{}, errors.New("not healed within a minute")
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

func byName(name, version string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: version}
}

// drift is one change by hand and how to see that it is gone again.
type drift struct {
	what, object string
	watch        watch.Interface // from before the change
	change       func() error
	undone       func(watch.Event) bool
}

// heals makes the change and waits until it is healed; how long that took is
// measured from outside, from the answer to the change.
func (d *demo) heals(ctx context.Context, c drift) error {
	began := time.Now().Truncate(time.Second)
	if err := c.change(); err != nil {
		c.watch.Stop()
		return err
	}
	answered := time.Now()
	healed, err := watchFor(ctx, c.watch, c.undone)
	if err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	a, err := d.healedSince(ctx, began, d.environment, c.object)
	if err != nil {
		return err
	}
	d.record(c.what, max(0, healed.Sub(answered)), a.Reason)
	return nil
}

// again tells, event by event, when a value is back after it was another.
func again[T comparable](want T, value func(watch.Event) (T, bool)) func(watch.Event) bool {
	changed := false
	return func(e watch.Event) bool {
		v, ok := value(e)
		if !ok {
			return false
		}
		changed = changed || v != want
		return changed && v == want
	}
}

func (d *demo) editConfigMap(ctx context.Context) error {
	const name = release + "-env"
	d.title("Somebody edits a ConfigMap", "kubectl edit configmap "+name)
	maps := d.client.CoreV1().ConfigMaps(d.namespace)
	before, err := maps.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	w, err := maps.Watch(ctx, byName(name, before.ResourceVersion))
	if err != nil {
		return err
	}
	level := before.Data["LOG_LEVEL"]
	d.say("data.LOG_LEVEL: %s → edited-by-hand", level)
	return d.heals(ctx, drift{
		what: "ConfigMap edited", object: "ConfigMap " + d.namespace + "/" + name, watch: w,
		change: func() error {
			_, err := maps.Patch(ctx, name, types.MergePatchType, []byte(`{"data":{"LOG_LEVEL":"edited-by-hand"}}`), metav1.PatchOptions{FieldManager: person})
			return err
		},
		undone: again(level, func(e watch.Event) (string, bool) {
			cm, ok := e.Object.(*corev1.ConfigMap)
			if !ok {
				return "", false
			}
			return cm.Data["LOG_LEVEL"], true
		}),
	})
}

func (d *demo) scaleDeployment(ctx context.Context) error {
	d.title("Somebody scales a Deployment", "kubectl scale deployment "+release+" --replicas=7")
	deployments := d.client.AppsV1().Deployments(d.namespace)
	before, err := deployments.Get(ctx, release, metav1.GetOptions{})
	if err != nil {
		return err
	}
	w, err := deployments.Watch(ctx, byName(release, before.ResourceVersion))
	if err != nil {
		return err
	}
	d.say("spec.replicas: %d → 7", *before.Spec.Replicas)
	return d.heals(ctx, drift{
		what: "Deployment scaled", object: "Deployment " + d.namespace + "/" + release, watch: w,
		change: func() error {
			_, err := deployments.UpdateScale(ctx, release, &autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{Name: release, Namespace: d.namespace},
				Spec:       autoscalingv1.ScaleSpec{Replicas: 7},
			}, metav1.UpdateOptions{FieldManager: person})
			return err
		},
		undone: again(*before.Spec.Replicas, func(e watch.Event) (int32, bool) {
			dep, ok := e.Object.(*appsv1.Deployment)
			if !ok || dep.Spec.Replicas == nil {
				return 0, false
			}
			return *dep.Spec.Replicas, true
		}),
	})
}

func (d *demo) deleteService(ctx context.Context) error {
	d.title("Somebody deletes a Service", "kubectl delete service "+release)
	services := d.client.CoreV1().Services(d.namespace)
	before, err := services.Get(ctx, release, metav1.GetOptions{})
	if err != nil {
		return err
	}
	w, err := services.Watch(ctx, byName(release, before.ResourceVersion))
	if err != nil {
		return err
	}
	return d.heals(ctx, drift{
		what: "Service deleted", object: "Service " + d.namespace + "/" + release, watch: w,
		change: func() error { return services.Delete(ctx, release, metav1.DeleteOptions{}) },
		undone: func(e watch.Event) bool { return e.Type == watch.Added },
	})
}

// helmUpgrade does what `helm upgrade --reuse-values --set …` does, with
// Helm's own client and under its own name.
func (d *demo) helmUpgrade(ctx context.Context) error {
	d.title("Somebody runs helm upgrade behind our back", "helm upgrade "+release+" --reuse-values --set env.LOG_LEVEL=trace")
	kube.ManagedFieldsManager = "helm"
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.Context, flags.Namespace = &d.kubeconfig, ptr("cluster-1"), ptr(d.namespace)
	cfg := new(action.Configuration)
	if err := cfg.Init(flags, d.namespace, "secret", func(string, ...any) {}); err != nil {
		return err
	}
	current, err := action.NewGet(cfg).Run(release)
	if err != nil {
		return err
	}
	maps := d.client.CoreV1().ConfigMaps(d.namespace)
	before, err := maps.Get(ctx, release+"-env", metav1.GetOptions{})
	if err != nil {
		return err
	}
	want := before.Data["LOG_LEVEL"]
	began := time.Now().Truncate(time.Second)
	up := action.NewUpgrade(cfg)
	up.Namespace, up.ReuseValues = d.namespace, true
	theirs, err := up.RunWithContext(ctx, release, current.Chart, map[string]any{"env": map[string]any{"LOG_LEVEL": "trace"}})
	answered := time.Now()
	if err != nil {
		return fmt.Errorf("helm upgrade: %w", err)
	}
	d.say("helm made revision %d (forged's was %d)", theirs.Version, current.Version)
	a, err := d.healedSince(ctx, began, d.environment, "release "+d.namespace+"/"+release)
	if err != nil {
		return err
	}
	now, err := maps.Get(ctx, before.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if now.Data["LOG_LEVEL"] != want {
		return fmt.Errorf("LOG_LEVEL is %q after healing, want %q", now.Data["LOG_LEVEL"], want)
	}
	history, err := action.NewHistory(cfg).Run(release)
	if err != nil {
		return err
	}
	for _, r := range history {
		d.say("helm history: revision %d %-10s %s", r.Version, r.Info.Status, r.Info.Description)
	}
	d.record("helm upgrade", max(0, a.At.Add(time.Duration(a.Seconds*float64(time.Second))).Sub(answered)), a.Reason)
	return nil
}

func (d *demo) breakAndMendConfig(ctx context.Context) error {
	d.title("Somebody breaks forge.cue", "and mends it again")
	good, err := os.ReadFile(d.config)
	if err != nil {
		return err
	}
	const from, to = `LOG_LEVEL: "`, `LOG_LEVEL: 7, LOG_LEVELL: "`
	broken := bytes.Replace(good, []byte(from), []byte(to), 1)
	if bytes.Equal(broken, good) {
		return fmt.Errorf("no %s in %s", from, d.config)
	}
	if err := replaceFile(d.config, broken); err != nil {
		return err
	}
	if err := d.reloaded(ctx, 0); err != nil {
		return err
	}
	// The pods that helm replaced may still be on their way: the last good
	// config brings them home while the file is broken.
	if err := d.ready(ctx); err != nil {
		return err
	}
	d.say("the last good config stays in force: everything is %s", reconcile.StateReady)

	mended := bytes.Replace(good, []byte(from), []byte(from+"mended-"), 1)
	began := time.Now()
	if err := replaceFile(d.config, mended); err != nil {
		return err
	}
	maps := d.client.CoreV1().ConfigMaps(d.namespace)
	err = child.Until(ctx, d.daemon.Child, time.Minute, "rollout of the mended file", func() (bool, error) {
		now, err := maps.Get(ctx, release+"-env", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return bytes.HasPrefix([]byte(now.Data["LOG_LEVEL"]), []byte("mended-")), nil
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	if err := d.ready(ctx); err != nil {
		return err
	}
	if err := d.reloaded(ctx, 1); err != nil {
		return err
	}
	d.record("forge.cue broken and mended", took, "config: the new LOG_LEVEL is rolled out")
	return nil
}

// ready waits until everything is as it should be.
func (d *demo) ready(ctx context.Context) error {
	return child.Until(ctx, d.daemon.Child, 2*time.Minute, "the rollout", func() (bool, error) {
		s, err := d.daemon.Status(ctx)
		if err != nil {
			return false, err
		}
		return s.State == reconcile.StateReady, fmt.Errorf("state %s", s.State)
	})
}

// reloaded waits until the metric tells how the last reload went: 1 well, 0 not.
func (d *demo) reloaded(ctx context.Context, want float64) error {
	const metric = "forged_config_last_reload_successful"
	err := child.Until(ctx, d.daemon.Child, time.Minute, fmt.Sprintf("%s %v", metric, want), func() (bool, error) {
		v, err := d.daemon.Metric(ctx, metric, -1)
		return err == nil && v == want, err
	})
	if err == nil {
		d.say("%s %v", metric, want)
	}
	return err
}

// replaceFile writes as editors do: beside the file, then renamed over it.
func replaceFile(path string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(path), ".forge.cue.swp")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func ptr[T any](v T) *T { return &v }
