package kubernetes

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/reconcile"
)

func (b *bed) configMap(name, data string) *unstructured.Unstructured {
	b.t.Helper()
	return b.manifest("{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}, data: " + data + "}")
}

// managers lists who holds fields of an object.
func managers(obj *unstructured.Unstructured) string {
	var all []string
	for _, e := range obj.GetManagedFields() {
		all = append(all, e.Manager+":"+string(e.Operation)+strings.TrimSuffix("/"+e.Subresource, "/"))
	}
	return strings.Join(all, " ")
}

func TestApplyCreatesChangesAndRests(t *testing.T) {
	b := newBed(t)
	id := releaseID("apply")
	created := b.apply(id, b.configMap("c", `{a: "1"}`))
	if !created.Created || !created.Changed {
		t.Errorf("first: %+v", created)
	}
	again := b.apply(id, b.configMap("c", `{a: "1"}`))
	if again.Created || again.Changed || again.Baseline != created.Baseline {
		t.Errorf("again: %+v, first %+v", again, created)
	}
	changed := b.apply(id, b.configMap("c", `{a: "2"}`))
	if changed.Created || !changed.Changed || changed.Baseline.Digest == created.Baseline.Digest && changed.Baseline.ResourceVersion == created.Baseline.ResourceVersion {
		t.Errorf("changed: %+v, first %+v", changed, created)
	}
	if got := b.requests.writes(); len(got) != 3 {
		t.Errorf("3 applies took %q", got)
	}
	live := b.get(RefOf(created.Object))
	if live.GetLabels()[LabelInstance] != b.Instance || live.GetAnnotations()[AnnotationOwner] != id.String() {
		t.Errorf("marks %v %v", live.GetLabels(), live.GetAnnotations())
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	b := newBed(t)
	got, err := b.c.DryRun(t.Context(), b.configMap("c", `{a: "1"}`))
	if err != nil || got.GetName() != "c" {
		t.Fatalf("got %v, %v", got, err)
	}
	if live := b.get(RefOf(got)); live != nil {
		t.Errorf("the dry run made %v", live)
	}
	if got := b.requests.writes(); len(got) != 0 {
		t.Errorf("writes: %q", got)
	}
}

// After a wipe of managedFields the server makes an entry that owns all; after
// a create by another tool, that tool does. Either would keep a field alive
// that we no longer send.
func TestRemovedFieldsGoDespiteCoOwners(t *testing.T) {
	for name, before := range map[string]func(*bed, *unstructured.Unstructured){
		"wiped by an empty entry": func(b *bed, obj *unstructured.Unstructured) {
			ref := RefOf(b.apply(releaseID("x"), obj).Object)
			b.edit(ref, "eraser", merge, `{"metadata":{"managedFields":[{}]}}`)
		},
		"created by another tool": func(b *bed, obj *unstructured.Unstructured) {
			obj = obj.DeepCopy()
			if err := unstructured.SetNestedField(obj.Object, "theirs", "data", "foreign"); err != nil {
				b.t.Fatal(err)
			}
			b.create(obj, "kubectl-create")
		},
		"applied by another tool's client": func(b *bed, obj *unstructured.Unstructured) {
			b.create(obj, "kubectl-client-side-apply")
		},
		"installed by Helm": func(b *bed, obj *unstructured.Unstructured) {
			obj = obj.DeepCopy()
			if err := unstructured.SetNestedField(obj.Object, "helm's", "data", "stale"); err != nil {
				b.t.Fatal(err)
			}
			b.create(obj, "helm")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			id := releaseID("x")
			full := b.configMap("c", `{a: "1", b: "2"}`)
			before(b, full)
			first := b.apply(id, full)
			for _, e := range first.Object.GetManagedFields() {
				if e.Operation == metav1.ManagedFieldsOperationUpdate && strings.Contains(e.FieldsV1.GetRawString(), "f:b") {
					t.Errorf("%s still claims b: %s", e.Manager, managers(first.Object))
				}
			}
			if live := b.get(RefOf(full)); first.Baseline != baselineOf(live, b.c.Manager(), "") {
				t.Errorf("baseline %+v is not that of the live object %+v", first.Baseline, baselineOf(live, b.c.Manager(), ""))
			}
			b.requests.reset()
			if again := b.apply(id, full); again.Baseline.Digest != first.Baseline.Digest || len(b.requests.writes()) != 1 {
				t.Errorf("applying again took %q and digest %s became %s", b.requests.writes(), first.Baseline.Digest, again.Baseline.Digest)
			}

			after := b.apply(id, b.configMap("c", `{a: "1"}`))
			data := child(b.get(RefOf(full)).Object, "data")
			want := map[string]any{"a": "1"}
			if name == "created by another tool" {
				want["foreign"] = "theirs" // is not ours to remove
			}
			if len(data) != len(want) || data["a"] != "1" || data["foreign"] != want["foreign"] {
				t.Errorf("data %v, want %v; managers %s", data, want, managers(after.Object))
			}
		})
	}
}

