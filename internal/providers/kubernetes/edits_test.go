package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/reconcile"
)

const (
	merge     = types.MergePatchType
	strategic = types.StrategicMergePatchType
	jsonPatch = types.JSONPatchType
	ssa       = types.ApplyPatchType
)

var manifests = map[string]string{
	"configmap": `
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, labels: {app: shop, app.kubernetes.io/name: shop}}
data: {a: "1", b: "2"}`,
	"secret": `
apiVersion: v1
kind: Secret
metadata: {name: NAME}
stringData: {password: hunter2, user: shop}`,
	"deployment": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers:
      - name: app
        image: shop:1
        resources: {requests: {cpu: "0.5", memory: 1.5Gi}}
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        ports: [{containerPort: 8080}]`,
	"autoscaled": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {containers: [{name: app, image: "shop:1"}]}`,
	"statefulset": `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: NAME}
spec:
  replicas: 1
  serviceName: NAME
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {containers: [{name: db, image: "db:1"}]}`,
	"service": `
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: 8080}]`,
	"role": `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: NAME}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]`,
	"networkpolicy": `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: NAME}
spec:
  podSelector: {}
  ingress: [{from: [{podSelector: {}}], ports: [{port: 80}, {port: 443}]}]`,
	"hpa": `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: NAME}
spec:
  minReplicas: 1
  maxReplicas: 3
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: NAME}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]`,
}

