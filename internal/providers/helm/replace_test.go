package helm

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

func TestMayReplace(t *testing.T) {
	ref := func(group, kind string) kubernetes.Ref {
		return kubernetes.Ref{GVK: schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, Namespace: "shop", Name: "x"}
	}
	for _, c := range []struct {
		ref                   kubernetes.Ref
		never, stateless, any bool
		destroys              bool
	}{
		{ref("apps", "Deployment"), false, true, true, false},
		{ref("batch", "Job"), false, true, true, false},
		{ref("", "Service"), false, true, true, false},
		{ref("rbac.authorization.k8s.io", "RoleBinding"), false, true, true, false},
		{ref("apps", "StatefulSet"), false, false, true, false},
		{ref("acid.zalan.do", "postgresql"), false, false, true, true},
		{ref("", "PersistentVolumeClaim"), false, false, false, false},
		{ref("", "Namespace"), false, false, false, false},
		{ref("apiextensions.k8s.io", "CustomResourceDefinition"), false, false, false, false},
	} {
		never, _ := mayReplace("never", c.ref)
		unsaid, _ := mayReplace("", c.ref)
		stateless, _ := mayReplace("stateless", c.ref)
		all, destroys := mayReplace("any", c.ref)
		if never || unsaid || stateless != c.stateless || all != c.any || destroys != c.destroys {
			t.Errorf("%s: never %t, unsaid %t, stateless %t, any %t, destroys %t", c.ref, never, unsaid, stateless, all, destroys)
		}
	}
}

const statefulSet = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 1
  serviceName: {{ .Values.service | default "db" }}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: "registry.example/db:1"}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

const role = `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: app}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .Values.role | default "one" }}}
subjects: [{kind: ServiceAccount, name: app, namespace: {{ .Release.Namespace }}}]
`

// A field that cannot be changed is told before anything is done. The object is
// made anew where the policy allows it, and then only; a mistake in the same
// place, with the same code of the API server, never deletes anything.
func TestImmutableField(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/role.yaml": role})
	r.converge()
	bindings := r.env.Client.RbacV1().RoleBindings(r.env.Namespace)
	before, err := bindings.Get(t.Context(), "app", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	unchanged := func() {
		t.Helper()
		if now, err := bindings.Get(t.Context(), "app", metav1.GetOptions{}); err != nil || now.UID != before.UID || now.RoleRef.Name != "one" {
			t.Fatalf("it was touched: %v", err)
		}
		if h := r.history(); h != "deployed" {
			t.Errorf("history %q", h)
		}
	}
	r.values = map[string]any{"role": "two"}
	steps, err := r.pass(t.Context(), r.request())
	if err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, "roleRef: cannot change roleRef; this field") {
		t.Errorf("steps %v, err %v", steps, err)
	}
	unchanged()
	r.policy.Recreate = "stateless"
	r.values = map[string]any{"role": "a/b"} // no name of a role
	if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Invalid {
		t.Errorf("error %v", err)
	}
	unchanged()
	r.values = map[string]any{"role": "two"}
	steps = r.converge()
	if len(steps) != 1 || steps[0].Deletes != 1 || !strings.Contains(text(steps[0].Changes), "deleted and made again") {
		t.Errorf("steps %+v", steps)
	}
	if now, err := bindings.Get(t.Context(), "app", metav1.GetOptions{}); err != nil || now.UID == before.UID || now.RoleRef.Name != "two" {
		t.Errorf("it was not made anew: %v", err)
	}
}

// A StatefulSet is made anew around its pods and volumes, and only by a policy
// that says so.
func TestStatefulSetIsMadeAnewAroundItsPods(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/db.yaml": statefulSet})
	r.converge()
	pods := r.env.Client.CoreV1().Pods(r.env.Namespace)
	var pod *corev1.Pod
	r.eventually("the pod is there", func() (ok bool) {
		var err error
		pod, err = pods.Get(t.Context(), "db-0", metav1.GetOptions{})
		return err == nil
	})
	r.policy.Recreate = "stateless"
	r.values = map[string]any{"service": "other"}
	steps, err := r.pass(t.Context(), r.request())
	if err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, "--cascade=orphan") {
		t.Errorf("steps %v, err %v", steps, err)
	}
	r.policy.Recreate = "any"
	steps = r.converge()
	if len(steps) != 1 || steps[0].Deletes != 1 || len(steps[0].Destroys) != 0 {
		t.Errorf("steps %+v", steps)
	}
	set, err := r.env.Client.AppsV1().StatefulSets(r.env.Namespace).Get(t.Context(), "db", metav1.GetOptions{})
	if err != nil || set.Spec.ServiceName != "other" {
		t.Errorf("service %v, err %v", set.Spec.ServiceName, err)
	}
	if now, err := pods.Get(t.Context(), "db-0", metav1.GetOptions{}); err != nil || now.UID != pod.UID || now.DeletionTimestamp != nil {
		t.Errorf("the pod was not left alone: %v", err)
	}
}

const claim = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