func (b *bed) create(obj *unstructured.Unstructured, manager string) {
	b.t.Helper()
	mapping, err := b.c.Mapping(b.t.Context(), obj.GroupVersionKind())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.c.resource(mapping, b.Namespace).Create(b.t.Context(), obj, metav1.CreateOptions{FieldManager: manager}); err != nil {
		b.t.Fatal(err)
	}
}

// Who deploys with Helm's client and hands over to us in the middle of a
// release history: env and sidecars that only Helm knew must go.
func TestHelmDeploymentIsTakenOver(t *testing.T) {
	b := newBed(t)
	theirs := b.manifest(strings.ReplaceAll(manifests["deployment"], "NAME", "app"))
	containers := items(theirs.Object, "spec", "template", "spec", "containers")
	containers[0]["env"] = append(containers[0]["env"].([]any), map[string]any{"name": "Z", "value": "stale"})
	spec := child(child(child(theirs.Object, "spec"), "template"), "spec")
	spec["containers"] = append(spec["containers"].([]any), map[string]any{"name": "sidecar", "image": "stale:1"})
	b.create(theirs, "helm")

	ours := b.manifest(strings.ReplaceAll(manifests["deployment"], "NAME", "app"))
	a := b.apply(releaseID("app"), ours)
	got, _ := json.Marshal(child(child(a.Object.Object, "spec"), "template"))
	if strings.Contains(string(got), "stale") || strings.Contains(string(got), "sidecar") || strings.Contains(managers(a.Object), "helm") {
		t.Errorf("left over: %s, managers %s", got, managers(a.Object))
	}
	conflicts := 0 // with the controller's status: apply and migration once more
	for _, w := range b.requests.writes() {
		if w == "PATCH 409" {
			conflicts++
		}
	}
	if len(b.requests.writes()) != 4+2*conflicts { // Helm's create, apply, migration, apply
		t.Errorf("took %q", b.requests.writes())
	}
}

func TestDigestIsStable(t *testing.T) {
	b := newBed(t)
	for kind, text := range manifests {
		id := releaseID("stable-" + kind)
		obj := b.manifest(strings.ReplaceAll(text, "NAME", "stable-"+kind))
		entry := b.own(id, obj)[0]
		if again := b.apply(id, obj).Baseline; again.Digest != entry.Baseline.Digest {
			t.Errorf("%s: digest %s became %s by applying again", kind, entry.Baseline.Digest, again.Digest)
		}
		// The watch sees the object through another encoding.
		state, err := b.c.Live(t.Context(), entry.Ref)
		if err != nil || state.Digest != entry.Baseline.Digest || state.UID != entry.Baseline.UID {
			t.Errorf("%s: watch shows %+v, %v; the response was %+v", kind, state, err, entry.Baseline)
		}
	}
	// Controllers write status, conditions, annotations, cluster IPs.
	id := releaseID("stable-deployment")
	b.event(id, causeHealth)
	if d := b.drifted(id); len(d) != 0 {
		t.Errorf("controllers moved the digest: %+v", d)
	}
}

