package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// turned is a generated key of a rotation.
func turned(key string, rotation int) forge.SecretEntry {
	return forge.SecretEntry{Key: key, Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32, Rotation: rotation}}, Field: "environments.prod.services." + key}
}

// stack asks for two databases and for what uses one of them.
func (v *vault) stack(rotation int) reconcile.Request {
	return v.request(
		forge.SecretObject{Name: "app", Entries: []forge.SecretEntry{
			{Key: "URL", Join: []forge.SecretPart{{Literal: "x://"}, {Secret: "db", Key: "password"}}},
		}},
		forge.SecretObject{Name: "db", Entries: []forge.SecretEntry{turned("password", rotation), turned("admin", 0)}},
		forge.SecretObject{Name: "redis", Entries: []forge.SecretEntry{turned("password", 0)}},
	)
}

func (v *vault) value(name, key string) string {
	v.t.Helper()
	return string(v.live(name).Data[key])
}

func (v *vault) erase(name string) {
	v.t.Helper()
	if err := v.Client.CoreV1().Secrets(v.Namespace).Delete(v.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		v.t.Fatal(err)
	}
}

// converge applies what is planned, until nothing is or what is left is blocked.
func (v *vault) converge(r reconcile.Request) (blocked []reconcile.Step) {
	v.t.Helper()
	for range 6 {
		blocked = nil
		_, steps := plan(v.t, v, r)
		done := true
		for _, s := range steps {
			if s.Blocked != "" {
				blocked = append(blocked, s)
				continue
			}
			done = false
			if _, err := v.Apply(v.t.Context(), r, s); err != nil && reconcile.KindOf(err) != reconcile.Stale {
				v.t.Fatalf("%s: %v", s, err)
			}
		}
		if done {
			return blocked
		}
	}
	v.t.Fatal("it does not come to rest")
	return nil
}

// A generated Secret that was deleted while forged did not run is not made anew
// in silence: the database that was set up with it would shut everybody out. A
// person decides, and everything else goes on.
func TestLostSecretsAreNotMadeAnew(t *testing.T) {
	v := newVault(t)
	r := v.stack(0)
	v.converge(r)
	redis, backup := v.value("redis", "password"), v.live("db")
	v.clusters.Close()
	v.erase("db")
	v.start()

	blocked := v.converge(r)
	if len(blocked) != 2 {
		t.Fatalf("blocked: %v", blocked)
	}
	var text strings.Builder
	for _, s := range blocked {
		fmt.Fprintln(&text, s)
	}
	for _, want := range []string{"Secret " + v.Namespace + "/db", "password", "admin", "restore", "in forge.cue, environments.prod.services.admin: generate: rotation: 1, environments.prod.services.password: generate: rotation: 1", "made of generated values that are lost: see Secret db"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not said in:\n%s", want, text.String())
		}
	}
	if _, err := v.Client.CoreV1().Secrets(v.Namespace).Get(t.Context(), "db", metav1.GetOptions{}); err == nil {
		t.Error("it was made anew")
	}
	if v.value("redis", "password") != redis {
		t.Error("another one was touched")
	}

	// Restored, it is as it was.
	backup.ResourceVersion, backup.UID, backup.ManagedFields = "", "", nil
	if _, err := v.Client.CoreV1().Secrets(v.Namespace).Create(t.Context(), backup, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c, err := v.clusters.Cluster(t.Context(), v.Target())
	if err != nil {
		t.Fatal(err)
	}
	awaitLive(t, c, secretRef(v.Namespace, "db"), "back", func(s State) bool { return s.Exists })
	if blocked := v.converge(r); len(blocked) != 0 || v.value("db", "password") != string(backup.Data["password"]) || v.value("app", "URL") != "x://"+string(backup.Data["password"]) {
		t.Errorf("restored, and blocked: %v", blocked)
	}
}

// Somebody who says that new values are meant gets new ones.
func TestLostSecretsAreMadeAnewWhenAskedFor(t *testing.T) {
	v := newVault(t)
	v.converge(v.stack(0))
	v.clusters.Close()
	v.erase("db")
	v.start()
	if blocked := v.converge(v.stack(1)); len(blocked) != 2 || !strings.Contains(blocked[0].Blocked+blocked[1].Blocked, "values of admin") {
		t.Errorf("the other key is lost as well, and: %v", blocked)
	}
	r := v.request(forge.SecretObject{Name: "db", Entries: []forge.SecretEntry{turned("password", 1), turned("admin", 1)}})
	r.Policy.Prune = false
	if _, steps := plan(t, v, r); !slices.ContainsFunc(steps, func(s reconcile.Step) bool {
		return strings.Contains(s.Reason.Text, "the generated values of admin, password were lost with it")
	}) {
		t.Errorf("planned %+v", steps)
	}
	if blocked := v.converge(r); len(blocked) != 0 || len(v.value("db", "password")) != 32 {
		t.Errorf("blocked: %v", blocked)
	}
}