// What holds data outlives its release: neither an update that drops it nor the
// removal of the release deletes it, but for a token that says so. What asks to
// be kept stays too. Both lose our marks, and are found again by their release.
func TestDataAndKeptObjectsStay(t *testing.T) {
	r := newRig(t)
	kept := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n"
	r.with(map[string]string{"templates/data.yaml": claim + kept})
	r.converge()
	claims := r.env.Client.CoreV1().PersistentVolumeClaims(r.env.Namespace)
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	before, err := claims.Get(t.Context(), "data", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stays := func(when string) {
		t.Helper()
		now, err := claims.Get(t.Context(), "data", metav1.GetOptions{})
		if err != nil || now.UID != before.UID || now.DeletionTimestamp != nil || now.Labels[kubernetes.LabelInstance] != "" {
			t.Errorf("%s: the claim: labels %v, err %v", when, now.Labels, err)
		}
		if m, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil || m.Labels[kubernetes.LabelInstance] != "" {
			t.Errorf("%s: what asks to be kept: labels %v, err %v", when, m.Labels, err)
		}
	}
	r.with(nil)
	if steps := r.converge(); len(steps) != 1 || steps[0].Deletes != 0 {
		t.Errorf("steps %v", steps)
	}
	stays("after an update without them")
	r.with(map[string]string{"templates/data.yaml": claim + kept})
	r.converge()
	if now, err := claims.Get(t.Context(), "data", metav1.GetOptions{}); err != nil || now.UID != before.UID || now.Labels[kubernetes.LabelInstance] == "" {
		t.Errorf("not taken up again: %v, err %v", now.Labels, err)
	}
	req := r.request()
	req.Remove = true
	steps, err := r.pass(t.Context(), req)
	if err != nil || len(steps) != 1 || steps[0].Deletes != 3 || len(steps[0].Destroys) != 0 {
		t.Errorf("steps %+v, err %v", steps, err)
	}
	stays("after the removal")

	// With leave to destroy, what is lost is named, in a step of its own.
	r.converge()
	r.policy.DestroyData = "with-token"
	req = r.request()
	req.Remove = true
	o, err := r.p.Observe(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	steps, err = r.p.Plan(t.Context(), req, o)
	if err != nil || len(steps) != 2 || len(steps[0].Destroys) != 0 || len(steps[1].Destroys) != 1 {
		t.Fatalf("steps %+v, err %v", steps, err)
	}
	if _, err := r.p.Apply(t.Context(), req, steps[0]); err != nil {
		t.Fatal(err)
	}
	if now, err := claims.Get(t.Context(), "data", metav1.GetOptions{}); err != nil || now.DeletionTimestamp != nil {
		t.Fatalf("deleted without the step that says so: %v", err)
	}
	r.restart() // it is not forgotten what was not destroyed
	o, err = r.p.Observe(t.Context(), req)
	if err != nil || !o.Exists {
		t.Fatalf("exists %t, err %v", o.Exists, err)
	}
	left, err := r.p.Plan(t.Context(), req, o)
	if err != nil || len(left) != 1 || left[0].Token != steps[1].Token || left[0].Destroys[0] != steps[1].Destroys[0] {
		t.Fatalf("steps %+v, err %v", left, err)
	}
	if _, err := r.p.Apply(t.Context(), req, left[0]); err != nil {
		t.Fatal(err)
	}
	if now, err := claims.Get(t.Context(), "data", metav1.GetOptions{}); err == nil && now.DeletionTimestamp == nil {
		t.Error("the claim is not being deleted")
	}
	if o, err = r.p.Observe(t.Context(), req); err != nil || o.Exists {
		t.Errorf("exists %t, err %v", o.Exists, err)
	}
}

// A release that helm made is taken over by force, and by force only; what the
// next revision does not hold goes.
func TestReleaseOfHelmIsTakenOverByForce(t *testing.T) {
	r := newRig(t)
	r.helmInstall(map[string]any{"level": "theirs", "extra": true, "extraEnv": map[string]any{"Z": "9"}})
	r.policy.Adopt = forge.AdoptIfUnowned
	if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Conflict || !strings.Contains(err.Error(), "policy.adopt") {
		t.Errorf("error %v", err)
	}
	r.policy.Adopt = forge.AdoptForce
	steps := r.converge()
	if len(steps) != 1 || steps[0].Reason.Code != reconcile.ReasonForeign {
		t.Errorf("steps %v", steps)
	}
	fresh := newRig(t)
	fresh.converge()
	if got, want := sameInstance(r, fresh), fresh.live(); got != want {
		t.Errorf("after it was taken over\n%s\nwant\n%s", got, want)
	}
	if h := r.history(); h != "superseded deployed" {
		t.Errorf("history %q", h)
	}
}

// What its author has marked as not to change is not changed by a detour.
func TestMarkedImmutableStays(t *testing.T) {
	const settled = `
apiVersion: v1
kind: ConfigMap
metadata: {name: shards}
immutable: true
data: {count: {{ .Values.count | default 4 | quote }}}
`
	r := newRig(t)
	r.with(map[string]string{"templates/shards.yaml": settled})
	r.policy = forge.Policy{Recreate: "any"}
	r.converge()
	r.values = map[string]any{"count": 8}
	steps, err := r.pass(t.Context(), r.request())
	if err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, "immutable") || steps[0].Deletes != 0 {
		t.Errorf("steps %+v, err %v", steps, err)
	}
}
