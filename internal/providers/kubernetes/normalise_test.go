package kubernetes

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/reconcile"
)

func TestNormalise(t *testing.T) {
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: shop}\nspec: {template: {spec: {containers: [%s]}}}"
	container := func(s string) string { return strings.Replace(deployment, "%s", "{name: c, "+s+"}", 1) }
	pod := func(s string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {" + s + "}"
	}
	meta := func(s string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop" + s + "}"
	}
	for _, tt := range []struct {
		name, in, out string
		warn          string // part of the only warning
		err, hint     string
	}{
		{
			name: "secret's stringData", in: "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}",
			out: "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: Yg==}",
		},
		{
			name: "stringData wins over data", in: "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\ndata: {a: Yw==, d: ZA==}",
			out: "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: Yg==, d: ZA==}",
		},
		{name: "stringData that is no string", in: "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: yes}", err: "stringData.a is a boolean", hint: "quote"},
		{
			name: "container port's protocol", in: container("ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]"),
			out: container("ports: [{containerPort: 80, protocol: TCP}, {containerPort: 53, protocol: UDP}]"),
		},
		{
			name: "service port's protocol", in: "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}, {port: 53, protocol: UDP}]}",
			out: "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80, protocol: TCP}, {port: 53, protocol: UDP}]}",
		},
		{
			name: "duplicate env: the last counts", in: container(`env: [{name: A, value: "1"}, {name: B, value: "2"}, {name: A, value: "3"}]`),
			out: container(`env: [{name: B, value: "2"}, {name: A, value: "3"}]`), warn: `env lists "A" 2 times; the last is kept`,
		},
		{
			name: "duplicate port: the first counts", in: container("ports: [{name: a, containerPort: 80}, {name: b, containerPort: 80, protocol: TCP}]"),
			out: container("ports: [{name: a, containerPort: 80, protocol: TCP}]"), warn: `ports lists "80 TCP" 2 times`,
		},
		{name: "duplicate pull secret", in: pod("imagePullSecrets: [{name: a}, {name: a}]"), out: pod("imagePullSecrets: [{name: a}]"), warn: "imagePullSecrets"},
		{
			name: "duplicate host alias", in: pod("hostAliases: [{ip: 1.2.3.4, hostnames: [a]}, {ip: 1.2.3.4, hostnames: [b]}]"),
			out: pod("hostAliases: [{ip: 1.2.3.4, hostnames: [a]}]"), warn: "hostAliases",
		},
		{name: "two mounts at one path", in: container("volumeMounts: [{name: a, mountPath: /x}, {name: b, mountPath: /x}]"), err: "two volumes are mounted at /x"},
		{name: "two paths of one volume", in: container("volumeMounts: [{name: a, mountPath: /x}, {name: a, mountPath: /y}]"), out: container("volumeMounts: [{name: a, mountPath: /x}, {name: a, mountPath: /y}]")},
		{name: "nulls", in: container("command: null, securityContext: {runAsUser: null}"), out: container("securityContext: {}")},
		{name: "null in a map", in: meta("") + "\ndata: {a: null, b: c}", out: meta("") + "\ndata: {b: c}"},
		{name: "empty lists, maps and strings stay", in: container(`args: [], securityContext: {}, image: ""`), out: container(`args: [], securityContext: {}, image: ""`)},
		{name: "quantities stay as written", in: container(`resources: {requests: {cpu: "0.5"}}`), out: container(`resources: {requests: {cpu: "0.5"}}`)},
		{name: "status", in: meta("") + "\nstatus: {a: b}", out: meta("")},
		{name: "status of a custom resource stays", in: "apiVersion: example.com/v1\nkind: X\nmetadata: {name: x}\nstatus: {a: b}", out: "apiVersion: example.com/v1\nkind: X\nmetadata: {name: x}\nstatus: {a: b}"},
		{name: "times and counters", in: meta(", creationTimestamp: null, generation: 3, selfLink: x, deletionTimestamp: x"), out: meta("")},
		{
			name: "pod template's creationTimestamp", in: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {metadata: {creationTimestamp: '2020-01-01T00:00:00Z', labels: {a: b}}}}",
			out: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {metadata: {labels: {a: b}}}}",
		},
		{name: "managedFields", in: meta(", managedFields: [{manager: x}]"), out: meta("")},
		{name: "uid", in: meta(", uid: x"), out: meta(""), warn: "metadata.uid is left out"},
		{name: "resourceVersion", in: meta(`, resourceVersion: "3"`), out: meta(""), warn: "metadata.resourceVersion is left out"},
		{name: "last applied", in: meta(", annotations: {kubectl.kubernetes.io/last-applied-configuration: secret, a: b}"), out: meta(", annotations: {a: b}"), warn: "last-applied"},
		{name: "generateName alone", in: "apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}", err: "generateName", hint: "fixed name"},
		{name: "no name", in: "apiVersion: v1\nkind: Pod\nmetadata: {}", err: "no name"},
		{name: "no metadata", in: "apiVersion: v1\nkind: Pod", err: "no metadata"},
		{name: "no kind", in: "metadata: {name: x}", err: "no kind"},
		{name: "list", in: "apiVersion: v1\nkind: List\nitems: []\nmetadata: {name: x}", err: "list"},
		{name: "YAML 1.1 boolean in a label", in: meta(", labels: {a: yes}"), err: "metadata.labels.a is a boolean", hint: "quote"},
		{name: "number in an annotation", in: meta(", annotations: {a: 1}"), err: "metadata.annotations.a is a number", hint: "quote"},
		{name: "boolean in a ConfigMap", in: meta("") + "\ndata: {a: on}", err: "data.a is a boolean", hint: "quote"},
		{name: "number in env", in: container("env: [{name: A, value: 5}]"), err: "env A is a number", hint: "quote"},
		{
			name: "webhook's empty caBundle", in: "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {name: w}\nwebhooks: [{name: a, clientConfig: {caBundle: '', url: u}}, {name: b, clientConfig: {caBundle: Cg==}}, {name: c, clientConfig: {caBundle: YQ==}}]",
			out: "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {name: w}\nwebhooks: [{name: a, clientConfig: {url: u}}, {name: b, clientConfig: {}}, {name: c, clientConfig: {caBundle: YQ==}}]",
		},
		{name: "APIService's empty caBundle", in: "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: a}\nspec: {caBundle: ''}", out: "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: a}\nspec: {}"},
		{
			name: "CRD's empty caBundle and old default", in: "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c}\nspec: {preserveUnknownFields: false, conversion: {webhook: {clientConfig: {caBundle: ''}}}}\nstatus: {a: b}",
			out: "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c}\nspec: {conversion: {webhook: {clientConfig: {}}}}",
		},
		{name: "CRD that keeps unknown fields", in: "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c}\nspec: {preserveUnknownFields: true}", err: "preserveUnknownFields", hint: "x-kubernetes"},
		{
			name: "CronJob's pod", in: "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{ports: [{containerPort: 1}]}]}}}}}",
			out: "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{ports: [{containerPort: 1, protocol: TCP}]}]}}}}}",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			obj := yaml11(t, tt.in)
			warnings, err := Normalise(obj)
			if tt.err != "" {
				var e *reconcile.Error
				if !errors.As(err, &e) || e.Kind != reconcile.Invalid || !strings.Contains(e.Err.Error(), tt.err) || !strings.Contains(e.Hint, tt.hint) {
					t.Errorf("error %v, want one with %q and hint %q", err, tt.err, tt.hint)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(yaml11(t, tt.out).Object, obj.Object); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if tt.warn == "" && len(warnings) > 0 || tt.warn != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tt.warn)) {
				t.Errorf("warnings %q, want one with %q", warnings, tt.warn)
			}
			again := obj.DeepCopy()
			if warnings, err := Normalise(again); err != nil || len(warnings) > 0 || !cmp.Equal(again.Object, obj.Object) {
				t.Errorf("not the same the second time: %q, %v", warnings, err)
			}
		})
	}
}

