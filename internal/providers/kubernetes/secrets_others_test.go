package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestSecretOfAnotherToolIsLeftAlone(t *testing.T) {
	v := newVault(t)
	theirs := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "app", Annotations: map[string]string{"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": "ns"}},
		Data:       map[string][]byte{"TOKEN": []byte("theirs")},
	}
	if _, err := v.Client.CoreV1().Secrets(v.Namespace).Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := v.request()
	_, steps := plan(t, v, r)
	if len(steps) != 2 || !strings.Contains(steps[0].Blocked, "Helm release ns/old") || steps[1].Blocked != "" {
		t.Fatalf("planned %v", steps)
	}
	for _, s := range steps {
		if _, err := v.Apply(t.Context(), r, s); (err != nil) != (s.Blocked != "") {
			t.Errorf("%s: %v", s, err)
		}
	}
	if string(v.live("app").Data["TOKEN"]) != "theirs" {
		t.Error("it was changed")
	}
}

// A Secret that somebody made by hand is left alone until it is handed over;
// its generated values are kept then.
func TestExistingSecretIsTakenOverWhenHandedOver(t *testing.T) {
	v := newVault(t)
	secrets := v.Client.CoreV1().Secrets(v.Namespace)
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Data: map[string][]byte{"password": []byte("made by hand"), "other": []byte("x")}}
	if _, err := secrets.Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := v.request()
	_, steps := plan(t, v, r)
	hint := "label secret db " + LabelInstance + "=" + v.Instance
	if len(steps) != 2 || steps[0].Object != secretRef(v.Namespace, "db").String() || !strings.Contains(steps[0].Blocked, hint) {
		t.Fatalf("planned %v", steps)
	}
	for _, s := range steps {
		if _, err := v.Apply(t.Context(), r, s); (err != nil) != (s.Blocked != "") {
			t.Errorf("%s: %v", s, err)
		}
	}
	if db := v.live("db"); len(db.Labels) > 0 || len(db.Annotations) > 0 {
		t.Errorf("it was changed: %v %v", db.Labels, db.Annotations)
	}

	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, LabelInstance, v.Instance)
	if _, err := secrets.Patch(t.Context(), "db", merge, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	step, _ := do(t, v, r, reconcile.ActionUpdate, reconcile.ReasonOwnership)
	if !strings.Contains(step.Reason.Text, "it is there, and is taken over from a person who has handed it over") {
		t.Errorf("planned %s", step)
	}
	db := v.live("db")
	if string(db.Data["password"]) != "made by hand" || string(db.Data["other"]) != "x" {
		t.Error("other values")
	}
}

// A Secret of ours that another tool replaced by its own is that tool's.
func TestReplacedByAnotherToolIsLeftAlone(t *testing.T) {
	v := newVault(t)
	r := v.request()
	do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	secrets := v.Client.CoreV1().Secrets(v.Namespace)
	if err := secrets.Delete(t.Context(), "app", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c, err := v.clusters.Cluster(t.Context(), v.Target())
	if err != nil {
		t.Fatal(err)
	}
	awaitGone(t, c, secretRef(v.Namespace, "app"))
	theirs := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "app", Annotations: map[string]string{"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": "ns"}},
		Data:       map[string][]byte{"TOKEN": []byte("theirs")},
	}
	if _, err := secrets.Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, steps := plan(t, v, r)
	if len(steps) != 1 || steps[0].Action != reconcile.ActionHeal || !strings.Contains(steps[0].Blocked, "Helm release ns/old") {
		t.Errorf("planned %v", steps)
	}
	v.env["TOKEN"] = "another"
	if _, steps = plan(t, v, r); len(steps) != 1 || steps[0].Blocked == "" {
		t.Errorf("with a new value planned %v", steps)
	}
}

func TestSecretsArePruned(t *testing.T) {
	v := newVault(t)
	do(t, v, v.request(), reconcile.ActionCreate, reconcile.ReasonAbsent)
	r := v.request(forge.SecretObject{Name: "db", Entries: []forge.SecretEntry{makeUp("password")}})
	r.Policy.Prune = false
	if _, steps := plan(t, v, r); len(steps) != 0 {
		t.Errorf("what is to be kept is no step, or it would hold up rollouts: %v", steps)
	}
	r.Policy.Prune = true
	step, o := do(t, v, r, reconcile.ActionDelete, reconcile.ReasonUnwanted)
	if step.Deletes != 1 || !step.Late || step.Object != "Secret "+v.Namespace+"/app" || o.Objects != 2 {
		t.Errorf("%s, observed %+v", step, o)
	}
	list, err := v.Client.CoreV1().Secrets(v.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("%d Secrets are left, %v", len(list.Items), err)
	}

	owned, err := v.Provider.(reconcile.Owner).Owned(t.Context(), "prod", []forge.Resource{v.request().Resource})
	if err != nil || len(owned) != 1 || owned[0].ID != r.Resource.ID || len(owned[0].Needs) != 1 {
		t.Errorf("owned %+v, %v", owned, err)
	}
	// Somebody replaces one of them: it is theirs and stays.
	secrets := v.Client.CoreV1().Secrets(v.Namespace)
	if err := secrets.Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r = reconcile.Request{Resource: owned[0], Policy: r.Policy, Remove: true}
	if step, o := do(t, v, r, reconcile.ActionDelete, reconcile.ReasonUnwanted); step.Deletes != 1 || o.Exists {
		t.Errorf("%s, observed %+v", step, o)
	}
	if list, err = secrets.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 1 || list.Items[0].Name != "db" {
		t.Errorf("left: %d, %v", len(list.Items), err)
	}
	if owned, err := v.Provider.(reconcile.Owner).Owned(t.Context(), "prod", []forge.Resource{v.request().Resource}); err != nil || len(owned) != 0 {
		t.Errorf("owned %+v, %v", owned, err)
	}
}

// Somebody makes another Secret under the name between the plan and its step, and
// no watch has told of it yet: nothing is written into it.
func TestSecretThatWasReplacedIsNotWrittenInto(t *testing.T) {
	v := newVault(t)
	r := v.request(forge.SecretObject{Name: "app", Entries: []forge.SecretEntry{{Key: "TOKEN", Ref: &forge.SecretRef{Env: "TOKEN"}}}})
	do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	p := v.Provider.(*Secrets)
	s, err := p.look(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	api := v.Client.CoreV1().Secrets(v.Namespace)
	if err := api.Delete(t.Context(), "app", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "app"}, Data: map[string][]byte{"TOKEN": []byte("theirs")}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = s.put(t.Context(), r.Resource.ID, &change{wanted: s.wanted})
	if err == nil || reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("got %v, want stale", err)
	}
	if got := string(v.live("app").Data["TOKEN"]); got != "theirs" {
		t.Errorf("it holds %s", got)
	}
}
