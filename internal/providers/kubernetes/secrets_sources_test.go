package kubernetes

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

func fromCluster(name, key, namespace string) *forge.SecretRef {
	return &forge.SecretRef{Kubernetes: &forge.KubernetesRef{Name: name, Key: key, Namespace: namespace}}
}

func only(entries ...forge.SecretEntry) forge.SecretObject {
	return forge.SecretObject{Name: "app", Entries: entries}
}

// write makes a Secret hold just this, as somebody else.
func (v *vault) write(namespace, name string, data map[string]string) {
	v.t.Helper()
	api := v.Client.CoreV1().Secrets(namespace)
	s, err := api.Get(v.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		s, err = api.Create(v.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	}
	if err != nil {
		v.t.Fatal(err)
	}
	s.Data, s.StringData = nil, data
	if _, err := api.Update(v.t.Context(), s, metav1.UpdateOptions{}); err != nil {
		v.t.Fatal(err)
	}
}

// events subscribes to what makes the resource be looked at again.
func (v *vault) events() <-chan reconcile.Event {
	events := make(chan reconcile.Event, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = v.Watch(ctx, func(e reconcile.Event) { events <- e })
	}()
	for subscribed := 0; subscribed < 1; runtime.Gosched() {
		v.clusters.mu.Lock()
		subscribed = len(v.clusters.subscribers)
		v.clusters.mu.Unlock()
	}
	v.t.Cleanup(func() { cancel(); <-done })
	return events
}

func awaitSource(t *testing.T, events <-chan reconcile.Event, object string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-events:
			if e.Cause == causeSource {
				if e.Object != object || !e.Retry || e.ID.Kind != forge.KindSecrets {
					t.Errorf("told of %+v", e)
				}
				return
			}
		case <-timeout:
			t.Fatal("nothing was told")
		}
	}
}

// A Secret in the cluster is a source that is watched: a steady state costs no
// request, and a change is seen at once.
func TestSecretsFromTheCluster(t *testing.T) {
	v := newVault(t)
	v.write(v.Namespace, "theirs", map[string]string{"url": canary + "\n", "other": "x"})
	r := v.request(only(
		forge.SecretEntry{Key: "COPY", Ref: fromCluster("theirs", "url", "")},
		forge.SecretEntry{Key: "URL", Join: []forge.SecretPart{{Literal: "x://"}, {Ref: fromCluster("theirs", "url", v.Namespace), URLEscape: true}}},
	))
	step, o := do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	if app := v.live("app"); string(app.Data["COPY"]) != canary || string(app.Data["URL"]) != "x://c4n4ry%2B%2FValue" {
		t.Error("other values than asked for")
	}
	v.secretFree(step, o)
	v.requests.reset()
	for range 20 {
		if _, steps := plan(t, v, r); len(steps) != 0 {
			t.Fatalf("planned %v", steps)
		}
	}
	if all := v.requests.all(); len(all) != 0 {
		t.Errorf("a steady state costs %q", all)
	}

	object := secretRef(v.Namespace, "theirs").String()
	events := v.events()
	v.write(v.Namespace, "theirs", map[string]string{"url": canary + "2"})
	awaitSource(t, events, object)
	do(t, v, r, reconcile.ActionUpdate, reconcile.ReasonConfig)
	if string(v.live("app").Data["COPY"]) != canary+"2" {
		t.Error("not the new value")
	}

	// Gone is known, and nothing is done; there again is seen.
	secrets := v.Client.CoreV1().Secrets(v.Namespace)
	if err := secrets.Delete(t.Context(), "theirs", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitSource(t, events, object)
	_, err := v.Observe(t.Context(), r)
	wantError(t, err, reconcile.Invalid, object+" does not exist", "key COPY")
	v.secretFree(err)
	if string(v.live("app").Data["COPY"]) != canary+"2" {
		t.Error("it was taken away")
	}
	if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, StringData: map[string]string{"uri": canary, "second": "x"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitSource(t, events, object)
	_, err = v.Observe(t.Context(), r)
	wantError(t, err, reconcile.Invalid, object+" has no key url; it has second, uri")
	v.secretFree(err)
	v.write(v.Namespace, "theirs", map[string]string{"url": canary + "\n" + canary})
	awaitSource(t, events, object)
	_, err = v.Observe(t.Context(), r)
	wantError(t, err, reconcile.Invalid, "key url of "+object+" holds more than one line")
	v.secretFree(err)
	v.write(v.Namespace, "theirs", map[string]string{"url": canary + "2"})
	awaitSource(t, events, object)
	if _, steps := plan(t, v, r); len(steps) != 0 {
		t.Errorf("planned %v", steps)
	}

	// What is no longer referred to is no longer watched.
	c, err := v.clusters.Cluster(t.Context(), v.Target())
	if err != nil {
		t.Fatal(err)
	}
	if followedNow(c) != 1 {
		t.Errorf("%d Secrets are followed", followedNow(c))
	}
	plan(t, v, v.request())
	if followedNow(c) != 0 {
		t.Errorf("%d Secrets are followed", followedNow(c))
	}
	plan(t, v, r)
	r.Remove = true
	plan(t, v, r)
	if followedNow(c) != 0 {
		t.Errorf("%d Secrets are followed", followedNow(c))
	}
}

func followedNow(c *Cluster) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.followed)
}