func TestWritersAtTheSameTime(t *testing.T) {
	b := newBed(t)
	id := releaseID("race")
	b.apply(id, b.configMap("c", `{a: "0"}`))
	errs := make(chan error)
	for i := range 8 {
		go func() {
			obj := b.configMap("c", `{a: "`+string(rune('a'+i))+`"}`)
			b.c.Stamp(obj, id)
			_, err := b.c.Apply(t.Context(), obj)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil && reconcile.KindOf(err) != reconcile.Stale {
			t.Errorf("got %v", err)
		}
	}
	ref := Ref{GVK: b.configMap("c", "{}").GroupVersionKind(), Namespace: b.Namespace, Name: "c"}
	state, err := b.c.Live(t.Context(), ref)
	if live := b.get(ref); err != nil || state.Digest != digestOf(live.GetManagedFields(), b.c.Manager(), "") {
		t.Errorf("watch shows %+v, %v; live is %+v", state, err, baselineOf(live, b.c.Manager(), ""))
	}
}

func TestDelete(t *testing.T) {
	b := newBed(t)
	a := b.apply(releaseID("d"), b.configMap("c", `{a: "1"}`))
	ref := RefOf(a.Object)
	if err := b.c.Delete(t.Context(), ref, ""); reconcile.KindOf(err) != reconcile.Internal {
		t.Errorf("without uid: %v", err)
	}
	if err := b.c.Delete(t.Context(), ref, "11111111-2222-3333-4444-555555555555"); reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("another uid: %v", err)
	}
	if b.get(ref) == nil {
		t.Fatal("deleted with the wrong uid")
	}
	for range 2 { // the second time it is gone already
		if err := b.c.Delete(t.Context(), ref, a.Baseline.UID); err != nil {
			t.Error(err)
		}
	}
	if b.get(ref) != nil {
		t.Error("not deleted")
	}
}

func TestApplyErrors(t *testing.T) {
	b := newBed(t)
	for _, tt := range []struct {
		name, manifest string
		kind           reconcile.ErrorKind
		text           string
	}{
		{"unknown field", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {prots: []}}", reconcile.Invalid, "prots"},
		{"wrong type", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: s}, spec: {replicas: "2"}}`, reconcile.Invalid, "replicas"},
		{"bad value", `{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 99999, protocol: TCP}]}}`, reconcile.Invalid, "99999"},
		{"unknown kind", "{apiVersion: example.com/v1, kind: Thing, metadata: {name: s}}", reconcile.Invalid, "example.com/v1"},
		{"no namespace", "{apiVersion: v1, kind: ConfigMap, metadata: {name: s}}", reconcile.Invalid, "namespace"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			obj := parse(t, tt.manifest)
			if tt.name != "no namespace" {
				obj.SetNamespace(b.Namespace)
			}
			_, err := b.c.Apply(t.Context(), obj)
			var e *reconcile.Error
			if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(err.Error(), tt.text) || e.Object != RefOf(obj).String() {
				t.Errorf("got %v (%s), want %s with %q", err, reconcile.KindOf(err), tt.kind, tt.text)
			}
			if IsImmutable(err) {
				t.Error("taken for an immutable field")
			}
		})
	}

	job := func(image string) *unstructured.Unstructured {
		return b.manifest(`{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: "` + image + `"}]}}}}`)
	}
	b.apply(releaseID("job"), job("a:1"))
	_, err := b.c.Apply(t.Context(), job("a:2"))
	if reconcile.KindOf(err) != reconcile.Invalid || !IsImmutable(err) || !strings.Contains(err.Error(), "kubectl --context cluster-1 delete job j") {
		t.Errorf("immutable field: %v", err)
	}
	missing := b.configMap("c", "{}")
	missing.SetNamespace("does-not-exist")
	if _, err := b.c.Apply(t.Context(), missing); reconcile.KindOf(err) != reconcile.Unavailable {
		t.Errorf("missing namespace: %v", err)
	}
	secretObj := b.manifest(`{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {"c4n4ry": "not base64 c4n4ryvalue"}}`)
	if _, err := b.c.Apply(t.Context(), secretObj); reconcile.KindOf(err) != reconcile.Invalid || strings.Contains(err.Error(), "c4n4ryvalue") {
		t.Errorf("secret: %v", err)
	}
}

// What does not bear our label is in no watch: nobody waits for it there.
func TestUnmarkedObjectIsNotWaitedFor(t *testing.T) {
	b := newBed(t)
	if _, err := b.c.Apply(t.Context(), b.configMap("c", `{a: "1"}`)); err != nil {
		t.Fatal(err)
	}
	state, err := b.c.Live(t.Context(), RefOf(b.configMap("c", "{}")))
	if err != nil || state.Exists {
		t.Errorf("got %+v, %v", state, err)
	}
}
