package helm

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const finalizer = "audit.example/holds-it"

// hold puts a finalizer on the release's ConfigMap, which goes with the test.
func (r *rig) hold() {
	r.t.Helper()
	r.patchMap(`{"metadata":{"finalizers":["` + finalizer + `"]}}`)
	r.t.Cleanup(r.release)
}

func (r *rig) release() {
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	// It may have gone already.
	_, _ = maps.Patch(r.ctx(), "settings", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{})
}

// An object that somebody deletes and a finalizer holds is told with who holds
// it and since when; forged takes no finalizer away, writes nothing to it, and
// everything else is healed meanwhile. When it is gone it comes back.
func TestObjectHeldByAFinalizerIsTold(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	r.hold()
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	r.drain()
	if err := maps.Delete(t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("ConfigMap " + r.env.Namespace + "/settings")
	held, err := maps.Get(t.Context(), "settings", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.env.Client.CoreV1().Services(r.env.Namespace).Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"selector":{"app":"edited"}}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	r.changed("Service " + r.env.Namespace + "/web")
	for range 3 {
		steps, err := r.pass(t.Context(), r.request())
		if err != nil {
			t.Fatal(err)
		}
		told := ""
		for _, s := range steps {
			told += s.Blocked
		}
		for _, say := range []string{finalizer, "since 20"} {
			if !strings.Contains(told, say) {
				t.Errorf("it does not say %q: %v", say, steps)
			}
		}
	}
	if svc, err := r.env.Client.CoreV1().Services(r.env.Namespace).Get(t.Context(), "web", metav1.GetOptions{}); err != nil || svc.Spec.Selector["app"] != "web" {
		t.Errorf("the Service is not healed beside it: %+v, %v", svc.Spec.Selector, err)
	}
	if now, err := maps.Get(t.Context(), "settings", metav1.GetOptions{}); err != nil || now.ResourceVersion != held.ResourceVersion || len(now.Finalizers) != 1 {
		t.Errorf("what is held was written to: %+v, %v", now, err)
	}
	r.drain()
	r.release()
	r.changed("ConfigMap " + r.env.Namespace + "/settings")
	r.converge()
	if got := r.live(); got != want {
		t.Errorf("after it was let go\n%s\nwant\n%s", got, want)
	}
}

// A removal that a finalizer holds up ends all the same: the rest goes, nothing
// is taken away by force, and nothing is asked for again and again.
func TestRemovalHeldByAFinalizer(t *testing.T) {
	r := newRig(t)
	r.converge()
	r.hold()
	req := r.request()
	req.Remove = true
	for range 3 {
		if _, err := r.pass(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	ctx, ns := t.Context(), r.env.Namespace
	if _, err := r.env.Client.CoreV1().Services(ns).Get(ctx, "web", metav1.GetOptions{}); err == nil {
		t.Error("the Service is still there")
	}
	now, err := r.env.Client.CoreV1().ConfigMaps(ns).Get(ctx, "settings", metav1.GetOptions{})
	if err != nil || now.DeletionTimestamp == nil || len(now.Finalizers) != 1 {
		t.Errorf("what is held: %+v, %v", now, err)
	}
	steps := r.plan(req)
	if len(steps) != 0 {
		t.Errorf("there is more to do: %v", steps)
	}
	// Wanted again, it comes back when what held it lets go.
	if _, err := r.pass(ctx, r.request()); err != nil {
		t.Fatal(err)
	}
	steps = r.plan(r.request())
	if len(steps) != 1 || !strings.Contains(steps[0].Blocked, finalizer) {
		t.Errorf("while it is held: %v", steps)
	}
	r.drain()
	r.release()
	r.changed("ConfigMap " + ns + "/settings")
	r.converge()
	if now, err := r.env.Client.CoreV1().ConfigMaps(ns).Get(ctx, "settings", metav1.GetOptions{}); err != nil || now.DeletionTimestamp != nil {
		t.Errorf("afterwards: %+v, %v", now, err)
	}
}
