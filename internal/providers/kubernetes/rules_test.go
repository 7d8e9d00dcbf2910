package kubernetes

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// policy has rules hold for environment prod from now on.
func (b *bed) policy(ignore, strict []forge.FieldRule) {
	b.t.Helper()
	err := b.clusters.Rules(reconcile.Request{
		Resource: forge.Resource{ID: releaseID("x")},
		Policy:   forge.Policy{Ignore: ignore, Strict: strict},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func rule(kind, name string, fields ...string) []forge.FieldRule {
	return []forge.FieldRule{{Kind: kind, Name: name, Fields: fields}}
}

// heal applies an object again and notes its baseline, the way providers do.
func (b *bed) heal(id forge.ID, obj *unstructured.Unstructured) Applied {
	b.t.Helper()
	a := b.apply(id, obj)
	b.inventory().Rebase(id, Entry{Ref: RefOf(obj), Desired: "x", Baseline: a.Baseline})
	return a
}

// still fails if there is drift, or if looking for it changes anything.
func (b *bed) still(id forge.ID, when string) {
	b.t.Helper()
	b.requests.reset()
	if d := b.drifted(id); len(d) != 0 {
		b.t.Fatalf("%s: drifted: %+v", when, d)
	}
	if w := b.requests.writes(); len(w) != 0 {
		b.t.Fatalf("%s: looking wrote %q", when, w)
	}
}

func (b *bed) field(ref Ref, path string) string {
	b.t.Helper()
	p, err := parsePattern(path)
	if err != nil {
		b.t.Fatal(err)
	}
	var at any = b.get(ref).Object
	for _, q := range p {
		switch v := at.(type) {
		case map[string]any:
			at = v[q.name]
		case []any:
			i := slices.IndexFunc(v, func(item any) bool { return called(item, q.name) })
			if i < 0 {
				return ""
			}
			at = v[i]
		}
	}
	if at == nil {
		return ""
	}
	if s, ok := at.(string); ok {
		return s
	}
	out, _ := json.Marshal(at)
	return string(out)
}

const twoContainers = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: "shop:1", env: [{name: A, value: "1"}]}
      - {name: proxy, image: "proxy:1"}`

// A field that another tool writes (an image updater, an operator) is left to
// it: while it is compared and when it is applied.
func TestIgnoredFieldIsLeftToItsWriter(t *testing.T) {
	b := newBed(t)
	id := releaseID("ignored")
	b.policy(rule("Deployment", "web", `spec.template.spec.containers["app"].image`, "spec.replicas"), nil)
	obj := b.manifest(twoContainers)
	ref := RefOf(obj)
	b.own(id, obj)
	if got := b.field(ref, `spec.template.spec.containers["app"].image`); got != "shop:1" {
		t.Fatalf("a new object has image %q: what is ignored is set once", got)
	}
	b.still(id, "at first")

	live := b.edit(ref, "image-updater", strategic, `{"spec":{"replicas":5,"template":{"spec":{"containers":[{"name":"app","image":"shop:2"}]}}}}`)
	b.seen(ref, live.GetResourceVersion())
	b.quiet(id, causeLive)
	b.still(id, "after the other writer")

	// A rollout of something else.
	if err := unstructured.SetNestedField(obj.Object, "x", "metadata", "labels", "new"); err != nil {
		t.Fatal(err)
	}
	a := b.heal(id, obj)
	if image, replicas, label := b.field(ref, `spec.template.spec.containers["app"].image`), b.field(ref, "spec.replicas"), b.field(ref, "metadata.labels.new"); image != "shop:2" || replicas != "5" || label != "x" {
		t.Errorf("image %s, replicas %s, label %s", image, replicas, label)
	}
	if e := entryOf(a.Object.GetManagedFields(), b.c.Manager()); strings.Contains(e.FieldsV1.GetRawString(), "f:replicas") {
		t.Error("the field is held by us although another writer holds it")
	}
	b.still(id, "after the rollout")

	// The same field of another element is not ignored.
	b.edit(ref, "kubectl-edit", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"proxy","image":"proxy:9"}]}}}}`)
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 {
		t.Fatalf("drifts %+v", d)
	}
	before := b.get(ref)
	a = b.heal(id, obj)
	reason, _ := Explain(before, a.Object, b.c.Manager())
	if reason.Writer != "kubectl-edit" || len(reason.Paths) != 1 || reason.Paths[0] != `spec.template.spec.containers["proxy"].image` {
		t.Errorf("reason %+v", reason)
	}
	if image := b.field(ref, `spec.template.spec.containers["app"].image`); image != "shop:2" {
		t.Errorf("the heal put the ignored image back to %s", image)
	}

	b.restart()
	b.policy(rule("Deployment", "web", `spec.template.spec.containers["app"].image`, "spec.replicas"), nil)
	b.still(id, "after a restart")
}