// Not to be able to look is another thing than to find nothing.
func TestUnreadableSource(t *testing.T) {
	v := newVault(t)
	v.faults.reject(func(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "metadata.name%3Dtheirs") })
	r := v.request(only(forge.SecretEntry{Key: "COPY", Ref: fromCluster("theirs", "url", "")}))
	_, err := v.Observe(t.Context(), r)
	wantError(t, err, reconcile.Unavailable, secretRef(v.Namespace, "theirs").String())
	if strings.Contains(err.Error(), "does not exist") {
		t.Errorf("said to be absent: %v", err)
	}
	events := v.events()
	v.write(v.Namespace, "theirs", map[string]string{"url": canary})
	v.faults.reject(nil)
	timeout := time.After(4 * patience)
	for { // the watch comes back by itself, and says so
		select {
		case e := <-events:
			if e.Cause != causeWatch || !e.Retry {
				continue
			}
		case <-timeout:
			t.Fatal("nothing was told")
		}
		break
	}
	do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	if string(v.live("app").Data["COPY"]) != canary {
		t.Error("not the value")
	}
}

// What a Secret is made of: types, files of several lines, parts of addresses
// and outputs of other resources.
func TestSecretsOfParts(t *testing.T) {
	v := newVault(t)
	v.env["CERT"], v.env["DB"] = "-----BEGIN X-----\n"+canary+"\n-----END X-----\n", "postgres://ad%40min:p%2Fw@[::1]/shop%20db?x=y"
	database := forge.ID{Environment: "prod", Kind: "release", Name: "db"}
	field := func(name string) forge.SecretPart {
		return forge.SecretPart{Ref: &forge.SecretRef{Env: "DB"}, Field: name}
	}
	objects := []forge.SecretObject{
		only(
			forge.SecretEntry{Key: "CERT", Ref: &forge.SecretRef{Env: "CERT"}, MultiLine: true},
			forge.SecretEntry{Key: "DB", Join: []forge.SecretPart{
				field("user"), {Literal: "|"}, field("password"), {Literal: "|"}, field("host"), {Literal: "|"}, field("port"), {Literal: "|"}, field("path"),
			}},
			forge.SecretEntry{Key: "OUT", Join: []forge.SecretPart{{From: database, Output: forge.OutputHost}, {Literal: ":"}, {From: database, Output: forge.OutputPassword, URLEscape: true}}},
		),
		{Name: "pull", Type: string(corev1.SecretTypeDockerConfigJson), Entries: []forge.SecretEntry{
			{Key: corev1.DockerConfigJsonKey, Ref: &forge.SecretRef{Env: "DOCKER"}},
		}},
	}
	v.env["DOCKER"] = `{"auths":{}}`
	r := v.request(objects...)

	o, err := v.Observe(t.Context(), r)
	if err != nil || o.Exists {
		t.Fatalf("observed %+v, %v", o, err)
	}
	_, err = v.Plan(t.Context(), r, o)
	wantError(t, err, reconcile.Waiting, forge.OutputHost, database.String())

	r.Inputs = map[forge.ID]reconcile.Outputs{database: {
		forge.OutputHost: {Value: "db.shop"}, forge.OutputPassword: {Secret: secret.New([]byte("a b"))},
	}}
	step, o := do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	app, pull := v.live("app"), v.live("pull")
	for key, want := range map[string]string{
		"CERT": strings.TrimSuffix(v.env["CERT"], "\n"), "DB": "ad@min|p/w|[::1]|5432|shop db", "OUT": "db.shop:a%20b",
	} {
		if string(app.Data[key]) != want {
			t.Errorf("%s is another value", key)
		}
	}
	if pull.Type != corev1.SecretTypeDockerConfigJson || app.Type != corev1.SecretTypeOpaque {
		t.Errorf("types %s, %s", pull.Type, app.Type)
	}
	v.secretFree(step, o)
	if _, steps := plan(t, v, r); len(steps) != 0 {
		t.Errorf("planned %v", steps)
	}

	for _, tt := range []struct {
		part forge.SecretPart
		want string
	}{
		{forge.SecretPart{Ref: &forge.SecretRef{Env: "CERT"}}, "variable CERT holds more than one line"},
		{forge.SecretPart{Ref: &forge.SecretRef{Env: "TOKEN"}, Field: "user"}, "variable TOKEN is not a URL"},
		{forge.SecretPart{Ref: &forge.SecretRef{Env: "DB"}, Field: "colour"}, "no part called"},
		{forge.SecretPart{From: database, Output: forge.OutputHost, Field: "user"}, "output host of prod/release/db is not a URL"},
		{forge.SecretPart{Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "hex", Length: 16}}}, "no place of its own"},
		{forge.SecretPart{}, "joined from nothing"},
	} {
		bad := v.request(only(forge.SecretEntry{Key: "K", Join: []forge.SecretPart{tt.part}}))
		bad.Inputs = r.Inputs
		_, err := v.Observe(t.Context(), bad)
		wantError(t, err, reconcile.Invalid, tt.want, "key K")
		v.secretFree(err)
	}
}

