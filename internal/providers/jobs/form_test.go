package jobs

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// A platform that moves takes its Jobs along as what has run, whatever they ran
// as.
func TestMovingToAnotherFormRunsNothingTwice(t *testing.T) {
	t.Run("done", func(t *testing.T) {
		inForms(t, func(t *testing.T, r *rig) {
			r.until("complete", is(reconcile.Ready))
			r.spec.Pod = !r.spec.Pod
			r.restart()
			if steps := r.until("it has run", is(reconcile.Ready)); created(steps) != 0 || len(r.jobs()) != 0 {
				t.Errorf("it was run again: %v", steps)
			}
		})
	})
	t.Run("runs", func(t *testing.T) {
		inForms(t, func(t *testing.T, r *rig) {
			r.life = "run"
			r.pass()
			r.begun()
			first, was := r.jobs()[0], r.spec
			r.spec.Pod = !r.spec.Pod
			for range 3 {
				if o, steps := r.pass(); len(steps) > 0 || !strings.Contains(o.Health.Message, "waits for the end of "+formOf(was).gvk().Kind) {
					t.Fatalf("while the other runs: %+v, %v", o.Health, steps)
				}
			}
			// It fails: the other form is another way to try.
			r.life, r.spec = "", was
			r.end(first)
			r.spec.Pod = !r.spec.Pod
			if steps := r.until("it has run", is(reconcile.Ready)); created(steps) != 1 {
				t.Errorf("steps: %v", steps)
			}
		})
	})
}

// What is deleted while it runs has not come to its end.
func TestDeletedWhileItRunsIsRunAgain(t *testing.T) {
	inForms(t, func(t *testing.T, r *rig) {
		r.life = "run"
		r.until("it runs", is(reconcile.Progressing))
		r.begun()
		name := r.jobs()[0]
		was, err := r.objects().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.delete(name)
		var all []reconcile.Step
		eventually(t, "another one", func() bool {
			_, steps := r.pass()
			all = append(all, steps...)
			now, err := r.objects().Get(t.Context(), name, metav1.GetOptions{})
			return err == nil && now.GetUID() != was.GetUID()
		})
		if !slices.ContainsFunc(all, func(s reconcile.Step) bool {
			return s.Action == reconcile.ActionHeal && s.Reason.Code == reconcile.ReasonDeleted
		}) {
			t.Errorf("steps: %v", all)
		}
	})
}

// A cluster clears Pods away that have ended. That of one that failed is no wish
// to run it again, and that of one that has come to its end no reason to.
func TestPodsThatAreClearedAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.spec.Pod, r.life = true, "fail"
	r.until("failed", is(reconcile.Failed))
	r.delete(r.jobs()[0])
	r.life = ""
	eventually(t, "it is seen that it has gone", func() bool {
		o, _ := r.look()
		return strings.Contains(o.Health.Message, "is gone")
	})
	for range 2 {
		if o, steps := r.look(); o.Health.Status != reconcile.Failed || len(steps) > 0 || !strings.Contains(o.Health.Message, "is gone") {
			t.Fatalf("%+v, %v", o.Health, steps)
		}
		r.restart()
	}

	// Nobody looks at it between its end and its going, but the watch.
	r.spec.Env = map[string]string{"A": "2"}
	r.pass()
	name := r.jobs()[0]
	eventually(t, "it has ended", func() bool {
		live, err := r.Client.CoreV1().Pods(r.Namespace).Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && live.Status.Phase == "Succeeded"
	})
	r.delete(name)
	if steps := r.until("it has run", is(reconcile.Ready)); len(steps) > 0 || len(r.jobs()) > 0 {
		t.Errorf("steps: %v", steps)
	}
}

// That a Pod has failed was seen, and holds when it has gone before it could be
// read; of a Job a person has deleted it.
func TestFailureIsKnownOfWhatIsGone(t *testing.T) {
	t.Parallel()
	if expires, known := (plainPod{}).expires(nil); !expires || !known {
		t.Errorf("a Pod: %t %t", expires, known)
	}
	if _, known := (clusterJob{}).expires(nil); known {
		t.Error("a Job that is gone is noted as failed")
	}
}

