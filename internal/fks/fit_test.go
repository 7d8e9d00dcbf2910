package fks_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"forged.dev/forged/internal/fks"
)

// breaking is what breaks a rule.
func breaking(t testing.TB, id string) string {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "rules", id+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	return string(archive.Files[0].Data)
}

// What a cluster turns out to have makes the rules void that say it has not,
// and no others.
func TestCapabilities(t *testing.T) {
	has := map[string]fks.Capabilities{ // by the rules that something voids
		"FKS101": {IngressClasses: []string{"edge"}},
		"FKS102": {IngressClasses: []string{"edge"}},
		"FKS103": {IngressClasses: []string{"edge"}},
		"FKS104": {APIGroups: []string{"gateway.networking.k8s.io"}},
		"FKS106": {APIGroups: []string{"metrics.k8s.io"}},
		"FKS107": {APIGroups: []string{"metrics.k8s.io"}},
		"FKS108": {APIGroups: []string{"metrics.k8s.io"}},
		"FKS118": {APIGroups: []string{"cert-manager.io"}},
		"FKS501": {StorageClasses: []string{"fast"}},
		"FKS502": {StorageClasses: []string{"gp3"}},
	}
	all := fks.Capabilities{}
	for _, c := range has {
		all.APIGroups = append(all.APIGroups, c.APIGroups...)
		all.StorageClasses = append(all.StorageClasses, c.StorageClasses...)
		all.IngressClasses = append(all.IngressClasses, c.IngressClasses...)
	}
	for _, r := range fks.Rules() {
		t.Run(r.ID, func(t *testing.T) {
			given := objects(t, breaking(t, r.ID))
			found := func(c fks.Capabilities) bool {
				_, findings := fks.Fit(given, fks.Options{Capabilities: c})
				return slices.ContainsFunc(findings, func(f fks.Finding) bool { return f.Rule == r.ID })
			}
			c, void := has[r.ID]
			if void != (r.Unless != fks.Capability{}) {
				t.Fatalf("the table says %+v", r.Unless)
			}
			if void && found(c) {
				t.Errorf("it holds although the cluster has %+v", c)
			}
			if !void && !found(all) {
				t.Errorf("it does not hold, and nothing can void it")
			}
			if !found(fks.Capabilities{APIGroups: []string{"apps"}, StorageClasses: []string{"flyio-volume"}}) {
				t.Errorf("it does not hold, although the cluster has nothing more than usual")
			}
		})
	}
}

// An Ingress of a class that the cluster does not have is not served by another.
func TestIngressOfAnotherClass(t *testing.T) {
	given := objects(t, breaking(t, "FKS102"))
	if err := unstructured.SetNestedField(given[2].Object, "internal", "spec", "ingressClassName"); err != nil {
		t.Fatal(err)
	}
	_, findings := fks.Fit(given, fks.Options{Capabilities: fks.Capabilities{IngressClasses: []string{"edge"}}})
	if !has(findings, "FKS102") {
		t.Errorf("%s", told(findings))
	}
}

