package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forged.dev/forged/internal/forge"
)

// The files were encrypted by the library of SOPS; see sops/testdata.
func TestEncryptedFiles(t *testing.T) {
	keys, err := filepath.Abs("sops/testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"all.yaml", "all.env"} {
		b, err := os.ReadFile(filepath.Join("sops", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"plain.yaml": "a: s3cret\n", "keys": "s3cret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	with := func(name, value string) map[string]string {
		return map[string]string{name: value, "XDG_CONFIG_HOME": filepath.Join(dir, "none")}
	}
	good := with("SOPS_AGE_KEY_FILE", keys)
	for _, tt := range []struct {
		name, file, key string
		env             map[string]string
		lines           bool
		want            string
		err             string
		unread          bool
	}{
		{"text", "all.yaml", "users.1.password", good, false, "s3 cret: #1", "", false},
		{"number", "all.yaml", "postgres.pool", good, false, "20", "", false},
		{"truth", "all.yaml", "postgres.enabled", good, false, "true", "", false},
		{"dotenv", "all.env", "TOKEN", good, false, "s3cret-env", "", false},
		{"keys of a command", "all.env", "TOKEN", with("SOPS_AGE_KEY_CMD", "cat '"+keys+"'"), false, "s3cret-env", "", false},
		{"lines", "all.yaml", "users.0.password", good, true, "line one\nline two", "", false},
		{"lines of one", "all.yaml", "users.0.password", good, false, "", "key users.0.password of file " + filepath.Join(dir, "all.yaml") + " holds more than one line", false},
		{"empty", "all.yaml", "postgres.empty", good, false, "", "is empty", false},
		{"no such key", "all.yaml", "postgres.uri", good, false, "", "no such key: postgres.uri; postgres has", false},
		{"no such file", "none.yaml", "a", good, false, "", "none.yaml", false},
		{"not encrypted", "plain.yaml", "a", good, false, "", "file " + filepath.Join(dir, "plain.yaml") + " is not encrypted with sops", false},
		{"no keys", "all.yaml", "plain", with("", ""), false, "", "cannot be decrypted with any age key at hand; looked in " + filepath.Join(dir, "none", "sops", "age", "keys.txt"), true},
		{"damaged keys", "all.yaml", "plain", with("SOPS_AGE_KEY_FILE", filepath.Join(dir, "keys")), false, "", "SOPS_AGE_KEY_FILE (" + filepath.Join(dir, "keys") + ") has something that is not an age key", true},
		{"no file of keys", "all.yaml", "plain", with("SOPS_AGE_KEY_FILE", filepath.Join(dir, "nothing")), false, "", "SOPS_AGE_KEY_FILE: open", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Resolver{Dir: dir, LookupEnv: func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok && name != "" }}
			p := r.Pass(0)
			resolve := p.Resolve
			if tt.lines {
				resolve = p.ResolveText
			}
			v, err := resolve(t.Context(), forge.SecretRef{SOPS: &forge.SOPSRef{File: tt.file, Key: tt.key}})
			switch {
			case tt.err == "" && (err != nil || string(v.Reveal()) != tt.want):
				t.Errorf("another value, or %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "line one")):
				t.Errorf("%v, want %q", err, tt.err)
			case Unread(err) != tt.unread:
				t.Errorf("unread is %v: %v", Unread(err), err)
			}
		})
	}
}

func TestField(t *testing.T) {
	for _, tt := range []struct{ url, field, want, err string }{
		{"postgres://ada:p%40ss@db.acme.dev:6543/shop?sslmode=require", "user", "ada", ""},
		{"postgres://ada:p%40ss@db.acme.dev:6543/shop", "password", "p@ss", ""},
		{"postgres://ada:p%40ss@db.acme.dev:6543/shop", "host", "db.acme.dev", ""},
		{"postgres://ada@[2001:db8::1]/shop", "host", "[2001:db8::1]", ""},
		{"postgres://db:6543/shop", "port", "6543", ""},
		{"postgresql://db/shop", "port", "5432", ""},
		{"rediss://db/0", "port", "6379", ""},
		{"https://db/", "port", "443", ""},
		{"postgres://db/my%20shop", "path", "my shop", ""},
		{"amqp://db", "port", "", "is a URL without port"},
		{"postgres://db", "user", "", "is a URL without user"},
		{"postgres://s3cret@db", "password", "", "is a URL without password"},
		{"postgres://s3cret@db", "path", "", "is a URL without path"},
		{"postgres://a:s3cret%zz@db", "user", "", "is not a URL"},
		{"s3cret", "user", "", "is not a URL"},
		{"postgres:s3cret", "user", "", "is not a URL"},
		{"", "user", "", "is not a URL"},
		{"postgres://s3cret@db", "colour", "", `no part called "colour"`},
	} {
		v, err := Field(New([]byte(tt.url)), tt.field)
		switch {
		case tt.err == "" && (err != nil || string(v.Reveal()) != tt.want):
			t.Errorf("%s of %s: another value, or %v", tt.field, tt.url, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "line one")):
			t.Errorf("%s of %s: %v", tt.field, tt.url, err)
		}
	}
}
