package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Whatever people write where a reference to a secret belongs, or where
// everybody may read, it is not repeated.
func TestDiscreet(t *testing.T) {
	const (
		plain = "hunter2-canary"
		token = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
	)
	m, err := newModel()
	if err != nil {
		t.Fatal(err)
	}
	var refs []string // paths of references, as CUE writes them
	var walk func(p path, k *key)
	walk = func(p path, k *key) {
		if k.ref == "#SecretRef" {
			refs = append(refs, p.String())
			return
		}
		for _, c := range k.keys {
			walk(p.with(c.name), c)
		}
		if k.elem != nil && k.typ == object {
			name := "dev"
			if k.names == "#EnvName" {
				name = "FOO"
			}
			walk(p.with(name), k.elem)
		}
	}
	walk(nil, m.root)
	if len(refs) < 20 {
		t.Fatal(refs)
	}
	var texts []string
	for _, ref := range refs {
		p := strings.ReplaceAll(ref, ".", ": ")
		for i, value := range []string{
			`"` + plain + `"`, `{env: "` + plain + `"}`, `{value: "` + plain + `"}`, `["` + plain + `"]`, `"` + plain + `" & "x"`, `"` + plain + `" + 3`,
			`{sops: "` + plain + `"}`, `{generate: "` + plain + `"}`, `{exec: "` + plain + `"}`, "'" + plain + "'",
		} {
			texts = append(texts, p+": "+value)
			if i < 2 {
				texts = append(texts, p+": "+value+", nonsense: 1")
			}
		}
	}
	for _, p := range []string{"app: env: FOO", "app: args", "app: port", `app: configFiles: "/a"`, `app: configFiles: "/a": text`, "app: image: repository", "environments: dev: expose: annotations: a", "environments: dev: expose: kind", "environments: dev: domains", "environments: dev: workers: mail: args"} {
		for _, value := range []string{`"` + token + `"`, `"` + token + `" & "x"`, `["` + token + `"]`, `["` + token + `", 3]`, `{a: "` + token + `"}`, `"postgres://u:` + token + `@h/db"`, `"user:` + plain + `@ghcr.io/acme/shop"`, `["--password=` + plain + `"]`, `"--password=` + plain + `"`} {
			texts = append(texts, p+": "+value)
		}
	}
	for _, more := range texts {
		head := "environments: dev: platform: kind: \"minikube\"\n"
		if strings.HasPrefix(more, "environments: dev: services") {
			head = `environments: dev: {platform: {kind: "kubernetes", context: "c"}, services: {postgres: mode: "external", redis: mode: "external", temporal: mode: "cloud"}}` + "\n"
		}
		src := Source{Files: []File{{Name: "forge.cue", Data: []byte("forge: \"v1\"\napp: {\n\tname: \"shop\"\n\timage: {repository: \"shop\", tag: \"1\"}\n}\n" + head + more + "\n")}}}
		_, diags, err := Load(t.Context(), src)
		if err != nil {
			if !errors.As(err, &diags) {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := diags.Write(&out, WriteOptions{Excerpt: true}); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(diags)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s%s", b, diags.Error())
		if s := out.String(); strings.Contains(s, plain) || strings.Contains(s, token) {
			t.Errorf("%s:\n%s", more, s)
		}
	}
}
