package api

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

func config(t *testing.T, text string) MachineConfig {
	t.Helper()
	var c MachineConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

// TestSameMachine: what was written, and how Fly reads it back (OpenAPI
// document, flyctl's source, and measured by users of the API).
func TestSameMachine(t *testing.T) {
	for _, tt := range []struct{ name, written, read string }{
		{"nothing", `{}`, `{"init":{},"dns":{},"restart":{},"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256}}`},
		{"empty lists", `{"image":"i"}`, `{"image":"i","env":{},"services":[],"mounts":null,"checks":{},"files":[],"metadata":{},"processes":[],"statics":[],"standbys":[],"containers":[],"metrics":{},"stop_config":{}}`},
		{"autostop off", `{"services":[{"autostop":"off"}]}`, `{"services":[{"autostop":false}]}`},
		{"autostop stop", `{"services":[{"autostop":"stop"}]}`, `{"services":[{"autostop":true}]}`},
		{"autostop left out", `{"services":[{}]}`, `{"services":[{"protocol":"tcp","autostop":false,"min_machines_running":0,"force_instance_key":null,"checks":[],"ports":[]}]}`},
		{"guest", `{"guest":{"cpus":2}}`, `{"guest":{"cpu_kind":"shared","cpus":2,"memory_mb":512,"gpus":0}}`},
		{"large guest", `{"guest":{"cpu_kind":"performance","cpus":2}}`, `{"guest":{"cpu_kind":"performance","cpus":2,"memory_mb":4096}}`},
		{"size", `{"size":"performance-4x"}`, `{"guest":{"cpu_kind":"performance","cpus":4,"memory_mb":8192}}`},
		{"size told both ways", `{"size":"shared-cpu-2x"}`, `{"size":"shared-cpu-2x","guest":{"cpu_kind":"shared","cpus":2,"memory_mb":512}}`},
		{"restart", `{"restart":{"policy":"on-failure"}}`, `{"restart":{"policy":"on-failure","max_retries":10}}`},
		{"restart always", `{"restart":{"policy":"always","max_retries":3}}`, `{"restart":{"policy":"always"}}`},
		{"durations", `{"checks":{"a":{"interval":"90s","timeout":"2s"}}}`, `{"checks":{"a":{"interval":"1m30s","timeout":2000000000,"grace_period":"0s"}}}`},
		{"interval of the proxy", `{"services":[{"checks":[{"interval":"5m"}]}]}`, `{"services":[{"checks":[{"interval":"1m0s"}]}]}`},
		{"mount", `{"mounts":[{"volume":"vol_1","path":"/data"}]}`, `{"mounts":[{"volume":"vol_1","path":"/data","name":"data","size_gb":3,"encrypted":true}]}`},
		{"metadata of flyctl", `{"metadata":{"a":"b"}}`, `{"metadata":{"a":"b","fly_flyctl_version":"1","fly_release_id":"2","fly_release_version":"3","fly_platform_version":"v2","x":""}}`},
		{"root file system", `{"rootfs":{"persist":"never"}}`, `{"rootfs":{}}`},
		{"root file system of old", `{"guest":{"persist_rootfs":"always"}}`, `{"rootfs":{"persist":"always"}}`},
		{"options", `{"services":[{"ports":[{"port":443}]}]}`, `{"services":[{"ports":[{"port":443,"handlers":[],"http_options":{"response":{}},"tls_options":{}}]}]}`},
		{"a field of tomorrow", `{"image":"i"}`, `{"image":"i","of_tomorrow":{"x":1}}`},
	} {
		written, read := config(t, tt.written), config(t, tt.read)
		if paths := Drift(written, read); len(paths) != 0 {
			t.Errorf("%s: %q differ", tt.name, paths)
		}
		if paths := Drift(Normalise(written), read); len(paths) != 0 {
			t.Errorf("%s: %q differ once it is normalised", tt.name, paths)
		}
	}
}

// TestOtherMachine: what Normalise must not hide.
func TestOtherMachine(t *testing.T) {
	for _, tt := range []struct {
		name, want, got string
		paths           []string
	}{
		{"image", `{"image":"i:1"}`, `{"image":"i:2"}`, []string{"image"}},
		{"variable", `{"env":{"A":"1","B":""}}`, `{"env":{"A":"2"}}`, []string{"env.A", "env.B"}},
		{"suspended", `{"services":[{"autostop":"stop"}]}`, `{"services":[{"autostop":"suspend"}]}`, []string{"services[0].autostop"}},
		{"autostart", `{"services":[{"autostart":true}]}`, `{"services":[{"autostart":false}]}`, []string{"services[0].autostart"}},
		{"one service more", `{"services":[{}]}`, `{"services":[{},{}]}`, []string{"services"}},
		{"guest", `{"guest":{"cpus":2}}`, `{"guest":{"cpus":4,"memory_mb":1024}}`, []string{"guest.cpus", "guest.memory_mb"}},
		{"interval of a check of its own", `{"checks":{"a":{"interval":"5m"}}}`, `{"checks":{"a":{"interval":"1m0s"}}}`, []string{"checks.a.interval"}},
		{"another volume", `{"mounts":[{"volume":"vol_1"}]}`, `{"mounts":[{"volume":"vol_2"}]}`, []string{"mounts[0].volume"}},
		{"no volume", `{"mounts":[{"volume":"vol_1"}]}`, `{}`, []string{"mounts"}},
		{"metadata", `{"metadata":{"a":"b","fly_process_group":"web"}}`, `{"metadata":{"a":"c","d":"e","fly_process_group":"x"}}`, []string{"metadata.a", "metadata.d", "metadata.fly_process_group"}},
		{"restart", `{}`, `{"restart":{"policy":"no"}}`, []string{"restart.max_retries", "restart.policy"}},
		{"file", `{"files":[{"guest_path":"/a","raw_value":"YQ=="}]}`, `{"files":[{"guest_path":"/a","raw_value":"Yg=="}]}`, []string{"files[0].raw_value"}},
		{"retries", `{"restart":{"policy":"on-failure","max_retries":3}}`, `{"restart":{"policy":"on-failure"}}`, []string{"restart.max_retries"}},
		{"command", `{"init":{"exec":["a","b"]}}`, `{"init":{"exec":["a"]}}`, []string{"init.exec"}},
	} {
		want, got := config(t, tt.want), config(t, tt.got)
		if paths := Drift(want, got); !slices.Equal(paths, tt.paths) {
			t.Errorf("%s: %q differ, not %q", tt.name, paths, tt.paths)
		}
	}
}

func TestNormaliseLeavesItsArgumentAlone(t *testing.T) {
	const text = `{"metadata":{"a":"","fly_release_id":"1"},"size":"shared-cpu-2x","services":[{"checks":[{"interval":"5m","tls_skip_verify":false}]}],
		"checks":{"a":{"interval":"0s"}},"mounts":[{"volume":"v","name":"n"}],"restart":{"policy":"no","max_retries":3}}`
	c, same := config(t, text), config(t, text)
	Drift(c, c)
	if !reflect.DeepEqual(c, same) {
		t.Errorf("%+v", c)
	}
}

func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"image":"i","env":{"A":"1"},"services":[{"autostop":true,"checks":[{"interval":90000000000}],"ports":[{"port":1,"http_options":{"replay_cache":[{}],"response":{"headers":{"a":[null]}}}}]}]}`,
		`{"containers":[{"a":{}},null],"volumes":[[]],"dns":{"options":[{"b":1e99}],"dns_forward_rules":[null]}}`,
		`{"size":"shared-cpu-99x","guest":{"cpus":-1,"persist_rootfs":"never"},"rootfs":{"persist":"always"}}`,
		`{"metadata":{"a":"","fly_x":"y"},"restart":{"policy":"on-failure","max_retries":-3},"checks":{"a":{"interval":"0s"}}}`,
		`{"cache_drive":{"size_mb":1},"mounts":[{"volume":"v","name":"n"},{"name":"x"}],"stop_config":{"timeout":"-1s"}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c MachineConfig
		if json.Unmarshal([]byte(text), &c) != nil {
			return
		}
		before, err := json.Marshal(c)
		if err != nil {
			return
		}
		once := Normalise(c)
		if after, _ := json.Marshal(c); string(after) != string(before) {
			t.Fatalf("the argument was %s and is %s", before, after)
		}
		if twice := Normalise(once); !reflect.DeepEqual(once, twice) {
			a, _ := json.Marshal(once)
			b, _ := json.Marshal(twice)
			t.Fatalf("once %s\ntwice %s", a, b)
		}
		if paths := Drift(c, once); len(paths) != 0 {
			t.Fatalf("%q differ", paths)
		}
	})
}