// A node that goes away is no failure of what ran there: Jobs have their
// controller for that.
func TestDisruptedPodIsRunAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.spec.Pod, r.life = true, "run"
	r.until("it runs", is(reconcile.Progressing))
	r.begun()
	r.life = ""
	gone := []byte(`{"status":{"phase":"Failed","reason":"Terminated","conditions":[{"type":"DisruptionTarget","status":"True","reason":"TerminationByKubelet"}]}}`)
	if _, err := r.Client.CoreV1().Pods(r.Namespace).Patch(t.Context(), r.jobs()[0], types.MergePatchType, gone, person, "status"); err != nil {
		t.Fatal(err)
	}
	if steps := r.until("it has run", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("steps: %v", steps)
	}
}

// What the cluster cannot run is refused before anything is made; what was made
// of the rest is shown to who asks.
func TestFittedProcess(t *testing.T) {
	inForms(t, func(t *testing.T, r *rig) {
		r.refuses = "no volumes (T001)"
		req := r.request()
		o, err := r.p.Observe(t.Context(), req)
		if err != nil || o.Health.Status != reconcile.Progressing {
			t.Fatalf("%+v, %v", o.Health, err)
		}
		if _, err := r.p.Plan(t.Context(), req, o); reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "T001") || !strings.Contains(err.Error(), r.Namespace+"/shop-migrate") {
			t.Errorf("error %v", err)
		}
		if names := r.jobs(); len(names) > 0 {
			t.Errorf("made: %v", names)
		}

		r.refuses, r.life = "", "fail"
		req.Explain = true
		o, err = r.p.Observe(t.Context(), req)
		if err != nil || len(o.Notices) != 1 || o.Notices[0].Code != "fitted" {
			t.Fatalf("%+v, %v", o.Notices, err)
		}
		if steps, err := r.p.Plan(t.Context(), req, o); err != nil || len(steps) != 1 || len(steps[0].Fitted) != 1 {
			t.Errorf("%+v, %v", steps, err)
		}
		if _, steps := r.look(); len(steps[0].Fitted) > 0 {
			t.Error("nobody has asked for what was made of it")
		}
		r.until("failed", is(reconcile.Failed))
		of := r.request()
		of.Explain = true
		spec := r.spec
		spec.Image = "shop:2"
		of.Resource.Spec = spec
		if o, err = r.p.Observe(t.Context(), of); err != nil {
			t.Fatal(err)
		}
		if steps, err := r.p.Plan(t.Context(), of, o); err != nil || len(steps) == 0 || len(steps[0].Fitted) != 0 || steps[0].AsFit != 1 {
			t.Errorf("only an image changes: %+v, %v", steps, err)
		}
		// Another table may be what makes it succeed.
		r.life, r.grace = "", 2
		if steps := r.until("complete", is(reconcile.Ready)); created(steps) != 1 {
			t.Errorf("steps: %v", steps)
		}
		r.grace = 3
		if o, steps := r.look(); !is(reconcile.Ready)(o, steps) || len(o.Notices) > 0 {
			t.Errorf("what has run is nobody's concern: %+v %v", o, steps)
		}
	})
}

func TestRulesWithoutAFitter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.spec.Rules = forge.Rules{Table: "fks"}
	_, err := New(Options{Clusters: r.clusters}).Observe(t.Context(), r.request())
	if reconcile.KindOf(err) != reconcile.Internal || !strings.Contains(err.Error(), `by the table of rules "fks"`) {
		t.Errorf("error %v", err)
	}
}

// What somebody takes from a Pod that runs and cannot be given back is told, and
// comes to its end by itself.
func TestWhatCannotBePutBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.spec.Pod, r.life = true, "run"
	r.until("it runs", is(reconcile.Progressing))
	r.begun()
	name := r.jobs()[0]
	if _, err := r.Client.CoreV1().Pods(r.Namespace).Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":5}}`), person); err != nil {
		t.Fatal(err)
	}
	req := r.request()
	req.Explain = true
	eventually(t, "that to be seen", func() bool {
		o, err := r.p.Observe(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := r.p.Plan(t.Context(), req, o)
		return err == nil && len(steps) == 1 && strings.Contains(steps[0].Blocked, "activeDeadlineSeconds")
	})
}