// Commands are run once for all that refer to them, and again when the time
// between two full checks is over. One that fails is tried again.
func TestSecretsOfCommands(t *testing.T) {
	v := newVault(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "get")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho run >>"+dir+"/runs\n[ -e "+dir+"/fail ] && exit 3\necho \""+canary+"\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	runs := func() int {
		b, err := os.ReadFile(filepath.Join(dir, "runs"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), "run")
	}
	ref := &forge.SecretRef{Exec: []string{script}}
	r := v.request(only(forge.SecretEntry{Key: "A", Ref: ref}, forge.SecretEntry{Key: "B", Ref: ref}))
	r.Policy.Interval = time.Hour
	do(t, v, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	if app := v.live("app"); string(app.Data["A"]) != canary || string(app.Data["B"]) != canary {
		t.Error("not the values")
	}
	plan(t, v, r)
	if n := runs(); n != 1 {
		t.Errorf("run %d times", n)
	}
	r.Policy.Interval = 0
	plan(t, v, r)
	if n := runs(); n != 2 {
		t.Errorf("run %d times", n)
	}
	if err := os.WriteFile(filepath.Join(dir, "fail"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := v.Observe(t.Context(), r)
	wantError(t, err, reconcile.Unavailable, "command get failed: exit status 3", "key A")
	v.secretFree(err)
	if len(v.live("app").Data) != 2 {
		t.Error("it was changed")
	}
}
