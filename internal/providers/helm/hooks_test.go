package helm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	helmrelease "helm.sh/helm/v3/pkg/release"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/reconcile"
)

// hook is a template of a hook that runs at an event. A Job of it ends well at
// once; one whose name begins with "bad" waits for rig.failJobs.
func hook(kind, name, events string, more ...string) string {
	notes := `"helm.sh/hook": ` + events
	for _, m := range more {
		notes += ", " + m
	}
	spec := ""
	switch kind {
	case "Job":
		spec = `spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: main, image: "registry.example/job:1"}]}}}`
	case "ConfigMap":
		spec = `data: {made: {{ .Release.Revision | quote }}}`
	}
	if strings.HasPrefix(name, "bad") {
		spec = strings.Replace(spec, "backoffLimit: 0", "backoffLimit: 0, suspend: true", 1)
	}
	version := map[string]string{"Job": "batch/v1"}[kind]
	if version == "" {
		version = "v1"
	}
	return fmt.Sprintf("---\napiVersion: %s\nkind: %s\nmetadata: {name: %s, annotations: {%s}}\n%s\n", version, kind, name, notes, spec)
}

// with adds files to the demo chart.
func (r *rig) with(files map[string]string) {
	r.t.Helper()
	r.more = files
	r.restart()
}

func (r *rig) files(name string) ([]charts.File, error) {
	files, err := chartFiles(name)
	for n, text := range r.more {
		files = slices.DeleteFunc(files, func(f charts.File) bool { return f.Name == n })
		files = append(files, charts.File{Name: n, Data: []byte(text)})
	}
	return files, err
}