// Leaving out a field that only we hold would take it away: its live value is
// sent instead.
func TestIgnoredFieldThatNobodyElseHoldsStays(t *testing.T) {
	b := newBed(t)
	id := releaseID("kept")
	b.own(id, b.configMap("c", `{a: "1", b: "1"}`))
	b.policy(rule("ConfigMap", "", "data.a"), nil)
	b.still(id, "with a new rule")
	obj := b.configMap("c", `{a: "2", b: "2"}`)
	b.heal(id, obj)
	if a, bb := b.field(RefOf(obj), "data.a"), b.field(RefOf(obj), "data.b"); a != "1" || bb != "2" {
		t.Errorf("a=%s b=%s", a, bb)
	}
	// Nor is it removed when the manifest drops it.
	obj = b.configMap("c", `{b: "3"}`)
	b.heal(id, obj)
	if a, bb := b.field(RefOf(obj), "data.a"), b.field(RefOf(obj), "data.b"); a != "1" || bb != "3" {
		t.Errorf("a=%s b=%s", a, bb)
	}
	b.still(id, "at the end")
}

// Rules change while objects stand: a new rule makes drift that it covers
// vanish without a write; a rule that is taken back has the field put back.
func TestRulesChange(t *testing.T) {
	b := newBed(t)
	id := releaseID("change")
	obj := b.configMap("c", `{a: "1", b: "1"}`)
	ref := RefOf(obj)
	b.own(id, obj)
	b.edit(ref, "kubectl-edit", merge, `{"data":{"a":"theirs"}}`)
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 {
		t.Fatalf("drifts %+v", d)
	}
	b.policy(rule("ConfigMap", "c", "data.a"), nil)
	b.still(id, "with the rule")
	b.still(id, "once more")
	if gets := b.requests.all(); len(gets) != 0 {
		t.Errorf("a settled rule costs %q", gets)
	}
	b.edit(ref, "kubectl-edit", merge, `{"data":{"b":"theirs"}}`)
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 {
		t.Fatalf("the rule hides other fields: %+v", d)
	}
	b.heal(id, obj)
	b.still(id, "after the heal")

	b.policy(nil, nil)
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
		t.Fatalf("without the rule: %+v", d)
	}
	b.heal(id, obj)
	if got := b.field(ref, "data.a"); got != "1" {
		t.Errorf("a=%s", got)
	}
	b.still(id, "at the end")
}

// The marks by which we find an object again cannot be ignored away.
func TestOurMarksCannotBeIgnored(t *testing.T) {
	b := newBed(t)
	id := releaseID("marks")
	b.policy(rule("ConfigMap", "", "metadata.labels", "metadata.annotations"), nil)
	obj := b.configMap("c", `{a: "1"}`)
	ref := RefOf(obj)
	b.own(id, obj)
	live := b.edit(ref, "kubectl-label", merge, `{"metadata":{"labels":{"team":"x"}}}`)
	b.seen(ref, live.GetResourceVersion())
	b.still(id, "after a foreign label")
	b.edit(ref, "kubectl-label", merge, `{"metadata":{"labels":{"forged.dev/instance":null}}}`)
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 {
		t.Fatalf("drifts %+v", d)
	}
	b.heal(id, obj)
	if live := b.get(ref); live.GetLabels()[LabelInstance] != b.Instance || live.GetLabels()["team"] != "x" {
		t.Errorf("labels %v", live.GetLabels())
	}
	b.still(id, "at the end")
}