// An Ingress is not turned into a Service where that would let in more than it
// does, or lead elsewhere.
func TestIngressThatStays(t *testing.T) {
	const head = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web"
	const backend = "{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 8000}}}}"
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: 8000}]\n"
	host := func(hosts ...string) string {
		text := ", namespace: shop}\nspec:\n  rules:\n"
		for _, h := range hosts {
			text += "    - {host: " + h + ", http: {paths: [" + backend + "]}}\n"
		}
		return text
	}
	inShop := strings.Replace(service, "name: web", "name: web, namespace: shop", 1)
	for name, text := range map[string]string{
		"no Service of that name":      head + host("a.example.com"),
		"it is in another namespace":   strings.Replace(service, "name: web", "name: web, namespace: other", 1) + "---\n" + head + host("a.example.com"),
		"another port of it is public": strings.Replace(inShop, "{port: 8000}", "{name: a, port: 8000}, {name: metrics, port: 9000}", 1) + "---\n" + head + host("a.example.com"),
		"two hosts":                    inShop + "---\n" + head + host("a.example.com", "b.example.com"),
		"two Ingresses":                inShop + "---\n" + head + host("a.example.com") + "---\n" + strings.Replace(head, "web", "web2", 1) + host("b.example.com"),
		"a part of the paths":          inShop + "---\n" + head + strings.Replace(host("a.example.com"), "path: /,", "path: /api,", 1),
		"it asks who it is":            inShop + "---\n" + head + ", annotations: {nginx.ingress.kubernetes.io/auth-url: x}" + host("a.example.com"),
		"it lets some in":              inShop + "---\n" + head + ", annotations: {nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8}" + host("a.example.com"),
		"without an address":           strings.Replace(inShop, "spec:\n", "spec:\n  clusterIP: None\n", 1) + "---\n" + head + host("a.example.com"),
		"UDP":                          strings.Replace(inShop, "port: 8000", "port: 8000, protocol: UDP", 1) + "---\n" + head + host("a.example.com"),
		"a backend of another kind":    inShop + "---\n" + head + ", namespace: shop}\nspec: {defaultBackend: {resource: {kind: Bucket, name: x}}}\n",
		"nothing":                      inShop + "---\n" + head + ", namespace: shop}\nspec: {rules: [{host: a}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			out, findings := fks.Fit(objects(t, text), fks.Options{})
			if has(findings, "FKS101") || !has(findings, "FKS102") {
				t.Errorf("it is not refused:\n%s", told(findings))
			}
			if strings.Contains(written(t, out), "LoadBalancer") {
				t.Errorf("it is exposed all the same:\n%s", written(t, out))
			}
		})
	}
	out, findings := fks.Fit(objects(t, inShop+"---\n"+head+host("a.example.com")), fks.Options{})
	if !has(findings, "FKS101") || len(out) != 1 {
		t.Errorf("the plain one is refused:\n%s", told(findings))
	}
}

// Objects of one namespace are not matched with those of another; what says no
// namespace is in that of the options.
func TestNamespaces(t *testing.T) {
	text := strings.Replace(breaking(t, "FKS106"), "kind: HorizontalPodAutoscaler\nmetadata:\n", "kind: HorizontalPodAutoscaler\nmetadata:\n  namespace: shop\n", 1)
	for namespace, want := range map[string]bool{"shop": true, "other": false, "": false} {
		if _, findings := fks.Fit(objects(t, text), fks.Options{Namespace: namespace}); has(findings, "FKS106") != want {
			t.Errorf("in %q:\n%s", namespace, told(findings))
		}
	}
	variable := strings.Replace(breaking(t, "FKS316"), "status.podIP", "metadata.namespace", 1)
	out, findings := fks.Fit(objects(t, variable), fks.Options{Namespace: "shop"})
	if !has(findings, "FKS315") || !strings.Contains(written(t, out), "value: shop") {
		t.Errorf("%s", told(findings))
	}
}

// What is in a List is fitted like everything else.
func TestList(t *testing.T) {
	text := "apiVersion: v1\nkind: List\nitems:\n"
	for i, line := range strings.Split(strings.TrimSuffix(breaking(t, "FKS106"), "\n"), "\n") {
		switch {
		case i == 0:
			text += "  - " + line + "\n"
		case line == "---":
			text += "  -\n"
		default:
			text += "    " + line + "\n"
		}
	}
	inList, _ := fks.Fit(objects(t, text), fks.Options{})
	alone, _ := fks.Fit(objects(t, breaking(t, "FKS106")), fks.Options{})
	if diff := cmp.Diff(written(t, alone), written(t, inList)); diff != "" {
		t.Error(diff)
	}
}

// everything is what breaks all rules, in one set.
func everything(t testing.TB) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, r := range fks.Rules() {
		for _, o := range objects(t, breaking(t, r.ID)) {
			o.SetNamespace(strings.ToLower(r.ID)) // so that they do not meet
			all = append(all, o)
		}
	}
	return all
}

