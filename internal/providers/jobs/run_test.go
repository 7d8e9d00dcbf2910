package jobs

import (
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// A finished Job that the cluster cleans away did run: that it is absent does
// not mean that it never was there.
func TestCompletedAndGoneIsNotRunAgain(t *testing.T) { inForms(t, completedAndGoneIsNotRunAgain) }

func completedAndGoneIsNotRunAgain(t *testing.T, r *rig) {
	if steps := r.until("complete", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("steps: %v", steps)
	}
	name := r.jobs()[0]
	r.delete(name)
	r.asked()
	for range 3 {
		if o, steps := r.look(); o.Health.Status != reconcile.Ready || len(steps) > 0 {
			t.Fatalf("after it was cleaned away: %+v, %v", o.Health, steps)
		}
	}
	if n := r.asked(); n > 1 { // the note of its end may be written meanwhile
		t.Errorf("looks cost %d requests", n)
	}
	r.restart()
	if o, steps := r.look(); o.Health.Status != reconcile.Ready || len(steps) > 0 || len(r.jobs()) > 0 {
		t.Errorf("after a restart: %+v, %v, %v", o.Health, steps, r.jobs())
	}

	// A new image runs, and the one before is not run again when it comes back.
	r.spec.Image = "shop:2"
	if steps := r.until("the next image", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("steps: %v", steps)
	}
	r.spec.Image, r.spec.Env = "shop:1", map[string]string{"LEVEL": "debug"}
	if steps := r.until("back to the first image", is(reconcile.Ready)); created(steps) != 0 {
		t.Errorf("an older image was migrated to again: %v", steps)
	}
}

// A failed Job stays failed until something that it is given changes, whatever
// happens around it; the reason is told.
func TestFailureIsNotRetriedBlindly(t *testing.T) { inForms(t, failureIsNotRetriedBlindly) }

func failureIsNotRetriedBlindly(t *testing.T, r *rig) {
	r.life = "fail"
	r.until("failed", is(reconcile.Failed))
	o, _ := r.look()
	says, hint := "BackoffLimitExceeded", "delete job "+r.jobs()[0]
	if r.spec.Pod {
		says, hint = "container job: Error, exit code 1", "annotate pod "+r.jobs()[0]+" forged.dev/run-again=yes"
	}
	if !strings.Contains(o.Health.Message, says) || !strings.Contains(o.Health.Message, hint) {
		t.Errorf("message: %s", o.Health.Message)
	}
	r.restart()
	for range 3 {
		if o, steps := r.look(); o.Health.Status != reconcile.Failed || len(steps) > 0 {
			t.Fatalf("%+v, %v", o.Health, steps)
		}
	}

	r.life, r.spec.Env = "", map[string]string{"DATABASE": "right"}
	if steps := r.until("mended", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("steps: %v", steps)
	}
	// The failed one was removed, late.
	if names := r.jobs(); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

// A person asks for another run by deleting the Job that failed, or by an
// annotation on one that is over.
func TestPersonAsksForAnotherRun(t *testing.T) { inForms(t, personAsksForAnotherRun) }

func personAsksForAnotherRun(t *testing.T, r *rig) {
	r.life = "fail"
	r.until("failed", is(reconcile.Failed))
	r.life = ""
	first := r.jobs()[0]
	if r.spec.Pod {
		r.annotate(first)
	} else {
		r.delete(first)
	}
	if steps := r.until("the second run", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("after the first had failed: %v", steps)
	}

	names := slices.DeleteFunc(r.jobs(), func(name string) bool { return name == first })
	if len(names) != 1 {
		t.Fatalf("beside %s there are %v", first, names)
	}
	second := names[0]
	r.annotate(second)
	var all []reconcile.Step
	eventually(t, "a third one", func() bool {
		_, steps := r.pass()
		all = append(all, steps...)
		return !slices.Contains(r.jobs(), second) && len(r.jobs()) == 1
	})
	all = append(all, r.until("the third run", is(reconcile.Ready))...)
	if created(all) != 1 {
		t.Errorf("after the annotation: %v", all)
	}
	r.restart()
	if o, steps := r.look(); !is(reconcile.Ready)(o, steps) {
		t.Errorf("after a restart: %+v %v", o.Health, steps)
	}
}

// A Job has a name that is made of what it is given. While that is about to
// change, the plan names none that is never made.
func TestNameIsUnknownWhileInputsMove(t *testing.T) { inForms(t, nameIsUnknownWhileInputsMove) }

func nameIsUnknownWhileInputsMove(t *testing.T, r *rig) {
	req := r.request()
	secrets := forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}
	req.Moving = []forge.ID{secrets, {Environment: "prod", Kind: forge.KindRelease, Name: "postgres"}}
	o, err := r.p.Observe(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := r.p.Plan(t.Context(), req, o)
	if err != nil || len(steps) != 1 {
		t.Fatalf("%v, %v", steps, err)
	}
	want := "create " + formOf(r.spec).gvk().Kind + " " + r.Namespace + "/shop-migrate-…: absent (its name is unknown until prod/secrets/shop is applied)"
	if got := steps[0].String(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if _, steps := r.look(); len(steps) != 1 || strings.Contains(steps[0].Object, "…") {
		t.Errorf("with inputs that hold: %v", steps)
	}
}

// Two migrations never run at the same time: one that has begun is awaited,
// one that has not is cancelled.
func TestTwoNeverRunAtATime(t *testing.T) {
	t.Run("begun", func(t *testing.T) { inForms(t, whatHasBegunIsAwaited) })
	t.Run("not begun", func(t *testing.T) { inForms(t, whatHasNotBegunMakesRoom) })
	t.Run("unknown to the inventory", func(t *testing.T) { inForms(t, podsOfNobodyAreAwaited) })
}

func whatHasBegunIsAwaited(t *testing.T, r *rig) {
	r.life = "run"
	r.pass()
	r.begun()
	first := r.jobs()[0]
	r.spec.Image, r.life = "shop:2", ""
	for range 3 {
		o, steps := r.pass()
		if len(steps) > 0 || o.Health.Status != reconcile.Progressing || !strings.Contains(o.Health.Message, "waits for the end of "+formOf(r.spec).gvk().Kind+" "+r.Namespace+"/"+first) {
			t.Fatalf("while another runs: %+v, %v", o.Health, steps)
		}
	}
	// It goes, with its pods: its place is free.
	r.end(first)
	r.until("the second has run", is(reconcile.Ready))
}

func whatHasNotBegunMakesRoom(t *testing.T, r *rig) {
	r.spec.Resources.CPU = never
	r.pass()
	first := r.jobs()[0]
	r.spec.Resources.CPU = ""
	steps := r.until("the second has run", is(reconcile.Ready))
	if s := steps[0]; !strings.Contains(s.Object, first) || s.Deletes != 1 || !strings.Contains(s.String(), "has not begun") {
		t.Errorf("first step: %s", s)
	}
}

func podsOfNobodyAreAwaited(t *testing.T, r *rig) {
	r.life = "run"
	r.pass()
	r.begun()
	r.stop()
	if err := r.Client.CoreV1().ConfigMaps(r.Namespace).Delete(t.Context(), "forged-inventory-prod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.spec.Image = "shop:2"
	_, steps := r.look()
	if len(steps) != 1 {
		t.Fatalf("steps: %v", steps)
	}
	_, err := r.p.Apply(t.Context(), r.request(), steps[0])
	if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "two never run at a time") {
		t.Errorf("beside another one: %v", err)
	}
}

func TestRemovalWaitsForWhatHasBegun(t *testing.T) { inForms(t, removalWaitsForWhatHasBegun) }

func removalWaitsForWhatHasBegun(t *testing.T, r *rig) {
	r.life = "run"
	r.pass()
	r.begun()
	req := r.request()
	req.Remove, req.Resource.Spec = true, forge.JobSpec{Namespace: r.Namespace}
	plan := func() []reconcile.Step {
		o, err := r.p.Observe(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := r.p.Plan(t.Context(), req, o)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	if steps := plan(); len(steps) != 1 || steps[0].Blocked == "" {
		t.Fatalf("while it runs: %v", steps)
	}
	r.end(r.jobs()[0])
	eventually(t, "it can be removed", func() bool { s := plan(); return len(s) == 1 && s[0].Blocked == "" })
	if _, err := r.p.Apply(t.Context(), req, plan()[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left", func() bool { return len(plan()) == 0 && len(r.jobs()) == 0 })
}

// The pod passes the strictest of the Pod Security Standards.
func TestPodIsRestricted(t *testing.T) { inForms(t, podIsRestricted) }

func podIsRestricted(t *testing.T, r *rig) {
	enforce := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if _, err := r.Client.CoreV1().Namespaces().Patch(t.Context(), r.Namespace, types.MergePatchType, enforce, person); err != nil {
		t.Fatal(err)
	}
	r.spec.SecretNames, r.spec.PullSecret, r.spec.PullPolicy = []string{"shop-env"}, "login", "IfNotPresent"
	r.spec.Files = []forge.MountedFile{{Path: "/etc/app.yaml", Config: "shop-config", Key: "app.yaml"}, {Path: "/run/forged/ca.crt", Secret: "tls", Key: "ca.crt"}}
	r.spec.Resources = forge.Resources{CPU: "100m", Memory: "64Mi", MemoryLimit: "1Gi"}
	r.until("complete", is(reconcile.Ready))
	live, err := r.objects().Get(t.Context(), r.jobs()[0], metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var job batchv1.Job
	var pod corev1.Pod
	into := any(&job)
	if r.spec.Pod {
		into = &pod
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, into); err != nil {
		t.Fatal(err)
	}
	spec, limit := job.Spec.Template.Spec, job.Spec.ActiveDeadlineSeconds
	if r.spec.Pod {
		spec, limit = pod.Spec, pod.Spec.ActiveDeadlineSeconds
	} else if *job.Spec.BackoffLimit != 0 {
		t.Errorf("%d retries", *job.Spec.BackoffLimit)
	}
	c := spec.Containers[0]
	if *limit != 3600 || spec.RestartPolicy != corev1.RestartPolicyNever || c.EnvFrom[0].SecretRef.Name != "shop-env" ||
		c.VolumeMounts[1].MountPath != "/etc/app.yaml" || c.VolumeMounts[2].MountPath != "/run/forged/ca.crt" ||
		spec.ImagePullSecrets[0].Name != "login" || *spec.EnableServiceLinks {
		t.Errorf("%+v", spec)
	}
}

// A Job that was to make room because it had not begun has begun when it comes
// to that: it is not cut.
func TestJobThatBeginsAfterThePlanIsNotCut(t *testing.T) {
	inForms(t, jobThatBeginsAfterThePlanIsNotCut)
}

func jobThatBeginsAfterThePlanIsNotCut(t *testing.T, r *rig) {
	r.spec.Resources.CPU = never
	r.pass()
	first := r.jobs()[0]
	pods := r.Client.CoreV1().Pods(r.Namespace)
	var pod string
	eventually(t, "there is a pod", func() bool {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) == 0 {
			return false
		}
		pod = list.Items[0].Name
		return true
	})
	r.spec.Image = "shop:2"
	_, steps := r.look()
	if len(steps) != 1 || steps[0].Deletes != 1 {
		t.Fatalf("steps: %v", steps)
	}
	running := `{"status":{"phase":"Running","containerStatuses":[{"name":"job","image":"shop:1","imageID":"","ready":true,"restartCount":0,"state":{"running":{}}}]}}`
	if _, err := pods.Patch(t.Context(), pod, types.StrategicMergePatchType, []byte(running), person, "status"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.p.Apply(t.Context(), r.request(), steps[0]); reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("error %v", err)
	}
	if live, err := r.objects().Get(t.Context(), first, metav1.GetOptions{}); err != nil || live.GetDeletionTimestamp() != nil {
		t.Errorf("it was cut: %v", err)
	}
}
