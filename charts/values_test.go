package charts_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"forged.dev/forged/charts"
)

// complete are the chart's defaults with a set laid over them.
func complete(t *testing.T, r rendering) map[string]any {
	t.Helper()
	merged, err := chartutil.CoalesceValues(load(t, r.chart), r.values)
	if err != nil {
		t.Fatal(err)
	}
	// Through JSON, so that everything is map[string]any.
	data, err := json.Marshal(merged)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if err := json.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// leaves calls visit with the path of every scalar and of every list.
func leaves(values map[string]any, path []string, visit func(path []string, value any)) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		at := append(slices.Clone(path), key)
		if inner, ok := values[key].(map[string]any); ok {
			leaves(inner, at, visit)
			continue
		}
		visit(at, values[key])
	}
}

func set(values map[string]any, path []string, value any) map[string]any {
	values = clone(values)
	at := values
	for _, key := range path[:len(path)-1] {
		at = at[key].(map[string]any)
	}
	at[path[len(path)-1]] = value
	return values
}

// other is a value of the same type, different from all of testdata.
func other(path []string, value any) any {
	choices := map[string]any{
		"pullPolicy": "Never", "type": "LoadBalancer", "access": "ReadWriteOncePod", "workload": "Deployment", "listenOn": "::1", "eviction": "noeviction", "maxMemory": "77mb",
		"reference": "example.invalid/other:1", "live": "/other", "ready": "/other",
		"NUM_HISTORY_SHARDS": "7", "cpu": "777m", "memory": "777Mi", "cpuLimit": "7", "memoryLimit": "7Gi", "size": "7Gi", "sharedMemory": "7Mi",
	}
	key := path[len(path)-1]
	if choice, ok := choices[key]; ok && choice != value {
		return choice
	}
	switch key {
	case "pullPolicy":
		return "Always"
	case "type":
		return "ClusterIP"
	case "workload":
		return "StatefulSet"
	case "clients":
		return []any{map[string]any{"a": "b"}}
	case "egress":
		return []any{map[string]any{"to": map[string]any{"a": "b"}, "port": 7777}}
	case "files":
		return []any{map[string]any{"path": "/other/file", "secret": "other", "config": "", "key": "other"}}
	case "volumes":
		return []any{map[string]any{"claim": "other", "mount": "/other/directory", "access": "ReadWriteMany"}}
	case "roles":
		return []any{map[string]any{"name": "other", "secretName": "other", "key": "other", "databases": []any{"other"}}}
	case "podCIDRs":
		return []any{"10.77.0.0/16"}
	}
	switch value := value.(type) {
	case bool:
		return !value
	case float64:
		return value + 2 // so that rounding to probe periods shows it
	case []any:
		return []any{"other"}
	default:
		return "other1234"
	}
}

// TestEveryValueIsRead: a key that no template reads would promise something
// that nothing keeps. Each value is changed in turn, and that must show in
// some rendering.
func TestEveryValueIsRead(t *testing.T) {
	for _, chart := range charts.Names() {
		read, all := map[string]bool{}, map[string]bool{}
		loaded := load(t, chart)
		for _, r := range valueSets(t, chart) {
			values := complete(t, r)
			before, err := render(loaded, r.release, r.namespace, values)
			if err != nil {
				t.Fatal(err)
			}
			leaves(values, nil, func(path []string, value any) {
				// Names of workers, variables and annotations are the user's.
				name := strings.Join(path, ".")
				name = regexp.MustCompile(`^workers\.[a-z]+\.`).ReplaceAllString(name, "workers.*.")
				all[name] = true
				after, err := render(loaded, r.release, r.namespace, set(values, path, other(path, value)))
				if err != nil {
					// Not every value goes with every set: hosts of an
					// Ingress, say. Some set must show it.
					return
				}
				if before != after {
					read[name] = true
				}
			})
		}
		for name := range all {
			if !read[name] {
				t.Errorf("%s: changing %s changes nothing in any rendering", chart, name)
			}
		}
		// What the values say there is must have been looked at.
		leaves(complete(t, rendering{chart: chart}), nil, func(path []string, _ any) {
			if !all[strings.Join(path, ".")] {
				t.Errorf("%s: %s was never looked at", chart, path)
			}
		})
	}
}

// TestEveryValueIsExplained: each key of values.yaml has a comment above it.
func TestEveryValueIsExplained(t *testing.T) {
	key := regexp.MustCompile(`^\s*[A-Za-z]+:`)
	for _, chart := range charts.Names() {
		data, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		keys, above := 0, ""
		for line := range strings.Lines(string(data)) {
			if key.MatchString(line) {
				keys++
				if !strings.HasPrefix(strings.TrimSpace(above), "#") {
					t.Errorf("%s/values.yaml: no comment above %q", chart, strings.TrimSpace(line))
				}
			}
			above = line
		}
		if keys == 0 {
			t.Errorf("%s/values.yaml: no keys found", chart)
		}
	}
}