// failJobs makes Jobs whose names begin with "bad" fail as the Job controller
// would, as soon as they are there.
func (r *rig) failJobs() {
	r.t.Helper()
	api := r.env.Client.BatchV1().Jobs(r.env.Namespace)
	w, err := api.Watch(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(w.Stop)
	ctx := r.t.Context()
	go func() {
		for e := range w.ResultChan() {
			j, ok := e.Object.(*batchv1.Job)
			if !ok || !strings.HasPrefix(j.Name, "bad") || e.Type != "ADDED" {
				continue
			}
			status, err := json.Marshal(map[string]any{"status": map[string]any{
				"startTime": metav1.Now(), "failed": 1,
				"conditions": []map[string]any{
					{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit", "lastTransitionTime": metav1.Now()},
					{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit", "lastTransitionTime": metav1.Now()},
				},
			}})
			if err != nil {
				return
			}
			// A refusal shows in the test: the hook does not fail.
			_, _ = api.Patch(ctx, j.Name, types.MergePatchType, status, metav1.PatchOptions{}, "status")
		}
	}()
}

// hooks says which hook objects are there, and of which revision.
func (r *rig) ran(kind string) string {
	r.t.Helper()
	var out []string
	switch kind {
	case "Job":
		list, err := r.env.Client.BatchV1().Jobs(r.env.Namespace).List(r.t.Context(), metav1.ListOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, j := range list.Items {
			if j.Labels["forged.dev/instance"] != "" {
				r.t.Errorf("the hook %s is marked as an object of the release", j.Name)
			}
			out = append(out, j.Name)
		}
	default:
		list, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).List(r.t.Context(), metav1.ListOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, m := range list.Items {
			if m.Annotations["helm.sh/hook"] != "" {
				out = append(out, m.Name+" "+m.Data["made"])
			}
		}
	}
	return strings.Join(out, ", ")
}

// Helm's hooks run at their events, in the order of their weights, and are
// deleted by their policies; they are no objects of the release: an edit of
// one is no drift, and a removal of the release leaves what asks to stay.
func TestHooksRun(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{
		"templates/hooks.yaml": hook("Job", "second", "pre-install", `"helm.sh/hook-weight": "5"`) +
			hook("Job", "first", "pre-install", `"helm.sh/hook-weight": "-5"`) +
			hook("Job", "gone", "post-install", `"helm.sh/hook-delete-policy": "hook-succeeded"`) +
			hook("ConfigMap", "pre", `"pre-install,pre-upgrade"`) + hook("ConfigMap", "post", `"post-install,post-upgrade"`) +
			hook("ConfigMap", "back", "post-rollback") + hook("ConfigMap", "before-end", "pre-delete") + hook("ConfigMap", "end", "post-delete"),
	})
	r.converge()
	if got := r.ran("Job"); got != "first, second" {
		t.Errorf("after the install there are Jobs %q", got)
	}
	first, err := r.env.Client.BatchV1().Jobs(r.env.Namespace).Get(t.Context(), "first", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.env.Client.BatchV1().Jobs(r.env.Namespace).Get(t.Context(), "second", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if first.Status.CompletionTime == nil || second.CreationTimestamp.Before(first.Status.CompletionTime) {
		t.Errorf("the second was made at %v, the first ended at %v", second.CreationTimestamp, first.Status.CompletionTime)
	}
	if got := r.ran("ConfigMap"); got != "post 1, pre 1" {
		t.Errorf("after the install there are %q", got)
	}
	// Nobody heals a hook.
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	if err := maps.Delete(t.Context(), "pre", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if steps := r.converge(); len(steps) != 0 {
		t.Errorf("a hook is healed: %v", steps)
	}
	r.values = map[string]any{"level": "two"}
	r.converge()
	if got := r.ran("ConfigMap"); got != "post 2, pre 2" {
		t.Errorf("after the upgrade there are %q", got)
	}
	// What somebody's helm did is taken back by a rollback, with its hooks.
	r.drain()
	r.helmUpgrade(map[string]any{"level": "theirs"})
	r.helmActed()
	r.converge()
	if got := r.ran("ConfigMap"); !strings.Contains(got, "back 2") {
		t.Errorf("after it was taken back there are %q", got)
	}
	req := r.request()
	req.Remove = true
	if _, err := r.pass(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got := r.ran("ConfigMap"); !strings.Contains(got, "before-end") || !strings.Contains(got, "end 2") {
		t.Errorf("after the removal there are %q", got)
	}
}

// A hook that fails ends the step with its reason, and nothing after it is
// applied; the same is tried a few times and then no more, until something
// else is asked for.
func TestFailingHook(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	r.with(map[string]string{"templates/hook.yaml": hook("Job", "bad-migration", "pre-upgrade")})
	r.failJobs()
	r.values = map[string]any{"level": "two"}
	for n := 1; n <= mostFailures; n++ {
		steps, err := r.pass(t.Context(), r.request())
		if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "BackoffLimitExceeded") || !strings.Contains(err.Error(), "bad-migration") {
			t.Fatalf("attempt %d: steps %v, error of kind %s: %v", n, steps, reconcile.KindOf(err), err)
		}
		if got := r.live(); got != want {
			t.Fatalf("what comes after the hook was applied:\n%s\nwant\n%s", got, want)
		}
	}
	r.restart()
	for range 3 {
		steps, err := r.pass(t.Context(), r.request())
		if err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, "failed 5 times") || !strings.Contains(steps[0].Reason.Text, "BackoffLimitExceeded") {
			t.Fatalf("after the last attempt: %v, %v", steps, err)
		}
	}
	if h := r.history(); h != "deployed failed failed failed failed failed" {
		t.Errorf("history %q", h)
	}
	r.with(nil)
	r.values = map[string]any{"level": "three"}
	r.converge()
}

// A first install that a hook spoils is finished by another install, so that
// hooks of installs run; a failed one alone would never be.
func TestHooksOfAnInterruptedInstallRun(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/hooks.yaml": hook("Job", "bad-preparation", "pre-install") + hook("ConfigMap", "after", "post-install")})
	r.failJobs()
	if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Unavailable {
		t.Fatalf("error %v", err)
	}
	r.with(map[string]string{"templates/hooks.yaml": hook("ConfigMap", "after", "post-install")})
	r.converge()
	if got := r.ran("ConfigMap"); got != "after 2" {
		t.Errorf("after the install there are %q", got)
	}
}

// What a killed run of a hook left behind makes room for the next one, also
// where the chart's policies would keep it; a volume is never deleted for it,
// and neither is anything that is not of this release.
func TestLeftoversOfHooks(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/hooks.yaml": hook("Job", "left", "pre-install", `"helm.sh/hook-delete-policy": "hook-succeeded"`) + `
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, annotations: {"helm.sh/hook": "pre-install,pre-upgrade"}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`})
	mark := map[string]string{"helm.sh/hook": "pre-install", annotationHookOf: r.env.Instance + "/" + r.env.Namespace + "/" + releaseName}
	jobs := r.env.Client.BatchV1().Jobs(r.env.Namespace)
	left := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "left", Annotations: mark}}
	left.Spec.Template.Spec = corev1.PodSpec{RestartPolicy: "Never", Containers: []corev1.Container{{Name: "main", Image: "registry.example/job:0"}}}
	if _, err := jobs.Create(t.Context(), left, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.converge()
	if _, err := jobs.Get(t.Context(), "left", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the hook that has succeeded is there: %v", err)
	}
	claims := r.env.Client.CoreV1().PersistentVolumeClaims(r.env.Namespace)
	before, err := claims.Get(t.Context(), "data", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.values = map[string]any{"level": "two"}
	r.converge()
	if after, err := claims.Get(t.Context(), "data", metav1.GetOptions{}); err != nil || after.UID != before.UID {
		t.Errorf("the claim was made anew: %v", err)
	}

	r.with(map[string]string{"templates/hooks.yaml": hook("ConfigMap", "theirs", "pre-upgrade")})
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Data: map[string]string{"a": "b"}}
	if _, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.values = map[string]any{"level": "three"}
	if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Conflict || !strings.Contains(err.Error(), "theirs") {
		t.Errorf("error %v", err)
	}
	if h := r.history(); h != "superseded deployed" {
		t.Errorf("a revision was written: %q", h)
	}
}

// A hook may take as long as a rollout, and ends before the action does.
func TestHookThatDoesNotEnd(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/hook.yaml": hook("Job", "bad-for-ever", "pre-install")})
	r.timeout = 1
	_, err := r.pass(t.Context(), r.request())
	if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "did not end within 1s") {
		t.Errorf("error %v", err)
	}
	last, err := r.helm().Releases.Last(releaseName)
	if err != nil || last.Info.Status != helmrelease.StatusFailed {
		t.Errorf("the record says %v, %v", last, err)
	}
}

// What a failed hook says goes into the reason, without the secrets that its
// pod could have printed.
func TestFailedHookHasTheLastWord(t *testing.T) {
	const canary = "c4n4ryPassw0rd"
	r := newRig(t)
	r.with(map[string]string{"templates/hook.yaml": hook("Job", "bad-migration", "pre-install")})
	secrets, pods := r.env.Client.CoreV1().Secrets(r.env.Namespace), r.env.Client.CoreV1().Pods(r.env.Namespace)
	if _, err := secrets.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "login"}, StringData: map[string]string{"password": canary},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bad-migration-x", Labels: map[string]string{batchv1.JobNameLabel: "bad-migration"}}}
	pod.Spec = corev1.PodSpec{RestartPolicy: "Never", Containers: []corev1.Container{{Name: "main", Image: "registry.example/job:1"}}, NodeSelector: map[string]string{"there.is": "no-such-node"}}
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	status := `{"status": {"phase": "Failed", "containerStatuses": [{"name": "main", "image": "x", "imageID": "x", "ready": false, "restartCount": 0,
		"state": {"terminated": {"exitCode": 3, "reason": "Error", "message": "cannot log in with ` + canary + `"}}}]}}`
	if _, err := pods.Patch(t.Context(), pod.Name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	r.failJobs()
	_, err := r.pass(t.Context(), r.request())
	for _, say := range []string{"BackoffLimitExceeded", "container main", "exit code 3", "cannot log in with"} {
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("it does not say %q: %v", say, err)
		}
	}
	last, lastErr := r.helm().Releases.Last(releaseName)
	if lastErr != nil {
		t.Fatal(lastErr)
	}
	for _, where := range []string{fmt.Sprint(err), last.Info.Description, string(r.record().Detail)} {
		if strings.Contains(where, canary) {
			t.Errorf("a secret is in: %s", where)
		}
	}
}
