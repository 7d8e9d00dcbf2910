package charts_test

import (
	"encoding/json"
	"strings"
	"testing"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestTemporalConfig: the server fills its settings in by itself. A password of
// any characters stays one value there; the image's own way pastes it into YAML
// as it is. Both stores are in the databases that its role is given, checked
// against the certificate that is mounted.
func TestTemporalConfig(t *testing.T) {
	variables := map[string]string{"POD_IP": "fd00::7", "LISTEN_ON": "::", "POSTGRES_SEEDS": "till-postgres", "DB_PORT": "5432", "POSTGRES_USER": "temporal", "POSTGRES_PWD": awkwardText}
	var text string
	var databases []any
	for _, e := range environments(t) {
		if e.name != "strict" {
			continue
		}
		for _, r := range e.releases {
			switch r.chart {
			case "temporal":
				for key, value := range r.values["env"].(map[string]any) {
					variables[key] = value.(string)
				}
				for _, object := range decode(t, r.render(t)) {
					if config, ok := object.(*corev1.ConfigMap); ok && config.Data["server.yaml"] != "" {
						text = config.Data["server.yaml"]
					}
				}
			case "postgres":
				databases = r.values["roles"].([]any)[0].(map[string]any)["databases"].([]any)
			}
		}
	}
	if !strings.HasPrefix(text, "# enable-template\n") {
		t.Fatalf("the server would take this as it is:\n%s", text)
	}
	filled, err := template.New("server.yaml").Option("missingkey=error").Funcs(template.FuncMap{
		"env": func(key string) string { return variables[key] },
		"toJson": func(value any) (string, error) {
			data, err := json.Marshal(value)
			return string(data), err
		},
		"contains": func(part, text string) bool { return strings.Contains(text, part) },
		"ternary": func(yes, no any, is bool) any {
			if is {
				return yes
			}
			return no
		},
		"dict": func(pairs ...any) map[string]any {
			all := map[string]any{}
			for i := 0; i < len(pairs); i += 2 {
				all[pairs[i].(string)] = pairs[i+1]
			}
			return all
		},
	}).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := filled.Execute(&out, nil); err != nil {
		t.Fatal(err)
	}
	var config struct {
		Persistence struct {
			NumHistoryShards int
			Datastores       map[string]struct {
				SQL struct {
					DatabaseName, ConnectAddr, User, Password, PluginName string
					TLS                                                   struct {
						Enabled, EnableHostVerification bool
						CaFile                          string
					}
				}
			}
		}
		Global struct {
			Membership struct{ BroadcastAddress string }
		}
		ClusterMetadata struct {
			ClusterInformation map[string]struct{ RPCAddress string }
		}
		Services map[string]struct {
			RPC struct {
				GRPCPort, MembershipPort int
				BindOnIP                 string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(out.String()), &config); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if config.Persistence.NumHistoryShards != 512 {
		t.Errorf("%d shards", config.Persistence.NumHistoryShards)
	}
	for i, name := range []string{"default", "visibility"} {
		store := config.Persistence.Datastores[name].SQL
		if store.Password != awkwardText || store.User != "temporal" || store.ConnectAddr != "till-postgres:5432" || store.PluginName != "postgres12" {
			t.Errorf("%s: %+v", name, store)
		}
		if store.DatabaseName != databases[i] {
			t.Errorf("%s is in %s, its role is given %v", name, store.DatabaseName, databases)
		}
		if !store.TLS.Enabled || !store.TLS.EnableHostVerification || store.TLS.CaFile != "/run/forged/postgres/ca.crt" {
			t.Errorf("%s: %+v", name, store.TLS)
		}
	}
	if at := config.Global.Membership.BroadcastAddress; at != "fd00::7" {
		t.Errorf("others find it at %s", at)
	}
	if at := config.ClusterMetadata.ClusterInformation["active"].RPCAddress; at != "[fd00::7]:7233" {
		t.Errorf("its own cluster is at %s", at)
	}
	for name, ports := range map[string][2]int{"frontend": {7233, 6933}, "history": {7234, 6934}, "matching": {7235, 6935}, "worker": {7239, 6939}} {
		if rpc := config.Services[name].RPC; rpc.GRPCPort != ports[0] || rpc.MembershipPort != ports[1] || rpc.BindOnIP != "::" {
			t.Errorf("%s: %+v", name, rpc)
		}
	}
}

// awkwardText is a password that quoting by hand would stumble over.
const awkwardText = `it's "a" \p\\w $HOME $(id) ` + "`id`" + ` %s :x ; DROP ROLE y -- {{ . }} ünï€`