// TestSchemaIsClosed: at every level, an unknown key is refused and a missing
// one is, too; only maps whose keys are the user's are open.
func TestSchemaIsClosed(t *testing.T) {
	open := regexp.MustCompile(`(^|\.)(env|annotations|secretChecksums|workers)$`)
	for _, chart := range charts.Names() {
		loaded := load(t, chart)
		for _, r := range valueSets(t, chart) {
			if r.name != chart+"/full" { // which has every level there is
				continue
			}
			values := complete(t, r)
			var walk func(path []string, level map[string]any)
			walk = func(path []string, level map[string]any) {
				at := strings.Join(path, ".")
				if !open.MatchString(at) {
					if err := validate(loaded.Schema, set(values, append(slices.Clone(path), "unknownKey"), "x")); err == nil {
						t.Errorf("%s: accepts %s.unknownKey", r.name, at)
					}
				}
				for name, value := range level {
					inner := append(slices.Clone(path), name)
					if !open.MatchString(at) {
						if err := validate(loaded.Schema, without(values, inner)); err == nil {
							t.Errorf("%s: does without %s", r.name, strings.Join(inner, "."))
						}
					}
					// No value may be null, or of another type.
					for _, bad := range []any{nil, []any{map[string]any{}}} {
						if err := validate(loaded.Schema, set(values, inner, bad)); err == nil {
							t.Errorf("%s: accepts %v for %s", r.name, bad, strings.Join(inner, "."))
						}
					}
					if deeper, ok := value.(map[string]any); ok {
						walk(inner, deeper)
					}
				}
			}
			walk(nil, values)
			if err := validate(loaded.Schema, values); err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
		}
	}
}

func validate(schema []byte, values map[string]any) error {
	return chartutil.ValidateAgainstSingleSchema(values, schema)
}

func without(values map[string]any, path []string) map[string]any {
	values = clone(values)
	at := values
	for _, key := range path[:len(path)-1] {
		at = at[key].(map[string]any)
	}
	delete(at, path[len(path)-1])
	return values
}

