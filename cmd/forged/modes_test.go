package main

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
)

// cleanupContext is for what is deleted after a test.
func cleanupContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// edit changes an object as a person would.
func (h *home) edit(kind, name, patch string) {
	h.t.Helper()
	ctx, by := h.t.Context(), metav1.PatchOptions{FieldManager: "a-person"}
	var err error
	switch kind {
	case "ConfigMap":
		_, err = h.Client.CoreV1().ConfigMaps(h.Namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), by)
	case "Deployment":
		_, err = h.Client.AppsV1().Deployments(h.Namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), by)
	default:
		h.t.Fatalf("edit of a %s", kind)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) image() string {
	h.t.Helper()
	d, err := h.Client.AppsV1().Deployments(h.Namespace).Get(h.t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return d.Spec.Template.Spec.Containers[0].Image
}

func (h *home) setting(key string) string {
	h.t.Helper()
	cm, err := h.Client.CoreV1().ConfigMaps(h.Namespace).Get(h.t.Context(), "shop-env", metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return cm.Data[key]
}

// moded is a forge of one app in a mode.
func moded(mode, tag string) string {
	return strings.Replace(app, "1.4.2", tag, 1) + strings.Replace(small, `"apply"`, `"`+mode+`"`, 1) +
		"app: env: LOG_LEVEL: \"INFO\"\n"
}

// installed has a home with the app in it and nobody at work.
func installed(t *testing.T) *home {
	t.Helper()
	h := newHome(t)
	h.write("forge.cue", moded("apply", "1.4.1"))
	if out, stderr, code := h.command("run", "--once", "--instance", h.Instance); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, stderr)
	}
	return h
}

func stepOf(s server.Snapshot, id string, action reconcile.Action) *reconcile.StepStatus {
	r := resource(s, id)
	if r == nil {
		return nil
	}
	for i := range r.Steps {
		if r.Steps[i].Action == action {
			return &r.Steps[i]
		}
	}
	return nil
}

func TestObserveChangesNothing(t *testing.T) {
	t.Parallel()
	h := installed(t)
	before := len(h.mutations())
	h.write("forge.cue", moded("observe", "1.4.1"))
	d := h.run()
	d.await("in sync", ready(1))
	h.edit("ConfigMap", "shop-env", `{"data":{"LOG_LEVEL":"by-hand"}}`)
	s := d.await("the drift", func(s server.Snapshot) bool { return state(s, "prod/release/app") == reconcile.StateDrifted })
	step := stepOf(s, "prod/release/app", reconcile.ActionHeal)
	if step == nil || !strings.Contains(step.Reason, "a-person") || !strings.Contains(step.Reason, "data.LOG_LEVEL") || step.Held == "" {
		t.Errorf("who wrote what, and why it stays, is not said: %+v", step)
	}
	h.write("forge.cue", moded("observe", "1.4.2"))
	s = d.await("the rollout that is due", func(s server.Snapshot) bool {
		return s.Generation == 2 && stepOf(s, "prod/release/app", reconcile.ActionUpdate) != nil
	})
	if s.State != reconcile.StateDrifted {
		t.Errorf("state %s", s.State)
	}
	if m, err := d.get("/metrics"); err != nil || !strings.Contains(m, `forged_drift_detected_total{environment="prod",kind="release",reason="edited"} 1`) ||
		strings.Contains(m, "forged_drift_healed_total{") {
		t.Errorf("metrics: %v\n%s", err, m)
	}
	d.stop()
	if m := h.mutations()[before:]; len(m) > 0 {
		t.Errorf("observe changed something: %v", m)
	}
	if h.setting("LOG_LEVEL") != "by-hand" || !strings.HasSuffix(h.image(), ":1.4.1") {
		t.Error("not everything is as it was")
	}
}

// Observe on a cluster that has nothing of ours makes nothing.
func TestObserveMakesNothing(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("forge.cue", moded("observe", "1.4.1"))
	d := h.run()
	s := d.await("what is to be created", func(s server.Snapshot) bool {
		return environment(s, "prod").State == reconcile.StateDrifted && s.Environments[0].Resources[0].State == reconcile.StateDrifted
	})
	if step := stepOf(s, "prod/namespace/"+h.Namespace, reconcile.ActionCreate); step == nil {
		t.Errorf("nothing is planned: %+v", s.Environments)
	}
	d.stop()
	if m := h.mutations(); len(m) > 0 {
		t.Errorf("observe changed something: %v", m)
	}
}

