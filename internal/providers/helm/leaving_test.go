package helm

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// change is what a step says of an object; empty: nothing.
func change(s reconcile.Step, object string) string {
	for _, c := range s.Changes {
		if strings.HasSuffix(c.Path, object) {
			return c.To
		}
	}
	return ""
}

// What is deleted with a release that helm has made is shown before, and counted
// by policy.maxDelete like everything that is deleted. What holds data, or asks
// to be kept, stays.
func TestForcedTakeoverCountsWhatItDeletes(t *testing.T) {
	r := newRig(t)
	r.more = map[string]string{"templates/old.yaml": claim +
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n" +
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: old}\n"}
	r.helmInstall(map[string]any{"extra": true})
	r.with(nil)
	r.policy.Adopt = forge.AdoptForce
	steps := r.converge()
	if len(steps) != 1 || steps[0].Deletes != 2 || change(steps[0], "/extra") != "deleted" || change(steps[0], "/old") != "deleted" ||
		change(steps[0], "/kept") != "kept" || change(steps[0], "/data") != "kept" {
		t.Errorf("steps %+v", steps)
	}
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	for _, name := range []string{"extra", "old"} {
		if _, err := maps.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if _, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if c, err := r.env.Client.CoreV1().PersistentVolumeClaims(r.env.Namespace).Get(t.Context(), "data", metav1.GetOptions{}); err != nil || c.DeletionTimestamp != nil {
		t.Errorf("the claim is gone: %v", err)
	}
}

// The same goes for what somebody's helm has added to a release of ours: it goes
// when the release is taken back, and when it is removed.
func TestWhatHelmAddedIsCounted(t *testing.T) {
	r := newRig(t)
	r.converge()
	r.drain()
	r.helmUpgrade(map[string]any{"extra": true})
	r.helmActed()
	plan := func(remove bool) []reconcile.Step {
		t.Helper()
		req := r.request()
		req.Remove = remove
		return r.plan(req)
	}
	if steps := plan(true); len(steps) != 1 || steps[0].Deletes != 4 || change(steps[0], "/extra") != "deleted" {
		t.Errorf("its removal: %+v", steps)
	}
	if steps := plan(false); len(steps) != 1 || steps[0].Deletes != 1 || change(steps[0], "/extra") != "deleted" {
		t.Errorf("taking it back: %+v", steps)
	}
	r.values = map[string]any{"level": "debug"}
	if steps := plan(false); len(steps) != 1 || steps[0].Deletes != 1 || change(steps[0], "/extra") != "deleted" {
		t.Errorf("an update: %+v", steps)
	}
	r.converge()
	if _, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).Get(t.Context(), "extra", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it is still there: %v", err)
	}
}

// What the watch has not shown yet counts as well: a plan that is looked at, or
// approved, says all that goes.
func TestRemovalCountsWhatTheWatchHasNotShown(t *testing.T) {
	r := newRig(t)
	r.converge()
	req := r.request()
	req.Remove = true
	before, err := r.p.Observe(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	r.helmUpgrade(map[string]any{"extra": true})
	steps, err := r.p.Plan(t.Context(), req, before)
	if err != nil || len(steps) != 1 || steps[0].Deletes != 4 || change(steps[0], "/extra") != "deleted" {
		t.Errorf("its removal: %+v, %v", steps, err)
	}
}

// Two charts may have hooks of one name, and Helm marks hooks with no release.
// The hook of another release is not deleted to make room for ours; that of a
// revision of this release, which somebody's helm has made, is.
func TestHookOfAnotherReleaseStays(t *testing.T) {
	maps := func(r *rig) (get func() *corev1.ConfigMap, make func(notes, labels map[string]string)) {
		client := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
		get = func() *corev1.ConfigMap {
			t.Helper()
			m, err := client.Get(t.Context(), "shared", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		make = func(notes, labels map[string]string) {
			t.Helper()
			notes["helm.sh/hook"] = "pre-install,pre-upgrade"
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "shared", Annotations: notes, Labels: labels}}
			if _, err := client.Create(context.WithoutCancel(t.Context()), m, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		return get, make
	}
	shared := map[string]string{"templates/hook.yaml": hook("ConfigMap", "shared", `"pre-install,pre-upgrade"`)}
	for name, test := range map[string]struct {
		notes, labels map[string]string
		why           string
	}{
		"unmarked":          {map[string]string{}, nil, "no revision of this release has made it"},
		"marked":            {map[string]string{annotationRelease: "other", annotationReleaseNS: "shop"}, nil, "it belongs to Helm release shop/other"},
		"of another forged": {map[string]string{annotationRelease: releaseName}, map[string]string{kubernetes.LabelInstance: "theirs"}, "it belongs to another forged, theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.with(shared)
			get, make := maps(r)
			if test.notes[annotationRelease] == releaseName {
				test.notes[annotationReleaseNS] = r.env.Namespace
			}
			make(test.notes, test.labels)
			before := get()
			if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Conflict || !strings.Contains(err.Error(), test.why) {
				t.Errorf("error %v", err)
			}
			if get().UID != before.UID {
				t.Error("it was deleted")
			}
		})
	}
	t.Run("of this release", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.more = shared
		r.helmInstall(nil)
		r.restart()
		get, _ := maps(r)
		before := get()
		r.policy.Adopt = forge.AdoptForce
		r.converge()
		if now := get(); now.UID == before.UID || now.Data["made"] != "2" {
			t.Errorf("it did not run: %v", now.Data)
		}
	})
}