func TestSchemaRefuses(t *testing.T) {
	tests := []struct {
		chart string
		path  string
		value any
	}{
		{"app", "port", 0},
		{"app", "port", "8000"},
		{"app", "user.uid", 0},
		{"app", "image.reference", "shop:latest"},
		{"app", "image.reference", ""},
		{"app", "image.reference", "shop api:1"},
		{"app", "image.pullPolicy", "ifnotpresent"},
		{"app", "env.A", 5},
		{"app", "env.A", true},
		{"app", "health.live", "health"},
		{"app", "health.failures", 0},
		{"app", "service.type", "NodePort"},
		{"app", "ingress.enabled", true}, // without hosts
		{"app", "resources.cpu", ""},
		{"app", "resources.memory", "much"},
		{"app", "environment", "not a label"},
		{"postgres", "user", `x"; DROP`},
		{"postgres", "database", "Upper"},
		{"postgres", "storage.size", "20 GB"},
		{"app", "volumes", []any{map[string]any{"claim": "a", "mount": "relative", "access": "ReadWriteMany"}}},
		{"app", "volumes", []any{map[string]any{"claim": "a", "mount": "/a", "access": "ReadOnlyMany"}}},
		{"app", "files", []any{map[string]any{"path": "/a", "secret": "a", "config": "b", "key": "c"}}}, // from where?
		{"app", "files", []any{map[string]any{"path": "/a", "secret": "", "config": "", "key": "c"}}},
		{"app", "files", []any{map[string]any{"path": "/", "secret": "a", "config": "", "key": "c"}}}, // over everything
		{"app", "networkPolicy.egress", []any{map[string]any{"port": 5432}}},
		// Two of them would be two unrelated databases behind one name.
		{"postgres", "replicas", 2},
		{"redis", "replicas", 2},
		// The user of an Alpine image has another number, and could not read the volume.
		{"postgres", "image.reference", "postgres:16.14-alpine3.22"},
		{"redis", "image.reference", "redis:7.4-alpine"},
		{"postgres", "user", "postgres"}, // the superuser
		{"postgres", "roles", []any{map[string]any{"name": "pg_monitor", "secretName": "a", "key": "b", "databases": []any{"c"}}}},
		{"postgres", "roles", []any{map[string]any{"name": "a", "secretName": "a", "key": "b", "databases": []any{"c; rm -rf /"}}}},
		{"postgres", "podCIDRs", []any{"all"}},
		{"postgres", "backup.schedule", "0 3 * * *"}, // without a claim
		{"postgres", "workload", "Deployment"},       // without a claim: its data would go with the pod
		{"redis", "workload", "Deployment"},
		{"postgres", "storage.access", "ReadWriteMany"}, // two servers
		{"temporal", "listenOn", "everywhere"},
		{"temporal", "addressVariable", "$(id)"},
		{"temporal", "env.POD_IP", "127.0.0.1"},
		{"postgres", "networkPolicy.clients", []any{map[string]any{}}}, // would let in every pod
		{"redis", "maxMemory", "0"},
		{"redis", "maxMemory", "512mb\nrequirepass x"},
		{"redis", "eviction", "all"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s/%s=%v", test.chart, test.path, test.value), func(t *testing.T) {
			values := set(complete(t, rendering{chart: test.chart}), strings.Split(test.path, "."), test.value)
			if err := validate(load(t, test.chart).Schema, values); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// TestVolumeOfOneNode: what one node or one pod may mount goes with one replica,
// and the next one starts when the last one is gone; what all may mount, with many.
func TestVolumeOfOneNode(t *testing.T) {
	values := func(access string, most int) map[string]any {
		return map[string]any{
			"volumes": []any{map[string]any{"claim": "a", "mount": "/a", "access": access}},
			"scaling": map[string]any{"min": 1, "max": most, "cpuTarget": 50},
		}
	}
	for _, access := range []string{"ReadWriteOnce", "ReadWriteOncePod"} {
		if _, err := render(load(t, "app"), "shop", "shop", values(access, 2)); err == nil {
			t.Errorf("%s: two replicas of what one node mounts", access)
		}
	}
	for access, want := range map[string]string{"ReadWriteOnce": "Recreate", "ReadWriteOncePod": "Recreate", "ReadWriteMany": "RollingUpdate"} {
		for _, object := range decode(t, mustRender(t, "app", "shop", "shop", values(access, 1))) {
			if o, ok := object.(*appsv1.Deployment); ok && string(o.Spec.Strategy.Type) != want {
				t.Errorf("%s: %s", access, o.Spec.Strategy.Type)
			}
		}
	}
}

// TestAutoscalerWithoutMetric: the one rule that a schema cannot say.
func TestAutoscalerWithoutMetric(t *testing.T) {
	values := map[string]any{"scaling": map[string]any{"min": 1, "max": 2}}
	if _, err := render(load(t, "app"), "shop", "shop", values); err == nil || !strings.Contains(err.Error(), "needs cpuTarget or memoryTarget") {
		t.Errorf("got %v", err)
	}
}

func TestLint(t *testing.T) {
	for _, r := range renderings(t) {
		t.Run(r.name, func(t *testing.T) {
			linter := lint.AllWithKubeVersion(r.chart, r.values, r.namespace, nil)
			if len(linter.Messages) == 0 && linter.ChartDir == "" {
				t.Fatal("nothing was linted")
			}
			for _, message := range linter.Messages {
				if message.Severity >= support.WarningSev {
					t.Error(message)
				}
			}
		})
	}
}

// TestPure: templates use nothing whose result changes by itself or depends on
// who renders.
func TestPure(t *testing.T) {
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	comment := regexp.MustCompile(`(?s)/\*.*?\*/`)
	forbidden := regexp.MustCompile(`\b(now|date\w*|ago|unixEpoch|rand\w+|shuffle|uuidv4|gen[A-Z]\w+|lookup|getHostByName|env|expandenv|bcrypt|htpasswd|derivePassword|encryptAES|Capabilities|IsInstall|IsUpgrade|Revision)\b`)
	for _, chart := range charts.Names() {
		files, err := charts.Files(chart)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasPrefix(file.Name, "templates/") {
				continue
			}
			if !strings.HasPrefix(file.Name, "templates/_") && !strings.HasSuffix(file.Name, ".yaml") {
				t.Errorf("%s/%s: neither objects nor a helper", chart, file.Name)
			}
			for _, found := range action.FindAll(file.Data, -1) {
				code := comment.ReplaceAll(found, nil)
				code = regexp.MustCompile(`"[^"]*"|\.Values[\w.]*|\$values[\w.]*`).ReplaceAll(code, nil)
				if word := forbidden.Find(code); word != nil {
					t.Errorf("%s/%s uses %s: %s", chart, file.Name, word, bytes.TrimSpace(found))
				}
			}
		}
	}
}

// FuzzVariables: any variable reaches the ConfigMap as it was written.
func FuzzVariables(f *testing.F) {
	for _, seed := range []string{"", "yes", "0x10", "1e3", "null", "~", "a: b", "# c", " x ", "a\nb\n", "{{ .Values }}", "'\"\\", "\u0085\u2028\ufeff\x7f\x00", "💥", "---\nkind: Secret"} {
		f.Add("A", seed)
	}
	f.Add("ON", "off")
	f.Add("NULL", "1")
	f.Fuzz(func(t *testing.T, key, value string) {
		if !utf8.ValidString(value) || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(key) {
			return
		}
		rendered := mustRender(t, "app", "shop", "shop", map[string]any{"env": map[string]any{key: value}})
		for _, object := range decode(t, rendered) {
			if config, ok := object.(*corev1.ConfigMap); ok {
				if len(config.Data) != 1 || config.Data[key] != value {
					t.Errorf("%q=%q became %q", key, value, config.Data)
				}
				return
			}
		}
		t.Error("no ConfigMap")
	})
}
