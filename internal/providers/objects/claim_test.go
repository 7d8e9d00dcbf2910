package objects

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

func newClaims(c *kubernetes.Clusters) reconcile.Provider { return NewClaims(c) }

func TestClaimsConform(t *testing.T) {
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		env, h := harness(t, newClaims)
		ask := func(tier string) forge.Spec {
			return forge.ClaimSpec{Namespace: env.Namespace, Name: "data", Labels: map[string]string{"app": "shop", "tier": tier}, Size: "1Gi", Access: "ReadWriteOnce"}
		}
		h.Resource.ID = forge.ID{Environment: "prod", Kind: forge.KindClaim, Name: "data"}
		h.Changed.ID = h.Resource.ID
		h.Resource.Spec, h.Changed.Spec = ask("one"), ask("two")
		claims := env.Client.CoreV1().PersistentVolumeClaims(env.Namespace)
		h.Edit = func(t *testing.T) {
			if _, err := claims.Patch(t.Context(), "data", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"edited"}}}`), person); err != nil {
				t.Fatal(err)
			}
		}
		h.Delete = func(t *testing.T) {
			// Nothing uses it: what protects it while something does would only
			// make the test wait. A controller may put it back before it is deleted.
			for {
				bare, err := claims.Patch(t.Context(), "data", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), person)
				if err != nil {
					t.Fatal(err)
				}
				err = claims.Delete(t.Context(), "data", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &bare.ResourceVersion}})
				if err == nil {
					return
				}
				if !apierrors.IsConflict(err) {
					t.Fatal(err)
				}
			}
		}
		// What protects it is taken off by a controller, in its own time.
		h.Settle = func(t *testing.T) {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for late := time.After(patience); ; {
				if _, err := claims.Get(t.Context(), "data", metav1.GetOptions{}); apierrors.IsNotFound(err) {
					return
				}
				select {
				case <-tick.C:
				case <-late:
					t.Fatal("the claim does not go")
				}
			}
		}
		return h
	})
}

type claimRig struct {
	*rig
	spec forge.ClaimSpec
}

func newClaimRig(t *testing.T) *claimRig {
	r := newRig(t, newClaims)
	return &claimRig{r, forge.ClaimSpec{Namespace: r.Namespace, Name: "data", Size: "1Gi", Access: "ReadWriteOnce"}}
}

func (r *claimRig) ask() reconcile.Request { return r.request(forge.KindClaim, "data", r.spec) }

func (r *claimRig) live() *corev1.PersistentVolumeClaim {
	r.t.Helper()
	pvc, err := r.Client.CoreV1().PersistentVolumeClaims(r.Namespace).Get(r.t.Context(), "data", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return pvc
}

func ready(o reconcile.Observed, steps []reconcile.Step) bool {
	return o.Health.Status == reconcile.Ready && len(steps) == 0
}

func TestClaimGrowsAndDoesNotShrink(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.converge(r.ask())
	r.await(r.ask(), "bound", ready)
	r.asked()
	if r.plan(r.ask()); len(r.asked()) > 0 {
		t.Error("a look at a bound claim costs requests")
	}

	r.spec.Size = "2Gi"
	r.converge(r.ask())
	if got := r.live().Spec.Resources.Requests.Storage().String(); got != "2Gi" {
		t.Errorf("it has %s", got)
	}

	for _, tt := range []struct {
		change func()
		want   string
	}{
		{func() { r.spec.Size = "1Gi" }, "it has 2Gi and cannot shrink to 1Gi"},
		{func() { r.spec.Size, r.spec.StorageClass = "2Gi", "standard-late" }, "its storage class is standard and cannot become standard-late"},
		{func() { r.spec.StorageClass, r.spec.Access = "", "ReadWriteMany" }, "its access mode is [ReadWriteOnce] and cannot become ReadWriteMany"},
	} {
		tt.change()
		_, steps := r.plan(r.ask())
		if s := r.single(steps); !strings.Contains(s.Blocked, tt.want) || !s.Rollout() {
			t.Errorf("want %q, planned %s", tt.want, s)
		}
	}

	// Somebody has made it larger than forge.cue says: there is no way back.
	r.spec.Access = "ReadWriteOnce"
	if _, err := r.Client.CoreV1().PersistentVolumeClaims(r.Namespace).Patch(t.Context(), "data", types.MergePatchType,
		[]byte(`{"spec":{"resources":{"requests":{"storage":"5Gi"}}}}`), person); err != nil {
		t.Fatal(err)
	}
	req := r.ask()
	req.Explain = true
	_, steps := r.await(req, "the edit", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) > 0 })
	if s := r.single(steps); !strings.Contains(s.Blocked, "it has 5Gi and cannot shrink to 2Gi") {
		t.Errorf("planned %s", s)
	}
	r.spec.Size = "5Gi"
	r.converge(r.ask())
}

// TestClaimOfARegion: the region stands in what a claim asks for, and a claim
// that is there stays in its region.
func TestClaimOfARegion(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.spec.Access, r.spec.Region = "ReadWriteOncePod", "iad"
	r.converge(r.ask())
	if s := r.live().Spec; s.Selector == nil || len(s.Selector.MatchLabels) != 1 || s.Selector.MatchLabels["region"] != "iad" {
		t.Fatalf("it selects %v", s.Selector)
	}
	for region, want := range map[string]string{
		"ord": "its region is iad and cannot become ord; write the region that it has",
		"":    "its region is iad and cannot become that of the cluster",
	} {
		r.spec.Region = region
		_, steps := r.plan(r.ask())
		if s := r.single(steps); !strings.Contains(s.Blocked, want) || len(s.Destroys) > 0 {
			t.Errorf("want %q, planned %s", want, s)
		}
	}
	r.spec.Region = "iad"
	if _, steps := r.plan(r.ask()); len(steps) > 0 {
		t.Errorf("planned %v", steps)
	}
}

// TestClaimOfAStatefulSet: what a StatefulSet's controller has made is not taken
// without a word, and never made anew: once it is marked, it is ours as it is.
func TestClaimOfAStatefulSet(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.spec.Access = "ReadWriteOncePod"
	claims := r.Client.CoreV1().PersistentVolumeClaims(r.Namespace)
	before, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: map[string]string{"forged.dev/data": "postgres"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: quantity.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, steps := r.plan(r.ask())
	if s := r.single(steps); !strings.Contains(s.Blocked, "label persistentvolumeclaim data "+kubernetes.LabelInstance+"="+r.Instance) || len(s.Destroys) > 0 {
		t.Errorf("planned %s", s)
	}
	if _, err := claims.Patch(t.Context(), "data", types.MergePatchType, []byte(`{"metadata":{"labels":{"`+kubernetes.LabelInstance+`":"`+r.Instance+`"}}}`), person); err != nil {
		t.Fatal(err)
	}
	r.converge(r.ask())
	if live := r.live(); live.UID != before.UID || live.Labels["forged.dev/data"] != "postgres" {
		t.Errorf("it is another one: %v", live.ObjectMeta)
	}
}

func TestClaimOfAClassThatCannotGrow(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "rigid-" + r.Instance}, Provisioner: "sandbox.forged.dev/volume"}
	if _, err := r.Client.StorageV1().StorageClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Client.StorageV1().StorageClasses().Delete(context.Background(), class.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	r.spec.StorageClass = class.Name
	r.converge(r.ask())
	r.await(r.ask(), "bound", ready)
	r.spec.Size = "2Gi"
	_, steps := r.plan(r.ask())
	if s := r.single(steps); !strings.Contains(s.Blocked, "storage class "+class.Name+" allows no expansion") {
		t.Errorf("planned %s", s)
	}
}

// The pod waits for the claim and the claim for the pod: who waits for both
// must not wait for ever.
func TestClaimThatWaitsForItsPodIsReady(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.spec.StorageClass = "standard-late"
	o := r.converge(r.ask())
	if o.Health.Status != reconcile.Ready || !strings.Contains(o.Health.Message, "first pod") {
		t.Errorf("health %+v", o.Health)
	}
	r.asked()
	if r.plan(r.ask()); len(r.asked()) > 0 {
		t.Error("a look at a claim that waits costs requests")
	}
	r.spec.Size = "2Gi"
	_, steps := r.plan(r.ask())
	if s := r.single(steps); !strings.Contains(s.Blocked, "cannot grow to 2Gi before it is bound") {
		t.Errorf("planned %s", s)
	}
	r.spec.Name, r.spec.StorageClass = "lost", "there-is-none"
	if o := r.converge(r.ask()); o.Health.Status != reconcile.Progressing {
		t.Errorf("health of a claim without a class: %+v", o.Health)
	}
}

// A volume that is to be kept stays when nobody asks for it any more, without
// a mark of ours; any other names the data that go with it.
func TestRemovalOfClaims(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.spec.Retain = true
	r.converge(r.ask())
	uid := r.live().UID
	gone := r.ask()
	gone.Remove, gone.Resource.Spec = true, forge.ClaimSpec{Namespace: r.Namespace}
	_, steps := r.plan(gone)
	if s := r.single(steps); s.Action != reconcile.ActionForget || s.Deletes != 0 || len(s.Destroys) != 0 || !strings.Contains(s.String(), "it stays") {
		t.Errorf("planned %+v", s)
	}
	r.converge(gone)
	if pvc := r.live(); pvc.UID != uid || pvc.DeletionTimestamp != nil || pvc.Labels[kubernetes.LabelInstance] != "" || pvc.Annotations[kubernetes.AnnotationOwner] != "" {
		t.Errorf("left: %v", pvc.ObjectMeta)
	}

	// Asked for again, it is taken up again, with what it holds.
	r.spec.Retain = false
	_, steps = r.plan(r.ask())
	if s := r.single(steps); s.Action != reconcile.ActionUpdate || s.Blocked != "" || !strings.Contains(s.String(), "ownership (it is there, was kept, and is used again)") {
		t.Errorf("planned %s", s)
	}
	r.spec.Size = "1Mi"
	_, steps = r.plan(r.ask())
	if s := r.single(steps); !strings.Contains(s.Blocked, "it has 1Gi and cannot shrink to 1Mi") {
		t.Errorf("planned %s", s)
	}
	r.spec.Size = "1Gi"
	r.converge(r.ask())
	if r.live().UID != uid {
		t.Error("it is another one")
	}
	gone.Policy = r.policy
	_, steps = r.plan(gone)
	if s := r.single(steps); s.Action != reconcile.ActionDelete || s.Deletes != 1 || len(s.Destroys) != 1 || !strings.Contains(s.Destroys[0], "data") {
		t.Errorf("planned %+v", s)
	}
}

// A claim that another environment has taken over is not deleted with its data,
// whatever token was given.
func TestTakenClaimIsNotDestroyed(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.converge(r.ask())
	theirs := r.ask()
	theirs.Resource.ID.Environment, theirs.Policy.Adopt = "staging", forge.AdoptForce
	r.converge(theirs)
	gone := r.ask()
	gone.Remove = true
	r.converge(gone)
	if live := r.live(); live.DeletionTimestamp != nil || live.Annotations[kubernetes.AnnotationOwner] != "staging/claim/data" {
		t.Errorf("it was touched: %v", live.ObjectMeta)
	}
}

// That a volume is to be kept is known also of one whose making was cut before
// it was written down.
func TestRetainedClaimThatWasCutIsKept(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.spec.Retain = true
	_, steps := r.plan(r.ask())
	ctx, cancel := context.WithCancel(t.Context())
	r.cut = cancel
	if _, err := r.p.Apply(ctx, r.ask(), r.single(steps)); err == nil {
		t.Fatal("it was not cut")
	}
	r.cut = nil
	gone := r.ask()
	gone.Remove, gone.Resource.Spec = true, forge.ClaimSpec{Namespace: r.Namespace}
	_, steps = r.plan(gone)
	if s := r.single(steps); s.Deletes != 0 || len(s.Destroys) != 0 {
		t.Errorf("planned %+v", s)
	}
	r.converge(gone)
	if pvc := r.live(); pvc.DeletionTimestamp != nil || pvc.Labels[kubernetes.LabelInstance] != "" {
		t.Errorf("left: %v", pvc.ObjectMeta)
	}
}
