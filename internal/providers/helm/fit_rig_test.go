package helm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// table is a small table of rules: probes are taken out of pods, and from
// version 2 on grace periods; there are no NetworkPolicies; a DaemonSet cannot
// be had, unless T001 allows it. All that was changed is marked, Secrets and
// ConfigMaps of hooks always.
type table struct{ version string }

const mark = "test.forged.dev/fitted"

func (f *table) Fit(_ context.Context, _ *kubernetes.Cluster, rules forge.Rules, objects []*unstructured.Unstructured) (kubernetes.Fitted, error) {
	out := kubernetes.Fitted{Digest: f.version + strings.Join(rules.Allow, " ")}
	var refused []string
	for _, o := range objects {
		o = o.DeepCopy()
		name := kubernetes.RefOf(o).String()
		changed := false
		switch o.GetKind() {
		case "NetworkPolicy":
			out.Notices = append(out.Notices, reconcile.Notice{Code: "unsupported", Object: name, Message: "nothing here isolates pods"})
			out.Changes = append(out.Changes, reconcile.Change{Path: name, From: "wanted"})
			continue
		case "DaemonSet":
			if !slices.Contains(rules.Allow, "T001") {
				refused = append(refused, name+" cannot be had (T001)")
			}
		case "Secret":
			token, _, _ := unstructured.NestedString(o.Object, "stringData", "token")
			out.Changes = append(out.Changes, reconcile.Change{Path: name + ": stringData.token", From: token, To: token})
			changed = true
		case "ConfigMap":
			changed = o.GetAnnotations()["helm.sh/hook"] != ""
		}
		for _, path := range [][]string{{"spec", "template", "spec"}, {"spec"}} {
			pod, ok, _ := unstructured.NestedMap(o.Object, path...)
			list, some, _ := unstructured.NestedSlice(pod, "containers")
			if !ok || !some {
				continue
			}
			for _, c := range list {
				if m := c.(map[string]any); m["livenessProbe"] != nil {
					delete(m, "livenessProbe")
					out.Changes = append(out.Changes, reconcile.Change{Path: name + ": livenessProbe", From: "httpGet"})
					changed = true
				}
			}
			pod["containers"] = list
			if f.version >= "2" && pod["terminationGracePeriodSeconds"] != nil {
				delete(pod, "terminationGracePeriodSeconds")
				changed = true
			}
			if err := unstructured.SetNestedField(o.Object, pod, path...); err != nil {
				return out, err
			}
		}
		if changed {
			notes := o.GetAnnotations()
			if notes == nil {
				notes = map[string]string{}
			}
			notes[mark] = "yes"
			o.SetAnnotations(notes)
		}
		out.Objects = append(out.Objects, o)
	}
	if len(refused) > 0 {
		return kubernetes.Fitted{}, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "fit", Err: fmt.Errorf("the cluster cannot run it: %s", strings.Join(refused, "; ")), Hint: "allow T001",
		}
	}
	return out, nil
}

// probed needs fitting, and so do its hook and its list.
const probed = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: probed}
spec:
  selector: {matchLabels: {app: probed}}
  template:
    metadata: {labels: {app: probed}}
    spec:
      terminationGracePeriodSeconds: 7
      containers:
      - {name: c, image: "registry.example/web:1.0.0", livenessProbe: {httpGet: {path: /, port: 80}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none}
spec: {podSelector: {}}
---
# as a person has written it
apiVersion: v1
kind: ConfigMap
metadata: {name: kept}
data: {k: v}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: listed}, data: {k: v}}
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: none-either}, spec: {podSelector: {}}}
`

const daemonSet = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec: {containers: [{name: c, image: "registry.example/web:1.0.0"}]}
`

// newFittedRig is a rig whose release is fitted by a table.
func newFittedRig(t *testing.T, files map[string]string) (*rig, *table) {
	t.Helper()
	r, f := newRig(t), &table{version: "1"}
	r.fitter, r.rules = f, forge.Rules{Table: "test"}
	r.with(files)
	r.restart()
	return r, f
}

func (r *rig) notices() []reconcile.Notice {
	r.t.Helper()
	o, err := r.p.Observe(r.t.Context(), r.request())
	if err != nil {
		r.t.Fatal(err)
	}
	return o.Notices
}

func (r *rig) asExplained() reconcile.Request {
	req := r.request()
	req.Explain = true
	return req
}

// unsupported is what Fly Kubernetes does not do, all in one chart: far from
// all of it can be fitted.
func unsupported() map[string]string {
	pod := func(spec string) string {
		return "spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: " + spec + "}}\n"
	}
	const c = `{name: c, image: i}`
	files := map[string]string{}
	for name, text := range map[string]string{
		"daemon":  "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}\n" + pod("{containers: ["+c+"]}"),
		"sidecar": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: two}\n" + pod("{containers: ["+c+", {name: d, image: i}]}"),
		"init":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: init}\n" + pod("{initContainers: [{name: d, image: i}], containers: ["+c+"]}"),
		"host":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: host}\n" + pod("{hostNetwork: true, volumes: [{name: v, hostPath: {path: /}}], containers: ["+c+"]}"),
		"cron":    "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec: {schedule: '@daily', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [" + c + "]}}}}}\n",
		"claim":   "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: shared}\nspec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Ti}}}\n",
		"policy":  "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: none}\nspec: {podSelector: {}}\n",
		"scaler":  "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: two}\nspec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: two}}\n",
		"udp":     "apiVersion: v1\nkind: Service\nmetadata: {name: dns}\nspec: {selector: {app: a}, ports: [{port: 53, protocol: UDP}]}\n",
		"paths": `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: two}
spec:
  rules:
  - {host: a.example.com, http: {paths: [{path: /a, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}, {path: /b, pathType: Prefix, backend: {service: {name: dns, port: {number: 80}}}}]}}
`,
		"hook": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: before, annotations: {helm.sh/hook: pre-install}}\nspec: {template: {spec: {restartPolicy: Never, initContainers: [{name: d, image: i}], containers: [" + c + "]}}}\n",
	} {
		files["templates/"+name+".yaml"] = text
	}
	return files
}