// One key of a Secret can be lost as well.
func TestLostKey(t *testing.T) {
	v := newVault(t)
	v.converge(v.stack(0))
	v.clusters.Close()
	if _, err := v.Client.CoreV1().Secrets(v.Namespace).Patch(t.Context(), "db", merge, []byte(`{"data":{"admin":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	v.start()
	blocked := v.converge(v.stack(0))
	if len(blocked) != 1 || !strings.Contains(blocked[0].Blocked, "values of admin are lost") || strings.Contains(blocked[0].Blocked, "password") {
		t.Errorf("blocked: %v", blocked)
	}
}

// A rotation is of one key: it alone gets a new value, and only what is made of
// it changes.
func TestRotationOfOneKey(t *testing.T) {
	v := newVault(t)
	v.converge(v.stack(0))
	before, _ := plan(t, v, v.stack(0))
	old := map[string]string{}
	for _, at := range [][2]string{{"db", "password"}, {"db", "admin"}, {"redis", "password"}} {
		old[at[0]+at[1]] = v.value(at[0], at[1])
	}
	uid := v.live("db").UID
	v.converge(v.stack(1))
	after, _ := plan(t, v, v.stack(1))
	if v.value("db", "password") == old["dbpassword"] || v.value("db", "admin") != old["dbadmin"] || v.value("redis", "password") != old["redispassword"] {
		t.Error("not that key, or not that key alone, has a new value")
	}
	if v.value("app", "URL") != "x://"+v.value("db", "password") {
		t.Error("what is made of it is not")
	}
	if v.live("db").UID != uid {
		t.Error("the Secret was deleted to be changed")
	}
	for name, changes := range map[string]bool{"db": true, "app": true, "redis": false} {
		if got := before.Outputs["checksum/"+name].Value != after.Outputs["checksum/"+name].Value; got != changes {
			t.Errorf("the checksum of %s changes: %v", name, got)
		}
	}
	// Neither a restart nor a rotation that is taken back makes another one.
	now := v.value("db", "password")
	v.start()
	for _, rotation := range []int{1, 0, 1} {
		v.converge(v.stack(rotation))
		if v.value("db", "password") != now {
			t.Fatalf("another value with rotation %d", rotation)
		}
	}
	v.converge(v.stack(2))
	if v.value("db", "password") == now {
		t.Error("the second rotation made no other value")
	}
}

// A rotation that is cut anywhere makes one new value, not several.
func TestRotationIsCut(t *testing.T) {
	for n := 0; ; n++ {
		if n > 20 {
			t.Fatal("it is never done")
		}
		v := newVault(t)
		v.converge(v.stack(0))
		old := v.value("db", "password")
		o, steps := plan(t, v, v.stack(1))
		if len(steps) == 0 || !o.Exists {
			t.Fatal("nothing to do")
		}
		v.faults.set(n)
		_, err := v.Apply(t.Context(), v.stack(1), steps[0])
		v.faults.set(-1)
		between := v.value("db", "password")
		v.start()
		v.converge(v.stack(1))
		now := v.value("db", "password")
		if now == old || between != old && now != between {
			t.Errorf("cut after %d requests: the value was made more than once, or not at all", n)
		}
		if v.value("app", "URL") != "x://"+now {
			t.Errorf("cut after %d requests: what is made of it is of another value", n)
		}
		if err == nil {
			return
		}
	}
}

// What is let go of and stays is no delete.
func TestKeptSecretIsForgotten(t *testing.T) {
	v := newVault(t)
	generated := func(name string) forge.SecretObject {
		return forge.SecretObject{Name: name, Entries: []forge.SecretEntry{turned("password", 0)}}
	}
	v.converge(v.request(generated("db"), generated("redis")))
	step, _ := do(t, v, v.request(generated("db")), reconcile.ActionForget, reconcile.ReasonUnwanted)
	if step.Deletes != 0 || v.live("redis").Labels[LabelInstance] != "" {
		t.Errorf("%s of %d objects, and it bears %v", step, step.Deletes, v.live("redis").Labels)
	}
}

// The password of a database whose volume stays is kept with it, and found again
// when the database comes back.
func TestGeneratedSecretsOutliveTheirService(t *testing.T) {
	v := newVault(t)
	v.converge(v.stack(0))
	password := v.value("db", "password")
	without := v.request(forge.SecretObject{Name: "redis", Entries: []forge.SecretEntry{turned("password", 0)}})
	_, steps := plan(t, v, without)
	if len(steps) != 1 || steps[0].Deletes != 1 || !strings.Contains(steps[0].Reason.Text, "kept, since only the cluster knows their values: db") {
		t.Fatalf("planned %v", steps)
	}
	v.converge(without)
	kept := v.live("db")
	if kept.Labels[LabelInstance] != "" || string(kept.Data["password"]) != password {
		t.Errorf("labels %v", kept.Labels)
	}
	v.start()
	_, steps = plan(t, v, v.stack(0))
	if !slices.ContainsFunc(steps, func(s reconcile.Step) bool {
		return s.Action == reconcile.ActionUpdate && strings.Contains(s.String(), "Secret "+v.Namespace+"/db: ownership (it is there, was kept, and is used again)")
	}) {
		t.Errorf("planned %v", steps)
	}
	if blocked := v.converge(v.stack(0)); len(blocked) != 0 || v.value("db", "password") != password {
		t.Errorf("it came back with another password, or not: %v", blocked)
	}
	// The whole resource goes: what was generated stays.
	gone := v.stack(0)
	gone.Remove = true
	if step, o := do(t, v, gone, reconcile.ActionDelete, reconcile.ReasonUnwanted); o.Exists || step.Deletes != 2 {
		t.Errorf("%s, %+v", step, o)
	}
	if v.value("db", "password") != password || v.value("redis", "password") == "" {
		t.Error("values are lost")
	}
}

// The key of checksums opens nothing: it is made anew, which is said, and costs
// restarts.
func TestLostKeyOfChecksums(t *testing.T) {
	v := newVault(t)
	v.converge(v.stack(0))
	password := v.value("db", "password")
	v.clusters.Close()
	v.erase("forged-prod")
	v.start()
	_, steps := plan(t, v, v.stack(0))
	if len(steps) == 0 || steps[0].Blocked != "" || !strings.Contains(steps[0].Reason.Text, "restarts once") {
		t.Errorf("planned %v", steps)
	}
	if blocked := v.converge(v.stack(0)); len(blocked) != 0 || v.value("db", "password") != password {
		t.Errorf("blocked: %v", blocked)
	}
}

// By policy.adopt a Secret of somebody else is taken over, with its values.
func TestSecretsAreAdopted(t *testing.T) {
	v := newVault(t)
	secrets := v.Client.CoreV1().Secrets(v.Namespace)
	theirs := v.theirSecret("db", map[string]string{"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": "ns"})
	if _, err := secrets.Create(t.Context(), theirs, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
		t.Fatal(err)
	}
	r := v.stack(0)
	for _, adopt := range []string{"", forge.AdoptIfUnowned} {
		r.Policy.Adopt = adopt
		_, steps := plan(t, v, r)
		if len(steps) < 2 || steps[0].Blocked == "" || !strings.Contains(steps[0].Blocked, "Helm release ns/old") || !strings.Contains(steps[0].Blocked, "policy.adopt") {
			t.Errorf("%q: planned %v", adopt, steps)
		}
	}
	r.Policy.Adopt = forge.AdoptForce
	if blocked := v.converge(r); len(blocked) != 0 {
		t.Fatalf("blocked: %v", blocked)
	}
	if db := v.live("db"); string(db.Data["password"]) != "theirs" || db.Annotations["meta.helm.sh/release-name"] != "" || db.Data["gone"] != nil {
		t.Errorf("annotations %v, %d keys", db.Annotations, len(db.Data))
	}
}

func (v *vault) theirSecret(name string, annotations map[string]string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: v.Namespace, Annotations: annotations},
		Data:       map[string][]byte{"password": []byte("theirs"), "gone": []byte("x")},
	}
}

// Keys that somebody adds to a Secret of ours stay and are told.
func TestStrangeKeysAreTold(t *testing.T) {
	v := newVault(t)
	r := v.stack(0)
	v.converge(r)
	if o, _ := plan(t, v, r); len(o.Notices) != 0 {
		t.Errorf("notices %v", o.Notices)
	}
	edited, err := v.Client.CoreV1().Secrets(v.Namespace).Patch(t.Context(), "db", merge, []byte(`{"stringData":{"tls.crt":"`+canary+`"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.clusters.Cluster(t.Context(), v.Target())
	if err != nil {
		t.Fatal(err)
	}
	(&bed{Env: v.Env, t: t, c: c}).seen(secretRef(v.Namespace, "db"), edited.ResourceVersion)
	o, steps := plan(t, v, r)
	if len(steps) != 0 || len(o.Notices) != 1 || o.Notices[0].Code != "foreign-keys" || !strings.Contains(o.Notices[0].Message, "tls.crt (by kubectl-edit)") {
		t.Errorf("planned %v, notices %+v", steps, o.Notices)
	}
	v.secretFree(o.Notices)
	v.converge(v.stack(1))
	if v.value("db", "tls.crt") != canary {
		t.Error("it was taken away")
	}
}
