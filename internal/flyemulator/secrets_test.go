package flyemulator

import (
	"regexp"
	"testing"
	"time"
)

const secretsPath = "/v1/apps/web/secrets"

func TestSecrets(t *testing.T) {
	in(t, Options{}, func(w *world) {
		if all := w.want(200, "GET", secretsPath, ""); all.raw != "{\"secrets\":[]}\n" {
			t.Errorf("no secrets: %s", all.raw)
		}
		v := w.want(200, "POST", secretsPath, `{"values":{"B":"two","A":"one"}}`)
		w.says(v, "version", 1)
		w.says(v, "Version", 1)
		w.says(v, "secrets.0.name", "A")
		digest, updated := v.at("secrets.0.digest"), v.at("secrets.0.updated_at")
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(digest.(string)) {
			t.Errorf("digest %v", digest)
		}
		pass(time.Minute)

		v = w.want(200, "POST", secretsPath, `{"values":{"A":"one"}}`)
		w.says(v, "version", 2) // a write is a write
		w.says(v, "secrets.0.digest", digest)
		w.says(v, "secrets.0.updated_at", updated)
		if v.at("secrets.1.name") != "B" {
			t.Errorf("what is not named is gone: %s", v.raw)
		}

		v = w.want(201, "POST", secretsPath+"/A", `{"value":"other"}`)
		w.says(v, "version", 3)
		if v.at("digest") == digest || v.at("updated_at") == updated || v.at("value") != nil {
			t.Errorf("another value: %s", v.raw)
		}
		v = w.want(201, "POST", secretsPath+"/C", `{"value":"other"}`)
		if v.at("digest") == w.want(200, "GET", secretsPath+"/A", "").at("digest") {
			t.Error("the same value of another secret has the same digest")
		}
		v = w.want(200, "POST", secretsPath, `{"values":{"A":null,"BOGUS":null}}`)
		w.says(v, "version", 5)
		w.want(404, "GET", secretsPath+"/A", "")
		w.says(w.want(200, "DELETE", secretsPath+"/B", ""), "version", 6)
		w.refuses([]refused{
			{"gone", "DELETE", secretsPath + "/B", "", 404, "not found"},
			{"hyphen", "POST", secretsPath, `{"values":{"MY-KEY":"x"}}`, 422, "MY-KEY"},
			{"digit", "POST", secretsPath + "/1A", `{"value":"x"}`, 422, "1A"},
			{"no values", "POST", secretsPath, `{}`, 400, "values"},
			{"no value", "POST", secretsPath + "/D", `{}`, 400, "value"},
			{"type", "POST", secretsPath, `{"values":{"A":1}}`, 400, "json"},
		})
		for _, path := range []string{secretsPath + "?show_secrets=true", secretsPath + "/C?show_secrets=true"} {
			if v := w.want(200, "GET", path, ""); regexp.MustCompile("other").MatchString(v.raw) {
				t.Errorf("a value is shown: %s", v.raw)
			}
		}
	})
}

// TestSecretsOfAnotherWorld: the digest tells nothing to who guesses.
func TestSecretsOfAnotherWorld(t *testing.T) {
	digests := map[any]bool{}
	for seed := range uint64(2) {
		in(t, Options{Seed: seed}, func(w *world) {
			w.app("other")
			for _, path := range []string{secretsPath, "/v1/apps/other/secrets"} {
				digests[w.want(200, "POST", path, `{"values":{"A":"one"}}`).at("secrets.0.digest")] = true
			}
		})
	}
	if len(digests) != 4 {
		t.Errorf("%d digests of the same value in 4 places", len(digests))
	}
}

func TestSecretsLag(t *testing.T) {
	in(t, Options{}, func(w *world) {
		seen := func() (string, int) {
			w.e.mu.Lock()
			defer w.e.mu.Unlock()
			values, version := w.e.seenSecrets(w.e.state.Apps["web"], w.e.now())
			return values["A"], version
		}
		for i, value := range []string{"one", "two"} {
			w.want(200, "POST", secretsPath, `{"values":{"A":"`+value+`"}}`)
			if _, version := seen(); version != i {
				t.Errorf("machines see version %d at once, want %d", version, i)
			}
			pass(500 * time.Millisecond)
			if v, version := seen(); v != value || version != i+1 {
				t.Errorf("machines see %q, version %d, want %q, %d", v, version, value, i+1)
			}
		}
		w.want(200, "POST", secretsPath, `{"values":{"A":"three"}}`)
		w.want(200, "POST", secretsPath, `{"values":{"A":"four"}}`)
		if v, _ := seen(); v != "two" {
			t.Errorf("after two writes at once machines see %q, want what was before both", v)
		}
	})
}

func TestSecretsMinVersion(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.want(200, "POST", secretsPath, `{"values":{"A":"one"}}`)
		w.want(200, "GET", secretsPath+"?min_version=1", "")
		begun := time.Now()
		w.refuses([]refused{
			{"list", "GET", secretsPath + "?min_version=2", "", 412, "min_secrets_version 2 is not yet available"},
			{"the other spelling", "GET", secretsPath + "/A?version=2", "", 412, "min_secrets_version 2 is not yet available"},
			{"no number", "GET", secretsPath + "?min_version=x", "", 400, "number"},
		})
		if took := time.Since(begun); took < 2*secretsHeld {
			t.Errorf("nobody was held up: %s", took)
		}
		done := make(chan answer, 1)
		go func() { done <- w.send(w.Context(), "GET", secretsPath+"?min_version=2", "") }()
		pass(time.Second)
		if len(done) > 0 {
			t.Error("nobody waits for a version that is to come")
		}
		w.want(200, "POST", secretsPath, `{"values":{"A":"two"}}`)
		if a := <-done; a.status != 200 {
			t.Errorf("a version that comes: %d %v %s", a.status, a.err, a.raw)
		}
	})
}