// TestEdits makes every edit of the catalogue by hand and looks whether it is
// seen, whether its reason is right, and whether one apply puts it back.
func TestEdits(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	group := b.customResource()
	manifests := maps.Clone(manifests)
	manifests["widget"] = `
apiVersion: ` + group + `/v1
kind: Widget
metadata: {name: NAME}
spec: {colour: red, tags: [a, b]}`
	remove := func(propagation metav1.DeletionPropagation) func(*bed, Ref) string {
		return func(b *bed, ref Ref) string {
			mapping, _ := b.c.Mapping(b.t.Context(), ref.GVK)
			err := b.c.resource(mapping, ref.Namespace).Delete(b.t.Context(), ref.Name, metav1.DeleteOptions{PropagationPolicy: &propagation})
			if err != nil {
				b.t.Fatal(err)
			}
			return ""
		}
	}
	patch := func(manager string, kind types.PatchType, patch string, sub ...string) func(*bed, Ref) string {
		return func(b *bed, ref Ref) string {
			p := strings.ReplaceAll(patch, "NAME", ref.Name)
			p = strings.ReplaceAll(p, "INSTANCE", b.Instance)
			return b.edit(ref, strings.ReplaceAll(manager, "INSTANCE", b.Instance), kind, p, sub...).GetResourceVersion()
		}
	}
	for _, tt := range []struct {
		name   string
		object string
		edit   func(*bed, Ref) string // resource version after, "" if it is gone
		code   reconcile.ReasonCode   // of the drift; empty: it is not to be seen
		reason reconcile.ReasonCode   // of the explanation; default: code
		writer string
		paths  []string
		change *reconcile.Change
	}{
		{
			name: "merge patch of an owned key", object: "configmap", code: "edited", writer: "kubectl-patch", paths: []string{"data.a"},
			edit: patch("kubectl-patch", merge, `{"data":{"a":"edited"}}`), change: &reconcile.Change{Path: "data.a", From: "edited", To: "1"},
		},
		{name: "replace", object: "configmap", code: "edited", writer: "kubectl-replace", paths: []string{"data.b"}, edit: func(b *bed, ref Ref) string {
			live := b.get(ref)
			if err := unstructured.SetNestedField(live.Object, "edited", "data", "b"); err != nil {
				b.t.Fatal(err)
			}
			mapping, _ := b.c.Mapping(b.t.Context(), ref.GVK)
			live, err := b.c.resource(mapping, ref.Namespace).Update(b.t.Context(), live, metav1.UpdateOptions{FieldManager: "kubectl-replace"})
			if err != nil {
				b.t.Fatal(err)
			}
			return live.GetResourceVersion()
		}},
		{
			name: "owned key removed", object: "configmap", code: "edited", paths: []string{"data.b"},
			edit: patch("kubectl-edit", merge, `{"data":{"b":null}}`), change: &reconcile.Change{Path: "data.b", From: "", To: "2"},
		},
		{
			name: "env set", object: "deployment", code: "edited", writer: "kubectl-set", paths: []string{`spec.template.spec.containers["app"].env["A"].value`},
			edit: patch("kubectl-set", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"A","value":"9"}]}]}}}}`),
		},
		{
			name: "image set", object: "deployment", code: "edited", writer: "kubectl-set", paths: []string{`spec.template.spec.containers["app"].image`},
			edit:   patch("kubectl-set", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop:2"}]}}}}`),
			change: &reconcile.Change{Path: `spec.template.spec.containers["app"].image`, From: "shop:2", To: "shop:1"},
		},
		{
			name: "env removed", object: "deployment", code: "edited", paths: []string{`spec.template.spec.containers["app"].env["B"]`},
			edit: patch("kubectl-edit", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"B","$patch":"delete"}]}]}}}}`),
		},
		{
			name: "scale of owned replicas", object: "deployment", code: "edited", writer: "kubectl", paths: []string{"spec.replicas"},
			edit: patch("kubectl", merge, `{"spec":{"replicas":5}}`, "scale"), change: &reconcile.Change{Path: "spec.replicas", From: "5", To: "2"},
		},
		{
			name: "scale of a StatefulSet", object: "statefulset", code: "edited", writer: "kubectl", paths: []string{"spec.replicas"},
			edit: patch("kubectl", merge, `{"spec":{"replicas":3}}`, "scale"),
		},
		{name: "scale of replicas we leave to an autoscaler", object: "autoscaled", edit: patch("kubectl", merge, `{"spec":{"replicas":4}}`, "scale")},
		{
			name: "owned label overwritten", object: "configmap", code: "edited", writer: "kubectl-label", paths: []string{`metadata.labels["app.kubernetes.io/name"]`},
			edit: patch("kubectl-label", merge, `{"metadata":{"labels":{"app.kubernetes.io/name":"other"}}}`),
		},
		{
			name: "role verbs", object: "role", code: "edited", writer: "kubectl-edit", paths: []string{"rules"},
			edit: patch("kubectl-edit", merge, `{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["*"]}]}`),
		},
		{
			name: "network policy's atomic list", object: "networkpolicy", code: "edited", writer: "kubectl-edit", paths: []string{"spec.ingress"},
			edit: patch("kubectl-edit", merge, `{"spec":{"ingress":[{}]}}`),
		},
		{
			name: "custom resource's atomic list", object: "widget", code: "edited", writer: "kubectl-edit", paths: []string{"spec.tags"},
			edit: patch("kubectl-edit", merge, `{"spec":{"tags":["a","b","c"]}}`), change: &reconcile.Change{Path: "spec.tags", From: `["a","b","c"]`, To: `["a","b"]`},
		},
		{
			name: "custom resource's field", object: "widget", code: "edited", writer: "kubectl-edit", paths: []string{"spec.colour"},
			edit: patch("kubectl-edit", merge, `{"spec":{"colour":"blue"}}`),
		},
		{
			name: "autoscaler's maximum", object: "hpa", code: "edited", writer: "kubectl-edit", paths: []string{"spec.maxReplicas"},
			edit: patch("kubectl-edit", merge, `{"spec":{"maxReplicas":30}}`),
		},
		{
			name: "service's target port", object: "service", code: "edited", writer: "kubectl-edit", paths: []string{`spec.ports["80"].targetPort`},
			edit: patch("kubectl-edit", strategic, `{"spec":{"ports":[{"port":80,"targetPort":9090}]}}`),
		},
		{
			name: "secret's value", object: "secret", code: "edited", writer: "kubectl-edit", paths: []string{"data.password"},
			edit: patch("kubectl-edit", merge, `{"stringData":{"password":"c4n4ry"}}`), change: &reconcile.Change{Path: "data.password"},
		},
		{
			name: "secret's key removed", object: "secret", code: "edited", paths: []string{"data.password"},
			edit: patch("kubectl-edit", merge, `{"data":{"password":null}}`), change: &reconcile.Change{Path: "data.password"},
		},

		{name: "foreign label and annotation", object: "configmap", edit: patch("kubectl-label", merge, `{"metadata":{"labels":{"team":"x"},"annotations":{"note":"y"}}}`)},
		{name: "foreign key in a ConfigMap", object: "configmap", edit: patch("kubectl-edit", merge, `{"data":{"c":"3"}}`)},
		{name: "foreign key in a Secret", object: "secret", edit: patch("kubectl-edit", merge, `{"stringData":{"extra":"3"}}`)},
		{
			// The API server takes no two ports of one name, and theirs stays.
			name: "port of a service renumbered", object: "service", code: "edited", writer: "kubectl-edit",
			edit: patch("kubectl-edit", jsonPatch, `[{"op":"replace","path":"/spec/ports/0/port","value":81}]`),
		},
		{name: "extra port of a service", object: "service", edit: patch("kubectl-edit", strategic, `{"spec":{"ports":[{"name":"more","port":81}]}}`)},
		{name: "extra env", object: "deployment", edit: patch("kubectl-set", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"C","value":"3"}]}]}}}}`)},
		{name: "finalizer", object: "configmap", edit: func(b *bed, ref Ref) string {
			rv := patch("kubectl-edit", merge, `{"metadata":{"finalizers":["test.forged.dev/hold"]}}`)(b, ref)
			b.t.Cleanup(func() { b.unhold(ref) })
			return rv
		}},
		{name: "rollout restart", object: "deployment", edit: patch("kubectl-rollout", strategic, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`)},
		{name: "custom resource's default that we do not set", object: "widget", edit: patch("kubectl-edit", merge, `{"spec":{"size":7}}`)},
		{name: "status", object: "widget", edit: patch("controller", merge, `{"status":{"phase":"Ready"}}`, "status")},
		{name: "an edit that changes nothing", object: "configmap", edit: patch("kubectl-edit", merge, `{"data":{"a":"1"}}`)},

		{
			name: "our label removed", object: "configmap", code: "edited", paths: []string{`metadata.labels["forged.dev/instance"]`},
			edit: patch("kubectl-label", merge, `{"metadata":{"labels":{"forged.dev/instance":null}}}`),
		},
		{name: "deleted", object: "configmap", code: "deleted", edit: remove(metav1.DeletePropagationBackground)},
		{name: "deleted, orphaning", object: "deployment", code: "deleted", edit: remove(metav1.DeletePropagationOrphan)},
		{name: "replaced by force", object: "configmap", code: "replaced", reason: "ownership", edit: func(b *bed, ref Ref) string {
			live := b.get(ref)
			remove(metav1.DeletePropagationBackground)(b, ref)
			live.SetUID("")
			live.SetResourceVersion("")
			live.SetManagedFields(nil)
			mapping, _ := b.c.Mapping(b.t.Context(), ref.GVK)
			live, err := b.c.resource(mapping, ref.Namespace).Create(b.t.Context(), live, metav1.CreateOptions{FieldManager: "kubectl-replace"})
			if err != nil {
				b.t.Fatal(err)
			}
			return live.GetResourceVersion()
		}},
		{
			name: "applied by another manager with force, other value", object: "configmap", code: "edited", writer: "rival", paths: []string{"data.a"},
			edit: patch("rival", ssa, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"data":{"a":"rival"}}`),
		},
		{
			name: "applied by another manager with force, same value", object: "configmap",
			edit: patch("rival", ssa, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"data":{"a":"1"}}`),
		},
		{
			name: "applied under our name, other value", object: "configmap", code: "edited", writer: "forged/INSTANCE", paths: []string{"data.a"},
			edit: func(b *bed, ref Ref) string {
				live := b.get(ref)
				data, _ := json.Marshal(map[string]any{
					"apiVersion": "v1", "kind": "ConfigMap",
					"metadata": map[string]any{"name": ref.Name, "labels": live.GetLabels(), "annotations": live.GetAnnotations()},
					"data":     map[string]any{"a": "impostor", "b": "2"},
				})
				// Times have a resolution of one second; see the blind spots.
				b.nextSecond(live)
				return b.edit(ref, b.c.Manager(), ssa, string(data)).GetResourceVersion()
			},
		},
		{
			name: "managedFields wiped by merge patch", object: "configmap", code: "edited", reason: "ownership",
			edit: patch("eraser", merge, `{"metadata":{"managedFields":[{}]}}`),
		},
		{
			name: "managedFields wiped by JSON patch", object: "deployment", code: "edited", reason: "ownership",
			edit: patch("eraser", jsonPatch, `[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]`),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := *b
			b.t = t
			name := "e" + strings.Trim(strings.Map(func(r rune) rune {
				if r >= 'a' && r <= 'z' {
					return r
				}
				return '-'
			}, strings.ToLower(tt.name)), "-")
			id := releaseID(name)
			obj := b.manifest(strings.ReplaceAll(manifests[tt.object], "NAME", name))
			entry := b.own(id, obj)[0]
			if d := b.drifted(id); len(d) != 0 {
				t.Fatalf("drifted right after the apply: %+v", d)
			}
			b.quiet(id, causeLive)

			rv := tt.edit(&b, entry.Ref)
			if tt.code == "" {
				b.seen(entry.Ref, rv)
				if d := b.drifted(id); len(d) != 0 {
					t.Fatalf("seen: %+v", d)
				}
				b.quiet(id, causeLive)
				if a := b.apply(id, obj); a.Baseline.Digest != entry.Baseline.Digest {
					t.Error("applying again moves the digest")
				}
				return
			}
			if e := b.event(id, causeLive); e.Object != entry.Ref.String() || e.At.IsZero() {
				t.Errorf("event %+v", e)
			}
			drifts := b.drifted(id)
			if len(drifts) != 1 || drifts[0].Code != tt.code {
				t.Fatalf("drifts %+v, want one that was %s", drifts, tt.code)
			}
			for drifts[0].State.Deleting {
				b.event(id, causeLive)
				drifts = b.drifted(id)
			}
			before := b.get(entry.Ref)
			stamped := obj.DeepCopy()
			b.c.Stamp(stamped, id)
			if _, err := b.c.DryRun(t.Context(), stamped); err != nil {
				t.Errorf("the heal cannot be foreseen: %v", err)
			}
			a := b.apply(id, obj)
			reason, changes := Explain(before, a.Object, b.c.Manager())
			want := tt.reason
			if want == "" {
				want = tt.code
			}
			if reason.Code != want {
				t.Errorf("reason %q (%s), want %q", reason.Code, reason, want)
			}
			if w := strings.ReplaceAll(tt.writer, "INSTANCE", b.Instance); w != "" && reason.Writer != w {
				t.Errorf("written by %q, want %q", reason.Writer, w)
			}
			if tt.paths != nil && !slices.Equal(reason.Paths, tt.paths) {
				t.Errorf("paths %q, want %q", reason.Paths, tt.paths)
			}
			if tt.change != nil && (len(changes) != 1 || changes[0] != *tt.change) {
				t.Errorf("changes %+v, want %+v", changes, *tt.change)
			}
			if text := fmt.Sprintf("%+v %+v", reason, changes); tt.object == "secret" && (strings.Contains(text, "c4n4ry") || strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMg")) {
				t.Errorf("a secret shows: %s", text)
			}
			entry.Baseline = a.Baseline
			b.inventory().Rebase(id, entry)
			if d := b.drifted(id); len(d) != 0 {
				t.Errorf("drifted after it was put back: %+v", d)
			}
		})
	}
}

// unhold takes off finalizers, so that the namespace can go.
func (b *bed) unhold(ref Ref) {
	mapping, err := b.c.mapper.RESTMapping(ref.GVK.GroupKind(), ref.GVK.Version)
	if err != nil {
		b.t.Error(err)
		return
	}
	ctx, cancel := contextForCleanup()
	defer cancel()
	_, err = b.c.resource(mapping, ref.Namespace).Patch(ctx, ref.Name, merge, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		b.t.Error(err)
	}
}
