package charts_test

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"forged.dev/forged/internal/forge"
)

// objects are those of all releases of an environment.
func (e environment) objects(t *testing.T) []runtime.Object {
	t.Helper()
	var all []runtime.Object
	for _, r := range e.releases {
		all = append(all, decode(t, r.render(t))...)
	}
	return all
}

// join builds a joined secret as its provider does, every password being "pw".
func join(parts []forge.SecretPart) string {
	var text strings.Builder
	for _, part := range parts {
		text.WriteString(part.Literal)
		if part.Secret != "" {
			text.WriteString("pw")
		}
	}
	return text.String()
}

// TestAddresses: the URLs that the app is given lead to the Services that are
// rendered, to the database that is made and to the role it is made for.
func TestAddresses(t *testing.T) {
	addresses := 0
	for _, e := range environments(t) {
		services := map[string]*corev1.Service{}
		config := map[string]string{}
		variables := map[string]map[string]string{} // of the servers, by release
		for _, object := range e.objects(t) {
			switch o := object.(type) {
			case *corev1.Service:
				services[o.Name] = o
			case *corev1.ConfigMap:
				config = o.Data
			}
		}
		for _, w := range workloadsOf(e.objects(t)) {
			variables[w.name] = map[string]string{}
			for _, v := range w.template.Spec.Containers[0].Env {
				variables[w.name][v.Name] = v.Value
			}
		}
		for _, object := range e.secrets.Secrets {
			for _, entry := range object.Entries {
				if entry.Join == nil {
					continue
				}
				switch entry.Key { // of Temporal
				case "POSTGRES_SEEDS":
					if services[join(entry.Join)] == nil {
						t.Errorf("%s: no Service %s", e.name, join(entry.Join))
					}
					continue
				case "DB_PORT", "POSTGRES_USER":
					continue
				}
				addresses++
				id := e.name + " " + entry.Key
				address, err := url.Parse(join(entry.Join))
				if err != nil {
					t.Fatalf("%s: %v", id, err)
				}
				service := services[address.Hostname()]
				if service == nil {
					t.Fatalf("%s: no Service %q among %v", id, address.Hostname(), slices.Collect(maps.Keys(services)))
				}
				if got := strconv.Itoa(int(service.Spec.Ports[0].Port)); got != address.Port() {
					t.Errorf("%s: port %s, the Service has %s", id, address.Port(), got)
				}
				if password, _ := address.User.Password(); password != "pw" {
					t.Errorf("%s: no password in %s", id, address.Redacted())
				}
				if address.Scheme == "redis" {
					continue
				}
				server := variables[address.Hostname()]
				for name, want := range map[string]string{
					"APP_DB":      strings.TrimPrefix(address.Path, "/"),
					"APP_DB_USER": address.User.Username(),
				} {
					if config[name] != want {
						t.Errorf("%s: %s is %q, the URL says %q", id, name, config[name], want)
					}
				}
				if server["POSTGRES_DB"] != config["APP_DB"] || server["POSTGRES_USER"] != config["APP_DB_USER"] {
					t.Errorf("%s: the server makes %v, the app wants %v", id, server, config)
				}
			}
		}
	}
	if addresses < 4 {
		t.Errorf("only %d addresses: this test shows little", addresses)
	}
}

// TestSourcesAreThere: pods name only Secrets, ConfigMaps, keys and claims that
// are made, and are rolled when any of them changes. Dumps read theirs anew.
func TestSourcesAreThere(t *testing.T) {
	uses := map[string]int{}
	for _, e := range environments(t) {
		objects := e.objects(t)
		configs := map[string]bool{} // that a chart makes, whose text it hashes itself
		for _, object := range objects {
			if config, ok := object.(*corev1.ConfigMap); ok {
				configs[config.Name] = true
			}
		}
		for _, w := range workloadsOf(objects) {
			id := e.name + " " + w.name
			found := sourcesOf(w.template.Spec)
			want := map[string]string{}
			for _, source := range found {
				uses[source.kind]++
				switch keys := e.made[source.kind+"/"+source.name]; {
				case source.kind == "config" && configs[source.name]:
					continue
				case keys == nil:
					t.Errorf("%s: no %s %s", id, source.kind, source.name)
				case source.key != "" && !slices.Contains(keys, source.key):
					t.Errorf("%s: no key %s in %s %s", id, source.key, source.kind, source.name)
				}
				switch {
				case source.kind == "secret" && strings.HasSuffix(source.name, "-tls"):
					want["checksum.forged.dev/secret."+source.name] = "checksum-of-checksum"
				case source.kind == "secret" && !source.pull:
					want["checksum.forged.dev/secret."+source.name] = "checksum-of-checksum/" + source.name
				case source.kind == "config":
					want["checksum.forged.dev/files"] = "checksum-of-checksum"
				}
			}
			if w.selector == nil {
				want = nil
			}
			got := maps.Clone(w.template.Annotations)
			delete(got, "checksum.forged.dev/config")
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s is rolled by other things than what it reads:\n%s", id, diff)
			}
		}
	}
	for _, kind := range []string{"secret", "config", "claim"} {
		if uses[kind] == 0 {
			t.Errorf("no pod uses a %s: this test shows nothing", kind)
		}
	}
}

