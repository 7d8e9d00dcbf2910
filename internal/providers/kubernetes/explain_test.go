package kubernetes

import (
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/reconcile"
)

const us = "forged/test"

// fields writes a managedFields list: "manager operation time fieldsV1" each.
func managedObject(t *testing.T, body string, entries ...string) string {
	t.Helper()
	var fields []string
	for _, e := range entries {
		p := strings.SplitN(e, " ", 4)
		at := ""
		if p[2] != "-" {
			at = `time: "2026-01-02T03:04:` + p[2] + `Z", `
		}
		sub := ""
		if name, subresource, ok := strings.Cut(p[0], "@"); ok {
			p[0], sub = name, "subresource: "+subresource+", "
		}
		fields = append(fields, `{manager: `+p[0]+`, operation: `+p[1]+`, `+at+sub+`apiVersion: v1, fieldsType: FieldsV1, fieldsV1: `+p[3]+`}`)
	}
	return strings.Replace(body, "MANAGED", "managedFields: ["+strings.Join(fields, ", ")+"]", 1)
}

func diff(path, from, to string) reconcile.Change {
	return reconcile.Change{Path: path, From: from, To: to}
}

func TestExplain(t *testing.T) {
	const (
		cm    = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: shop, uid: u, MANAGED}, data: "
		dep   = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: shop, uid: u, MANAGED}, spec: {template: {spec: {containers: "
		sec   = "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: shop, uid: u, MANAGED}, data: "
		ours  = us + ` Apply 01 {"f:data":{"f:a":{},"f:b":{}}}`
		image = us + ` Apply 01 {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:name":{},"f:image":{}}}}}}}`
		ports = us + ` Apply 01 {"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:targetPort":{}}}}}`
		svc   = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop, uid: u, MANAGED}, spec: {ports: "
		final = us + ` Apply 01 {"f:metadata":{"f:finalizers":{"v:\"a/b\"":{}},"f:labels":{"f:a.b/c":{}}}}`
		meta  = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, uid: u, MANAGED, "
	)
	for _, tt := range []struct {
		name          string
		before, after string
		code          reconcile.ReasonCode
		writer        string
		at            int // seconds; 0: no time
		text          string
		changes       []reconcile.Change
	}{
		{
			name: "value", before: managedObject(t, cm+`{a: "9", b: "2"}}`, us+` Apply 01 {"f:data":{"f:b":{}}}`, `editor Update 07 {"f:data":{"f:a":{}}}`),
			after: managedObject(t, cm+`{a: "1", b: "2"}}`, ours), code: "edited", writer: "editor", at: 7, changes: []reconcile.Change{{Path: "data.a", From: "9", To: "1"}},
		},
		{
			name: "two values, the later writer", before: managedObject(t, cm+`{a: "9", b: "9"}}`, `early Update 03 {"f:data":{"f:a":{}}}`, `late Update 08 {"f:data":{"f:b":{}}}`),
			after: managedObject(t, cm+`{a: "1", b: "2"}}`, ours), code: "edited", writer: "late", at: 8, changes: []reconcile.Change{diff("data.a", "9", "1"), diff("data.b", "9", "2")},
		},
		{
			name: "removed: who wrote last", before: managedObject(t, cm+`{a: "1"}}`, us+` Apply 01 {"f:data":{"f:a":{}}}`, `editor Update 07 {"f:data":{".":{}}}`, `kcm@status Update 09 {"f:status":{}}`),
			after: managedObject(t, cm+`{a: "1", b: "2"}}`, ours), code: "edited", writer: "editor", at: 7, changes: []reconcile.Change{{Path: "data.b", To: "2"}},
		},
		{
			name: "values as desired, ownership lost", before: managedObject(t, cm+`{a: "1", b: "2"}}`, `eraser Update - {"f:data":{"f:a":{},"f:b":{}}}`),
			after: managedObject(t, cm+`{a: "1", b: "2"}}`, ours), code: "ownership", writer: "eraser", text: "as desired",
		},
		{
			name: "under our own name", before: managedObject(t, cm+`{a: "9", b: "2", c: "3"}}`, us+` Apply 07 {"f:data":{"f:a":{},"f:b":{},"f:c":{}}}`),
			after: managedObject(t, cm+`{a: "1", b: "2"}}`, ours), code: "edited", writer: us, at: 7, changes: []reconcile.Change{diff("data.a", "9", "1"), diff("data.c", "3", "")},
		},
		{
			name: "a whole container", before: managedObject(t, dep+`[{name: side}]}}}}`, `editor Update 07 {"f:spec":{"f:template":{}}}`),
			after: managedObject(t, dep+`[{name: side}, {name: app, image: "x:1"}]}}}}`, image), code: "edited", writer: "editor", at: 7,
			changes: []reconcile.Change{{Path: `spec.template.spec.containers["app"]`, To: `{"image":"x:1","name":"app"}`}},
		},
		{
			name: "a port found by number", before: managedObject(t, svc+`[{port: 80, protocol: TCP, targetPort: 9}]}}`, `editor Update 07 {"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{"f:targetPort":{}}}}}`),
			after: managedObject(t, svc+`[{port: 80, protocol: TCP, targetPort: 8}]}}`, ports), code: "edited", writer: "editor", at: 7,
			changes: []reconcile.Change{diff(`spec.ports["80"].targetPort`, "9", "8")},
		},
		{
			name: "a subresource", before: managedObject(t, cm+`{a: "9", b: "2"}}`, `kubectl@scale Update - {"f:data":{"f:a":{}}}`),
			after: managedObject(t, cm+`{a: "1", b: "2"}}`, ours), code: "edited", writer: "kubectl", text: "scale subresource", changes: []reconcile.Change{diff("data.a", "9", "1")},
		},
		{
			name: "names with dots, members of sets", before: managedObject(t, meta+`labels: {a.b/c: x}}}`, `editor Update 07 {"f:metadata":{"f:labels":{"f:a.b/c":{}}}}`),
			after: managedObject(t, meta+`labels: {a.b/c: z}, finalizers: [a/b]}}`, final), code: "edited", writer: "editor", at: 7,
			changes: []reconcile.Change{{Path: "metadata.finalizers", To: `["a/b"]`}, diff(`metadata.labels["a.b/c"]`, "x", "z")},
		},
		{
			name: "a secret's values", before: managedObject(t, sec+`{a: YzRuNHJ5, b: eA==}}`, `editor Update 07 {"f:data":{"f:a":{}}}`),
			after: managedObject(t, sec+`{a: aHVudGVyMg==, b: eA==}}`, ours), code: "edited", writer: "editor", at: 7, changes: []reconcile.Change{{Path: "data.a"}},
		},
		{
			name: "a secret without data", before: managedObject(t, strings.Replace(sec, ", data: ", "}", 1), `editor Update 07 {"f:type":{}}`),
			after: managedObject(t, sec+`{a: aHVudGVyMg==, b: eA==}}`, ours), code: "edited", writer: "editor", at: 7, changes: []reconcile.Change{{Path: "data"}},
		},
		{
			name: "long values", before: managedObject(t, cm+`{a: "1", b: "2"}}`, `editor Update 07 {"f:data":{"f:a":{}}}`),
			after: managedObject(t, cm+`{a: "`+strings.Repeat("ä", 200)+`", b: "2"}}`, ours), code: "edited", writer: "editor", at: 7, changes: []reconcile.Change{diff("data.a", "1", strings.Repeat("ä", 100)+"…")},
		},
		{
			name: "fields that cannot be read", before: managedObject(t, cm+`{a: "9", b: "2"}}`, us+` Apply 01 {"nonsense":{}}`),
			after: managedObject(t, cm+`{a: "1", b: "2"}}`, ours), code: "edited", changes: []reconcile.Change{diff("data.a", "9", "1")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reason, changes := Explain(parse(t, tt.before), parse(t, tt.after), us)
			if reason.Code != tt.code || reason.Writer != tt.writer || !strings.Contains(reason.Text, tt.text) {
				t.Errorf("reason %+v, want %s by %q (%s)", reason, tt.code, tt.writer, tt.text)
			}
			var at time.Time
			if tt.at > 0 {
				at = time.Date(2026, 1, 2, 3, 4, tt.at, 0, time.UTC)
			}
			if !reason.At.Equal(at) {
				t.Errorf("at %s, want %s", reason.At, at)
			}
			if !slices.Equal(changes, tt.changes) {
				t.Errorf("changes\n%+v, want\n%+v", changes, tt.changes)
			}
			var paths []string
			for _, c := range tt.changes {
				paths = append(paths, c.Path)
			}
			if !slices.Equal(reason.Paths, paths) {
				t.Errorf("paths %q, want %q", reason.Paths, paths)
			}
		})
	}
	live := parse(t, managedObject(t, cm+`{a: "1", b: "2"}}`, ours))
	if r, _ := Explain(nil, live, us); r.Code != reconcile.ReasonDeleted {
		t.Errorf("gone: %s", r)
	}
	other := live.DeepCopy()
	other.SetUID("v")
	if r, _ := Explain(other, live, us); r.Code != reconcile.ReasonReplaced {
		t.Errorf("another object: %s", r)
	}
}

func TestDigestIsOfFieldsAndTime(t *testing.T) {
	const body = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, MANAGED}}"
	digest := func(entries ...string) string {
		return digestOf(parse(t, managedObject(t, body, entries...)).GetManagedFields(), us, "")
	}
	base := digest(us + ` Apply 01 {"f:data":{"f:a":{},"f:b":{}}}`)
	for name, tt := range map[string]struct {
		same  bool
		other string
	}{
		"order of keys":             {true, digest(us + ` Apply 01 {"f:data":{"f:b":{},"f:a":{}}}`)},
		"other managers":            {true, digest(`x Update 05 {"f:data":{"f:c":{}}}`, us+` Apply 01 {"f:data":{"f:a":{},"f:b":{}}}`, us+` Update 05 {"f:x":{}}`, us+`@status Apply 05 {"f:x":{}}`)},
		"another field":             {false, digest(us + ` Apply 01 {"f:data":{"f:a":{},"f:c":{}}}`)},
		"another time":              {false, digest(us + ` Apply 02 {"f:data":{"f:a":{},"f:b":{}}}`)},
		"no time":                   {false, digest(us + ` Apply - {"f:data":{"f:a":{},"f:b":{}}}`)},
		"no entry":                  {false, digest()},
		"an entry of another kind":  {false, digest(us + ` Update 01 {"f:data":{"f:a":{},"f:b":{}}}`)},
		"an entry of another forge": {false, digest(us + `2 Apply 01 {"f:data":{"f:a":{},"f:b":{}}}`)},
	} {
		if (tt.other == base) != tt.same {
			t.Errorf("%s: %s and %s", name, base, tt.other)
		}
	}
	if digest() != noEntry {
		t.Errorf("no entry is %q", digest())
	}
}