// yaml11 reads YAML as charts' output is read, where yes is a boolean.
func yaml11(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	obj := &unstructured.Unstructured{}
	if err := json.Unmarshal(b, &obj.Object); err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestFlatten(t *testing.T) {
	list := yaml11(t, "{apiVersion: v1, kind: List, items: [{kind: A}, {kind: List, items: [{kind: B}]}, {apiVersion: v1, kind: CList, items: [{metadata: {name: c}}]}]}")
	flat, err := Flatten(list)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range flat {
		kinds = append(kinds, o.GetKind())
	}
	if strings.Join(kinds, " ") != "A B C" {
		t.Errorf("got %q", kinds)
	}
	for _, wrong := range []string{"5", "text", "null", "[]"} {
		if _, err := Flatten(yaml11(t, "{apiVersion: v1, kind: List, items: [{kind: A}, "+wrong+"]}")); err == nil || !strings.Contains(err.Error(), "item 2 of the List") {
			t.Errorf("an item %s: %v", wrong, err)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, m := range manifests {
		b, err := yaml.YAMLToJSON([]byte(m))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x"},"data":[],"stringData":5}`))
	f.Add([]byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","labels":null},"spec":{"containers":[null,{"env":[1,{"name":{}}]}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		obj := &unstructured.Unstructured{}
		if json.Unmarshal(b, &obj.Object) != nil || obj.Object == nil {
			return
		}
		if _, err := Normalise(obj); err != nil {
			return
		}
		once := obj.DeepCopy()
		if _, err := Normalise(obj); err != nil || !cmp.Equal(once.Object, obj.Object) {
			t.Errorf("not the same the second time: %v\n%s", err, cmp.Diff(once.Object, obj.Object))
		}
	})
}
