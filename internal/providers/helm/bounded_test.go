package helm

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

const chartClaim = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

// A release that fails time after time is never uninstalled to begin anew,
// which would cost its data and stop what runs: its objects are the same ones
// afterwards, its history does not grow without end, and the last revision that
// was good stays in it.
func TestReleaseThatFailsForEverKeepsWhatItHas(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/claim.yaml": chartClaim})
	r.converge()
	uids := r.uids()
	r.with(map[string]string{"templates/claim.yaml": chartClaim, "templates/hook.yaml": hook("Job", "bad-after", "post-upgrade")})
	r.failJobs()
	for i := range maxHistory + 4 {
		r.values = map[string]any{"level": strings.Repeat("x", i+1)}
		if _, err := r.pass(t.Context(), r.request()); err == nil {
			t.Fatal("the upgrade did not fail")
		}
	}
	if got := r.uids(); got != uids {
		t.Errorf("other objects: %s, want %s", got, uids)
	}
	history := strings.Fields(r.history())
	if len(history) > maxHistory+1 {
		t.Errorf("%d revisions are kept", len(history))
	}
	if history[0] != "deployed" {
		t.Errorf("the last good revision is gone from the history: %v", history)
	}
	r.with(map[string]string{"templates/claim.yaml": chartClaim})
	r.values = map[string]any{"level": "good"}
	r.converge()
	if got := r.uids(); got != uids {
		t.Errorf("after the end of the trouble other objects: %s, want %s", got, uids)
	}
}

// uids are the identities of what a release must not lose.
func (r *rig) uids() string {
	r.t.Helper()
	ctx, ns := r.t.Context(), r.env.Namespace
	pvc, err := r.env.Client.CoreV1().PersistentVolumeClaims(ns).Get(ctx, "data", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	web, err := r.env.Client.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	svc, err := r.env.Client.CoreV1().Services(ns).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return string(pvc.UID + " " + web.UID + " " + svc.UID)
}

// A rollout whose pods never run leaves the last good pods alive: ReplicaSets
// and pods are the Deployment controller's, who keeps them, and none is scaled,
// deleted or restarted by forged; nor is a Deployment of somebody else beside
// it.
func TestRolloutLeavesReplicaSetsAndForeignDeploymentsAlone(t *testing.T) {
	r := newRig(t)
	r.policy, r.timeout = forge.Policy{Rollback: true}, 1
	r.converge()
	r.untilReady()
	ctx, ns := t.Context(), r.env.Namespace
	web, err := r.env.Client.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	foreign := web.DeepCopy()
	foreign.ObjectMeta = metav1.ObjectMeta{Name: "theirs", Namespace: ns, Labels: map[string]string{"app.kubernetes.io/instance": releaseName}}
	foreign.Spec.Selector.MatchLabels = map[string]string{"app": "theirs"}
	foreign.Spec.Template.Labels = map[string]string{"app": "theirs"}
	if foreign, err = r.env.Client.AppsV1().Deployments(ns).Create(ctx, foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := func() (running []corev1.Pod) {
		list, err := r.env.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Items {
			if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
				running = append(running, p)
			}
		}
		return running
	}
	good := pods()
	if len(good) != 1 {
		t.Fatalf("%d pods run", len(good))
	}
	r.values = map[string]any{"level": "bad", "nowhere": true}
	r.converge()
	steps := r.until("the way back", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) > 0 })
	if now := pods(); len(now) != 1 || now[0].UID != good[0].UID {
		t.Errorf("the last good pod did not stay: %v", now)
	}
	if _, err := r.p.Apply(ctx, r.request(), steps[0]); err != nil {
		t.Fatal(err)
	}
	r.eventually("the bad pods go", func() bool {
		list, err := r.env.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		return err == nil && len(list.Items) == 1
	})
	if now := pods(); len(now) != 1 || now[0].UID != good[0].UID {
		t.Errorf("going back restarted the last good pod: %v", now)
	}
	sets, err := r.env.Client.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
	if err != nil || len(sets.Items) != 3 { // two of ours, one of theirs: the old ones are kept for a rollback
		t.Errorf("%d ReplicaSets, %v", len(sets.Items), err)
	}
	for _, set := range sets.Items {
		for _, f := range set.ManagedFields {
			if f.Manager != "kube-controller-manager" && f.Manager != "forged-sandbox" {
				t.Errorf("%s of %s was written by %s", f.Operation, set.Name, f.Manager)
			}
		}
	}
	theirs, err := r.env.Client.AppsV1().Deployments(ns).Get(ctx, "theirs", metav1.GetOptions{})
	if err != nil || theirs.Generation != foreign.Generation || theirs.UID != foreign.UID {
		t.Errorf("somebody else's Deployment was touched: %+v, %v", theirs, err)
	}
}