// source is what a pod names.
type source struct {
	kind, name, key string
	pull            bool // used before there is a pod
}

func sourcesOf(pod corev1.PodSpec) []source {
	var all []source
	for _, pull := range pod.ImagePullSecrets {
		all = append(all, source{"secret", pull.Name, ".dockerconfigjson", true})
	}
	for _, c := range pod.Containers {
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil {
				all = append(all, source{kind: "secret", name: from.SecretRef.Name})
			}
			if from.ConfigMapRef != nil {
				all = append(all, source{kind: "config", name: from.ConfigMapRef.Name})
			}
		}
		for _, v := range c.Env {
			if v.ValueFrom != nil && v.ValueFrom.ConfigMapKeyRef != nil {
				all = append(all, source{kind: "config", name: v.ValueFrom.ConfigMapKeyRef.Name, key: v.ValueFrom.ConfigMapKeyRef.Key})
			}
			if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
				all = append(all, source{kind: "secret", name: v.ValueFrom.SecretKeyRef.Name, key: v.ValueFrom.SecretKeyRef.Key})
			}
		}
	}
	items := func(kind, name string, items []corev1.KeyToPath) {
		if len(items) == 0 {
			all = append(all, source{kind: kind, name: name})
		}
		for _, item := range items {
			all = append(all, source{kind: kind, name: name, key: item.Key})
		}
	}
	for _, v := range pod.Volumes {
		switch {
		case v.Secret != nil:
			items("secret", v.Secret.SecretName, v.Secret.Items)
		case v.ConfigMap != nil:
			items("config", v.ConfigMap.Name, v.ConfigMap.Items)
		case v.PersistentVolumeClaim != nil:
			all = append(all, source{kind: "claim", name: v.PersistentVolumeClaim.ClaimName})
		case v.Projected != nil:
			for _, from := range v.Projected.Sources {
				if from.Secret != nil {
					items("secret", from.Secret.Name, from.Secret.Items)
				}
				if from.ConfigMap != nil {
					items("config", from.ConfigMap.Name, from.ConfigMap.Items)
				}
			}
		}
	}
	return all
}

// TestConfigChecksum: a changed variable rolls the pods, an unchanged one does not.
func TestConfigChecksum(t *testing.T) {
	const annotation = "checksum.forged.dev/config"
	checksums := func(values map[string]any) map[string]string {
		got := map[string]string{}
		for _, w := range workloadsOf(decode(t, mustRender(t, "app", "shop", "shop", values))) {
			got[w.name] = w.template.Annotations[annotation]
		}
		return got
	}
	var values map[string]any
	for _, set := range valueSets(t, "app") {
		if set.name == "app/full" {
			values = set.values
		}
	}
	before := checksums(values)
	other := clone(values)
	other["port"] = int64(9)
	if got := checksums(other); !maps.Equal(got, before) {
		t.Errorf("the port changed the checksum of the variables: %v, %v", before, got)
	}
	values["env"].(map[string]any)["LOG_LEVEL"] = "DEBUG"
	after := checksums(values)
	if len(after) != 3 {
		t.Fatalf("want the app and two workers: %v", after)
	}
	for name := range after {
		if after[name] == before[name] || after[name] == "" {
			t.Errorf("%s: a changed variable left the checksum at %q", name, after[name])
		}
	}
}