// Where nobody else may add anything, what was added is drift, with the name
// of who did it, and is taken away again.
func TestStrictFields(t *testing.T) {
	b := newBed(t)
	id := releaseID("strict")
	obj := b.manifest(twoContainers)
	ref := RefOf(obj)
	b.own(id, obj)
	env := b.edit(ref, "kubectl-set", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"C","value":"3"}]}]}}}}`)
	b.seen(ref, env.GetResourceVersion())
	b.still(id, "without a strict path")

	b.policy(nil, rule("Deployment", "", "spec.template.spec.containers", "metadata.annotations"))
	put := func(writer string, paths ...string) {
		t.Helper()
		if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
			t.Fatalf("drifts %+v", d)
		}
		stamped := obj.DeepCopy()
		b.c.Stamp(stamped, id)
		foreseen, err := b.c.DryRun(t.Context(), stamped)
		if err != nil {
			t.Fatal(err)
		}
		before := b.get(ref)
		a := b.heal(id, obj)
		for what, after := range map[string]*unstructured.Unstructured{"foreseen": foreseen, "done": a.Object} {
			reason, changes := Explain(before, after, b.c.Manager())
			if reason.Code != reconcile.ReasonEdited || reason.Writer != writer || !slices.Equal(reason.Paths, paths) {
				t.Errorf("%s: %s by %q at %q (%+v), want %q at %q", what, reason.Code, reason.Writer, reason.Paths, changes, writer, paths)
			}
		}
		b.still(id, "after it was put back")
	}
	put("kubectl-set", `spec.template.spec.containers["app"].env["C"]`)
	if got := b.field(ref, `spec.template.spec.containers["app"].env`); got != `[{"name":"A","value":"1"}]` {
		t.Errorf("env %s", got)
	}

	b.edit(ref, "injector", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"sidecar","image":"spy:1"}]}}}}`)
	b.event(id, causeLive)
	put("injector", `spec.template.spec.containers["sidecar"]`)
	if got := b.field(ref, `spec.template.spec.containers["sidecar"]`); got != "" {
		t.Errorf("the sidecar is still there: %s", got)
	}

	b.edit(ref, "rival", ssa, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","annotations":{"note":"x"}}}`)
	b.event(id, causeLive)
	put("rival", "metadata.annotations.note")

	// What is not strict may be added to.
	live := b.edit(ref, "kubectl-label", merge, `{"metadata":{"labels":{"team":"x"}}}`)
	b.seen(ref, live.GetResourceVersion())
	b.still(id, "after a foreign label")
	b.requests.reset()
	b.heal(id, obj)
	if w := b.requests.writes(); len(w) != 1 {
		t.Errorf("an apply with nothing to take away took %q", w)
	}
	b.restart()
	b.policy(nil, rule("Deployment", "", "spec.template.spec.containers", "metadata.annotations"))
	b.still(id, "after a restart")
}

// A list without keys belongs to one writer as a whole. What is ignored inside
// of it keeps its live value, and the rest is still applied.
func TestIgnoredInsideAnAtomicList(t *testing.T) {
	b := newBed(t)
	id := releaseID("atomic")
	b.policy(rule("Ingress", "", "spec.rules[0].host"), nil)
	ingress := func(host, path string) *unstructured.Unstructured {
		return b.manifest(strings.NewReplacer("HOST", host, "PATH", path).Replace(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: HOST
    http: {paths: [{path: PATH, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}`))
	}
	obj := ingress("a.example", "/")
	ref := RefOf(obj)
	b.own(id, obj)
	live := b.edit(ref, "kubectl-edit", jsonPatch, `[{"op":"replace","path":"/spec/rules/0/host","value":"theirs.example"}]`)
	b.seen(ref, live.GetResourceVersion())
	b.still(id, "after the edit")
	b.heal(id, ingress("b.example", "/new"))
	got, _, _ := unstructured.NestedSlice(b.get(ref).Object, "spec", "rules")
	if text := string(mustJSON(t, got)); !strings.Contains(text, "theirs.example") || !strings.Contains(text, `"/new"`) {
		t.Errorf("rules %s", text)
	}
	b.still(id, "at the end")
}

// As long as nobody may put an object back, every look at it explains the same
// difference. That is found out once for each version.
func TestExplanationIsRemembered(t *testing.T) {
	b := newBed(t)
	id := releaseID("explained")
	obj := b.configMap("c", `{a: "1"}`)
	ref := RefOf(obj)
	b.own(id, obj)
	b.c.Stamp(obj, id)
	b.edit(ref, "kubectl-edit", merge, `{"data":{"a":"2"}}`)
	b.event(id, causeLive)
	look := func() (reconcile.Reason, int) {
		t.Helper()
		d := b.drifted(id)
		if len(d) != 1 {
			t.Fatalf("drifts %+v", d)
		}
		b.requests.reset()
		reason, changes, err := b.c.explainDesired(t.Context(), d[0], obj)
		if err != nil || len(changes) != 1 {
			t.Fatalf("changes %+v, %v", changes, err)
		}
		return reason, len(b.requests.all())
	}
	first, cost := look()
	if cost != 1 || first.Writer != "kubectl-edit" {
		t.Errorf("%d requests, reason %+v", cost, first)
	}
	if again, cost := look(); cost != 0 || again.String() != first.String() {
		t.Errorf("again: %d requests, reason %+v", cost, again)
	}
	live := b.edit(ref, "kubectl-patch", merge, `{"data":{"a":"3"}}`)
	b.seen(ref, live.GetResourceVersion())
	if next, cost := look(); cost != 1 || next.Writer != "kubectl-patch" {
		t.Errorf("another version: %d requests, reason %+v", cost, next)
	}
}