// What is found does not depend on the order of the objects, nor do they come
// out another way; what is given stays as it is.
func TestOrderAndPurity(t *testing.T) {
	given := everything(t)
	before := written(t, given)
	out, findings := fks.Fit(given, fks.Options{})
	if diff := cmp.Diff(before, written(t, given)); diff != "" {
		t.Errorf("what was given has changed:\n%s", diff)
	}
	byName := func(all []*unstructured.Unstructured) []string {
		var texts []string
		for _, o := range all {
			texts = append(texts, written(t, []*unstructured.Unstructured{o}))
		}
		slices.Sort(texts)
		return texts
	}
	for range 5 {
		rand.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
		again, found := fks.Fit(given, fks.Options{})
		if diff := cmp.Diff(findings, found); diff != "" {
			t.Fatalf("another order finds something else:\n%s", diff)
		}
		if diff := cmp.Diff(byName(out), byName(again)); diff != "" {
			t.Fatalf("another order gives something else:\n%s", diff)
		}
	}
	// What comes out shares nothing with what was given.
	for _, o := range out {
		o.Object["kind"] = "Other"
		for key := range o.Object {
			delete(o.Object, key)
		}
	}
	if diff := cmp.Diff(len(before), len(written(t, given))); diff != "" {
		t.Errorf("what came out shares memory with what was given")
	}
}

// No value that may be secret is in what is said.
func TestFindingsHoldNoSecret(t *testing.T) {
	const secret = "hush-4711"
	text := `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, annotations: {token: hush-4711}}
spec:
  containers:
    - name: web
      image: web:1
      workingDir: /srv
      command: [web, --password, hush-4711]
      args: [hush-4711]
      env:
        - {name: A, value: hush-4711, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['token']"}}}
      lifecycle: {preStop: {exec: {command: [bye, hush-4711]}}, postStart: {httpGet: {port: 80, httpHeaders: [{name: Authorization, value: hush-4711}]}}}
      livenessProbe: {exec: {command: [check, hush-4711]}}
    - name: agent
      image: agent:1
      args: [hush-4711]
  initContainers:
    - {name: first, image: "first:1", env: [{name: A, value: hush-4711}]}
---
apiVersion: v1
kind: Secret
metadata: {name: web, annotations: {fly.io/app: hush-4711}}
stringData: {password: hush-4711}
`
	_, findings := fks.Fit(objects(t, text), fks.Options{})
	if len(findings) < 5 {
		t.Fatalf("too little is found:\n%s", told(findings))
	}
	for _, f := range findings {
		if strings.Contains(f.From+f.To+f.Path+f.Object+f.Message+f.Hint, secret) {
			t.Errorf("%+v", f)
		}
	}
}

// Whatever it is given, Fit does not panic, does not change it, and has nothing
// to do the second time.
func FuzzFit(f *testing.F) {
	for _, r := range fks.Rules() {
		f.Add(breaking(f, r.ID), "")
		f.Add(breaking(f, r.ID), r.ID)
	}
	chart, err := os.ReadFile("testdata/bazaar.yaml")
	if err == nil {
		f.Add(string(chart), "FKS201")
	}
	f.Fuzz(func(t *testing.T, text, allowed string) {
		var given []*unstructured.Unstructured
		for dec := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); len(given) < 100; {
			o := &unstructured.Unstructured{}
			if dec.Decode(&o.Object) != nil {
				break
			}
			given = append(given, o)
		}
		before := written(t, given)
		o := fks.Options{Allow: []string{allowed}, Namespace: "shop"}
		out, findings := fks.Fit(given, o)
		if after := written(t, given); after != before {
			t.Fatalf("what was given has changed:\n%s", cmp.Diff(before, after))
		}
		for i, found := range findings {
			if found.Rule == "" || found.Message == "" {
				t.Errorf("%+v", found)
			}
			if i > 0 && found.Rule == findings[i-1].Rule && found.Object == findings[i-1].Object && found.Path == findings[i-1].Path {
				t.Errorf("said twice: %+v", found)
			}
		}
		unchanged(t, out, o)
	})
}
