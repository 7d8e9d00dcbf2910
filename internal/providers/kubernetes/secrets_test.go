package kubernetes

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

const canary = "c4n4ry+/Value"

// vault is a provider of Secrets with its surroundings.
type vault struct {
	*sandboxtest.Env
	t        testing.TB
	env      map[string]string
	faults   *faults
	requests *requests
	log      *buffer
	reconcile.Provider
	clusters *Clusters
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func newVault(t testing.TB) *vault {
	t.Helper()
	v := &vault{
		Env: sandboxtest.Cluster(t), t: t, env: map[string]string{"TOKEN": canary},
		faults: &faults{allowed: -1}, requests: &requests{}, log: &buffer{},
	}
	v.CreateNamespace(t)
	v.start()
	return v
}

func (v *vault) start() {
	if v.clusters != nil {
		v.clusters.Close()
	}
	v.clusters = NewClusters(Options{
		Instance: v.Instance, OnRequest: v.requests.observe,
		Logger: slog.New(slog.NewJSONHandler(v.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	v.clusters.wrap = v.faults.wrap
	v.t.Cleanup(v.clusters.Close)
	v.Provider = NewSecrets(v.clusters, &secret.Resolver{LookupEnv: func(name string) (string, bool) {
		value, ok := v.env[name]
		return value, ok
	}})
}

func makeUp(key string) forge.SecretEntry {
	return forge.SecretEntry{Key: key, Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32}}}
}

func (v *vault) request(objects ...forge.SecretObject) reconcile.Request {
	if objects == nil {
		objects = []forge.SecretObject{
			{Name: "app", Labels: map[string]string{"app": "shop"}, Entries: []forge.SecretEntry{
				{Key: "TOKEN", Ref: &forge.SecretRef{Env: "TOKEN"}},
				{Key: "URL", Join: []forge.SecretPart{{Literal: "x://u:"}, {Secret: "db", Key: "password"}, {Literal: "@h/"}, {Secret: "app", Key: "TOKEN", URLEscape: true}}},
			}},
			{Name: "db", Entries: []forge.SecretEntry{makeUp("password")}},
		}
	}
	return reconcile.Request{
		Resource: forge.Resource{
			ID: forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}, Target: v.Target(),
			Needs: []forge.ID{{Environment: "prod", Kind: forge.KindNamespace, Name: v.Namespace}},
			Spec:  forge.SecretsSpec{Namespace: v.Namespace, Secrets: objects},
		},
		Policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
	}
}

func (v *vault) live(name string) *corev1.Secret {
	v.t.Helper()
	s, err := v.Client.CoreV1().Secrets(v.Namespace).Get(v.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}

// secretFree fails if the canary is in any text.
func (v *vault) secretFree(things ...any) {
	v.t.Helper()
	v.log.mu.Lock()
	text := v.log.b.String()
	v.log.mu.Unlock()
	for _, thing := range things {
		text += fmt.Sprintf("%v %+v %#v\n", thing, thing, thing)
	}
	for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), "c4n4ry%2B%2FValue"} {
		if strings.Contains(text, form) {
			v.t.Errorf("the secret shows as %s in %s", form, text)
		}
	}
}

func TestSecretsAreMade(t *testing.T) {
	v := newVault(t)
	r := v.request()
	step, o := do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	app, db, key := v.live("app"), v.live("db"), v.live("forged-prod")
	password := string(db.Data["password"])
	if len(password) != 32 || string(app.Data["TOKEN"]) != canary || string(app.Data["URL"]) != "x://u:"+password+"@h/c4n4ry%2B%2FValue" || len(key.Data["hash-key"]) != 64 {
		t.Error("other values than asked for")
	}
	if app.Labels["app"] != "shop" || app.Labels[LabelInstance] != v.Instance || app.Type != corev1.SecretTypeOpaque {
		t.Errorf("labels %v, type %s", app.Labels, app.Type)
	}
	checksum := o.Outputs["checksum/app"].Value
	if got := o.Outputs["value/db/password"]; string(got.Secret.Reveal()) != password || got.Value != "" {
		t.Error("what is in a Secret is no output, or no secret one")
	}
	if len(checksum) != 32 || len(o.Outputs) != 3+4 || o.Objects != 3 || o.Health.Status != reconcile.Ready {
		t.Errorf("observed %+v", o)
	}
	v.secretFree(step, o)

	v.requests.reset()
	for range 20 {
		if o, steps := plan(t, v, r); len(steps) != 0 || o.Outputs["checksum/app"].Value != checksum {
			t.Fatalf("planned %v, outputs %v", steps, o.Outputs)
		}
	}
	if all := v.requests.all(); len(all) != 0 {
		t.Errorf("a steady state costs %q", all)
	}

	// The next process: reads only, and the same outputs.
	v.start()
	v.requests.reset()
	if o, steps := plan(t, v, r); len(steps) != 0 || o.Outputs["checksum/app"].Value != checksum {
		t.Errorf("after a restart: planned %v, outputs %v", steps, o.Outputs)
	}
	if w := v.requests.writes(); len(w) != 0 {
		t.Errorf("after a restart: %q", w)
	}

	// A value that changes is a rollout, with another checksum.
	v.env["TOKEN"] = canary + "2"
	step, o = do(t, v, r, reconcile.ActionUpdate, reconcile.ReasonConfig)
	if o.Outputs["checksum/app"].Value == checksum || o.Outputs["checksum/app"].Value == "" || step.Object != "Secret "+v.Namespace+"/app" {
		t.Errorf("%s: outputs %v", step, o.Outputs)
	}
	if string(v.live("app").Data["TOKEN"]) != canary+"2" || string(v.live("db").Data["password"]) != password {
		t.Error("other values than asked for")
	}
	v.secretFree(step, o)
}

// Heal mode does not roll out; what is used elsewhere must not change before.
func TestChecksumsAreOfWhatWasApplied(t *testing.T) {
	v := newVault(t)
	r := v.request()
	_, o := do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	before := o.Outputs["checksum/app"]
	v.env["TOKEN"] = canary + "2"
	if o, steps := plan(t, v, r); o.Outputs["checksum/app"] != before || len(steps) != 1 {
		t.Errorf("outputs %v, planned %v", o.Outputs, steps)
	}
}

func TestSecretsArePutBack(t *testing.T) {
	v := newVault(t)
	r := v.request()
	do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	secrets := v.Client.CoreV1().Secrets(v.Namespace)
	password := string(v.live("db").Data["password"])
	c, err := v.clusters.Cluster(t.Context(), v.Target())
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{Env: v.Env, t: t, c: c}

	edited, err := secrets.Patch(t.Context(), "app", merge, []byte(`{"stringData":{"TOKEN":"`+canary+`3"},"metadata":{"labels":{"app":"other"}}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
	b.seen(secretRef(v.Namespace, "app"), edited.ResourceVersion)
	step, _ := do(t, v, r, reconcile.ActionHeal, reconcile.ReasonEdited)
	if step.Reason.Writer != "kubectl-edit" || strings.Join(step.Reason.Paths, " ") != "data.TOKEN metadata.labels.app" || step.Changes[0] != (reconcile.Change{Path: "data.TOKEN"}) {
		t.Errorf("%s %+v", step, step.Changes)
	}
	v.secretFree(step)
	if string(v.live("app").Data["TOKEN"]) != canary {
		t.Error("not put back")
	}

	// A generated value is known as long as this process lives.
	if err := secrets.Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, c, secretRef(v.Namespace, "db"))
	do(t, v, r, reconcile.ActionHeal, reconcile.ReasonDeleted)
	if string(v.live("db").Data["password"]) != password {
		t.Error("another password")
	}
}

// What cannot be read is not made anew.
func TestUnreadableSecretIsNotRegenerated(t *testing.T) {
	v := newVault(t)
	r := v.request()
	do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	password := string(v.live("db").Data["password"])
	v.start()
	if _, err := v.clusters.Cluster(t.Context(), v.Target()); err != nil {
		t.Fatal(err)
	}
	v.faults.reject(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/secrets/db") })
	o, err := v.Observe(t.Context(), r)
	if wantError(t, err, reconcile.Unavailable); o.Exists {
		t.Error("said to exist")
	}
	v.secretFree(err)
	v.faults.reject(nil)
	if _, steps := plan(t, v, r); len(steps) != 0 {
		t.Errorf("planned %v", steps)
	}
	if string(v.live("db").Data["password"]) != password {
		t.Error("another password")
	}
}

func TestSecretsThatCannotBeResolved(t *testing.T) {
	v := newVault(t)
	for _, tt := range []struct {
		name  string
		entry forge.SecretEntry
		parts []string
	}{
		{"variable", forge.SecretEntry{Key: "K", Ref: &forge.SecretRef{Env: "MISSING"}}, []string{"variable MISSING is not set", "key K", "/app"}},
		{"file", forge.SecretEntry{Key: "K", Ref: &forge.SecretRef{File: "/nowhere/x"}}, []string{"/nowhere/x", "key K", "/app"}},
		{"lines", forge.SecretEntry{Key: "K", Ref: &forge.SecretRef{Env: "LINES"}}, []string{"variable LINES holds more than one line"}},
		{"join", forge.SecretEntry{Key: "K", Join: []forge.SecretPart{{Secret: "other", Key: "x"}}}, []string{"key x of Secret " + v.Namespace + "/other", "key K"}},
		{"alphabet", forge.SecretEntry{Key: "K", Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "?", Length: 3}}}, []string{"alphabet"}},
	} {
		v.env["LINES"] = canary + "\n" + canary
		_, err := v.Observe(t.Context(), v.request(forge.SecretObject{Name: "app", Entries: []forge.SecretEntry{tt.entry}}))
		wantError(t, err, reconcile.Invalid, tt.parts...)
		v.secretFree(err)
	}
	if w := v.requests.writes(); len(w) != 0 {
		t.Errorf("writes: %q", w)
	}
}
