package flyemulator

import (
	"bytes"
	"testing"
)

// TestWhatHangsOnAnAppIsSaved: another emulator goes on from there, also with
// what is under way.
func TestWhatHangsOnAnAppIsSaved(t *testing.T) {
	in(t, Options{Seed: 7}, func(w *world) {
		_, v6 := w.addressed()
		w.e.SetDNS("www.example.org", &DNS{AAAA: []string{v6}})
		w.acme("www.example.org")
		digest := w.want(200, "POST", secretsPath, `{"values":{"A":"one"}}`).at("secrets.0.digest")
		volume := w.volume(`{"name":"data","region":"fra"}`)
		cluster := w.want(201, "POST", postgresPath, aCluster).at("data.id").(string)
		w.want(201, "POST", policiesPath, `{"name":"web","selector":{"all":true}}`)
		w.e.SetMode(ModeCertificate, "documented")
		var b bytes.Buffer
		if err := w.e.Save(&b); err != nil {
			t.Fatal(err)
		}

		e := New(Options{})
		defer e.Close()
		if err := e.Load(&b); err != nil {
			t.Fatal(err)
		}
		w.e, w.client.Transport = e, checked{t, e.Transport()}
		pass(clusterCreates + clusterInits)
		w.says(w.want(200, "GET", certificatesPath+"/www.example.org", ""), "status", "active")
		w.says(w.want(200, "POST", secretsPath, `{"values":{"A":"one"}}`), "secrets.0.digest", digest)
		w.says(w.want(200, "GET", volumesPath+"/"+volume, ""), "state", "created")
		w.says(w.want(200, "GET", ipsPath, ""), "ips.1.ip", v6)
		w.says(w.want(200, "GET", policiesPath, ""), "0.name", "web")
		w.says(w.want(200, "GET", postgresPath+"/"+cluster, ""), "data.status", "ready")
		w.says(w.want(201, "POST", postgresPath+"/"+cluster+"/users", `{"username":"web","role":"writer"}`), "data.username", "web")
	})
}

// TestAnEmptyAppIsSaved: what had nothing when it was saved gets something.
func TestAnEmptyAppIsSaved(t *testing.T) {
	in(t, Options{}, func(w *world) {
		cluster := w.want(201, "POST", postgresPath, aCluster).at("data.id").(string)
		pass(clusterCreates + clusterInits)
		var b bytes.Buffer
		if err := w.e.Save(&b); err != nil {
			t.Fatal(err)
		}
		if err := w.e.Load(&b); err != nil {
			t.Fatal(err)
		}
		w.want(200, "POST", "/v1/apps/web/machines", `{"config":{"image":"nginx"}}`)
		w.volume(`{"name":"data","region":"fra"}`)
		w.want(200, "POST", secretsPath, `{"values":{"A":"one"}}`)
		w.acme("www.example.org")
		w.want(201, "POST", postgresPath+"/"+cluster+"/databases", `{"name":"shop"}`)
	})
}
