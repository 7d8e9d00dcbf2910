package secret

import (
	"os"
	"path/filepath"
	"testing"

	"forged.dev/forged/internal/forge"
)

// A value is taken as it is: nothing is cut at a hash as in a shell's file,
// nothing that looks like a placeholder is left out, nothing is expanded or
// unquoted, and a variable that bears a file's name does not beat the file: a
// reference names one source, and there is no other to fall back on.
func TestValuesAreTakenAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []string{
		"abc#def", "#abc", "a # b", "https://your-co.example/x", "CHANGE_ME_please", "changeme", "<token>",
		"$HOME", "${HOME}", "`id`", "%20", `"quoted"`, `it's`, `back\slash`, "a=b=c", "export X=1", "{{ .Values.x }}", "é✓",
	} {
		if err := os.WriteFile(filepath.Join(dir, "VALUE"), []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		env := map[string]string{"OTHER": want, "VALUE": "from elsewhere"}
		var asked []string
		r := &Resolver{Dir: dir, LookupEnv: func(name string) (string, bool) {
			asked = append(asked, name)
			v, ok := env[name]
			return v, ok
		}}
		for name, ref := range map[string]forge.SecretRef{"variable": {Env: "OTHER"}, "file": {File: "VALUE"}} {
			v, err := r.Resolve(t.Context(), ref)
			if err != nil {
				t.Errorf("%q from a %s: %v", want, name, err)
			} else if string(v.Reveal()) != want {
				t.Errorf("%q from a %s became %q", want, name, v.Reveal())
			}
		}
		if len(asked) != 1 || asked[0] != "OTHER" {
			t.Errorf("variables %q were read, and only OTHER is named", asked)
		}
	}
	r := &Resolver{Dir: dir, LookupEnv: func(name string) (string, bool) { return "from elsewhere", name != "GONE" }}
	if v, err := r.Resolve(t.Context(), forge.SecretRef{Env: "GONE"}); err == nil {
		t.Errorf("a missing variable was replaced by %q", v.Reveal())
	}
	if v, err := r.Resolve(t.Context(), forge.SecretRef{File: "GONE"}); err == nil {
		t.Errorf("a missing file was replaced by %q", v.Reveal())
	}
}