func TestHealDoesNotRollOut(t *testing.T) {
	t.Parallel()
	h := installed(t)
	h.write("forge.cue", moded("heal", "1.4.1"))
	d := h.run()
	d.await("in sync", ready(1))
	h.write("forge.cue", moded("heal", "1.4.2"))
	d.await("the new generation", func(s server.Snapshot) bool {
		return s.Generation == 2 && state(s, "prod/release/app") != reconcile.StateWaiting
	})
	h.edit("ConfigMap", "shop-env", `{"data":{"LOG_LEVEL":"by-hand"}}`)
	d.await("the heal", func(s server.Snapshot) bool {
		r := resource(s, "prod/release/app")
		return r.LastAction != nil && r.LastAction.Action == reconcile.ActionHeal && r.LastAction.Error == ""
	})
	// What was applied last comes back, even when all of an object is gone.
	if err := h.Client.AppsV1().Deployments(h.Namespace).Delete(t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	d.await("the deleted object", func(s server.Snapshot) bool {
		r := resource(s, "prod/release/app")
		return r.LastAction != nil && strings.HasPrefix(r.LastAction.Object, "Deployment") && r.LastAction.Error == ""
	})
	d.stop()
	if h.setting("LOG_LEVEL") != "INFO" {
		t.Error("not healed")
	}
	if !strings.HasSuffix(h.image(), ":1.4.1") {
		t.Errorf("rolled out: %s", h.image())
	}
	if _, err := h.Client.CoreV1().Secrets(h.Namespace).Get(t.Context(), "sh.helm.release.v1.shop.v2", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("there is a second revision: %v", err)
	}
}

func TestPausedDoesNotRead(t *testing.T) {
	t.Parallel()
	h := installed(t)
	before := len(h.proxy.Requests())
	h.write("forge.cue", moded("paused", "1.4.2"))
	d := h.run()
	d.await("paused", func(s server.Snapshot) bool {
		return environment(s, "prod").State == reconcile.StatePaused && state(s, "prod/release/app") == reconcile.StatePaused
	})
	if out, stderr, code := h.command("plan", "--instance", h.Instance); code != 0 {
		t.Errorf("plan: exit code %d\n%s%s", code, out, stderr)
	}
	d.stop()
	if r := h.proxy.Requests()[before:]; len(r) > 0 {
		t.Errorf("paused read %v", r)
	}
}

// served is an environment with redis.
func served(redis, policy string) string {
	return app + strings.NewReplacer(`redis: mode: "off"`, "redis: "+redis, `interval: "10s"`, policy).Replace(small)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, policy string
		state        reconcile.State // "": it is gone
		says         []string
	}{
		{"owned", `prune: "owned", maxDelete: 10`, "", nil},
		{"too many", `prune: "owned", maxDelete: 1`, reconcile.StateBlocked, []string{"maxDelete is 1", "release", "shop-redis", "set policy.maxDelete to"}},
		{"none", `prune: "none"`, reconcile.StateOrphaned, []string{"no longer in forge.cue", "kept"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			h.write("forge.cue", served(`storage: "1Gi"`, `prune: "owned"`))
			d := h.run()
			d.await("redis", ready(1))
			h.write("forge.cue", served(`mode: "off"`, tt.policy))
			s := d.await("what becomes of it", func(s server.Snapshot) bool {
				if tt.state == "" {
					// What nobody wants any more of the Secrets goes last of all.
					last := resource(s, "prod/secrets/shop").LastAction
					if last == nil || last.Action != reconcile.ActionDelete {
						return false
					}
				}
				return s.Generation == 2 && state(s, "prod/release/redis") == tt.state && state(s, "prod/release/app") == reconcile.StateReady
			})
			if r := resource(s, "prod/release/redis"); r != nil {
				text := r.Message
				for _, step := range r.Steps {
					text += " " + step.Blocked + " " + step.Held
				}
				for _, want := range tt.says {
					if !strings.Contains(text, want) {
						t.Errorf("%q is not said: %s", want, text)
					}
				}
			}
			_, err := h.Client.AppsV1().StatefulSets(h.Namespace).Get(t.Context(), "shop-redis", metav1.GetOptions{})
			if gone := apierrors.IsNotFound(err); gone != (tt.state == "") || !gone && err != nil {
				t.Errorf("StatefulSet: %v", err)
			}
			if n := len(h.claims()); n != 1 {
				t.Errorf("%d claims: data is never deleted this way", n)
			}
			before := len(h.mutations())
			if _, _, code := h.command("plan", "--instance", h.Instance); code != map[bool]int{true: 2, false: 0}[tt.state == reconcile.StateBlocked] {
				t.Errorf("plan: exit code %d", code)
			}
			d.stop()
			// A restart finds it again, and does no more.
			again := h.run()
			again.await("the same after a restart", func(s server.Snapshot) bool {
				return state(s, "prod/release/app") == reconcile.StateReady && state(s, "prod/release/redis") == tt.state
			})
			again.stop()
			for _, m := range h.mutations()[before:] {
				if m.Method == "DELETE" {
					t.Errorf("deleted: %s", m)
				}
			}
		})
	}
}

func (h *home) claims() []corev1.PersistentVolumeClaim {
	h.t.Helper()
	list, err := h.Client.CoreV1().PersistentVolumeClaims(h.Namespace).List(h.t.Context(), metav1.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return list.Items
}

func TestRemovedEnvironmentIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	other := newHome(t)
	owned := `interval: "10s", prune: "owned", maxDelete: 1000`
	second := strings.NewReplacer("prod:", "second:", "$NAMESPACE", other.Namespace, `interval: "10s"`, owned).Replace(small)
	first := strings.Replace(small, `interval: "10s"`, owned, 1)
	h.write("forge.cue", app+first+second)
	d := h.run()
	d.await("both", func(s server.Snapshot) bool { return ready(1)(s) && len(s.Environments) == 2 })
	before := len(h.mutations())
	h.write("forge.cue", app+first)
	d.await("one", func(s server.Snapshot) bool { return ready(2)(s) && len(s.Environments) == 1 })
	if !strings.Contains(d.log.String(), "environment left forge.cue") {
		t.Error("the log does not say so")
	}
	// What forged had noticed of it may have been written until then.
	poll(t, "its lease is given back", func() bool {
		l, err := h.Client.CoordinationV1().Leases(other.Namespace).Get(t.Context(), "forged-second", metav1.GetOptions{})
		return err == nil && l.Spec.HolderIdentity != nil && *l.Spec.HolderIdentity == ""
	}, d.log.String)
	left := len(h.mutations())
	d.stop()
	again := h.run()
	again.await("one after a restart", ready(1))
	again.stop()
	for i, m := range h.mutations() {
		if i >= before && m.Method == "DELETE" || i >= left && strings.Contains(m.Path, other.Namespace) {
			t.Errorf("%s", m)
		}
	}
	if _, err := h.Client.AppsV1().Deployments(other.Namespace).Get(t.Context(), "shop", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}
