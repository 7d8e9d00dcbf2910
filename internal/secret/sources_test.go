package secret

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/secret/sopstest"
)

// onlyKeys leaves no keys of the machine but what one variable says.
func onlyKeys(t *testing.T, name, value string) {
	t.Helper()
	nowhere := filepath.Join(t.TempDir(), "none")
	t.Setenv("HOME", nowhere)
	t.Setenv("XDG_CONFIG_HOME", nowhere)
	for _, other := range []string{"SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_KEY_CMD"} {
		t.Setenv(other, "") // so that it is set back
		os.Unsetenv(other)
	}
	if name != "" {
		t.Setenv(name, value)
	}
}

func TestEncryptedFiles(t *testing.T) {
	dir := t.TempDir()
	identity, recipient := sopstest.Key(t)
	whole := sopstest.Encrypt(t, "all.yaml", `postgres: {uri_unencrypted: db, pool: 20, enabled: true, empty: ""}
users: [{password: "line one\nline two"}, {password: "s3 cret: #1"}]
`, nil, recipient)
	for name, text := range map[string][]byte{
		"all.yaml":     whole,
		"changed.yaml": bytes.Replace(whole, []byte("db"), []byte("s3cret"), 1),
		"all.env":      sopstest.Encrypt(t, "all.env", "TOKEN=s3cret-env\n", nil, recipient),
		"plain.yaml":   []byte("a: s3cret\n"),
		"keys":         []byte(identity + "\n"),
		"damaged":      []byte("s3cret"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string) string { return "file " + filepath.Join(dir, name) }
	for _, tt := range []struct {
		name, file, key string
		variable, value string // where the keys are; none: SOPS_AGE_KEY
		lines           bool
		want            string
		err             string
		unread          bool
	}{
		{"text", "all.yaml", "users.1.password", "", "", false, "s3 cret: #1", "", false},
		{"number", "all.yaml", "postgres.pool", "", "", false, "20", "", false},
		{"truth", "all.yaml", "postgres.enabled", "", "", false, "true", "", false},
		{"dotenv", "all.env", "TOKEN", "", "", false, "s3cret-env", "", false},
		{"keys of a file", "all.env", "TOKEN", "SOPS_AGE_KEY_FILE", filepath.Join(dir, "keys"), false, "s3cret-env", "", false},
		{"keys of a command", "all.env", "TOKEN", "SOPS_AGE_KEY_CMD", "cat '" + filepath.Join(dir, "keys") + "'", false, "s3cret-env", "", false},
		{"lines", "all.yaml", "users.0.password", "", "", true, "line one\nline two", "", false},
		{"lines of one", "all.yaml", "users.0.password", "", "", false, "", "key users.0.password of " + file("all.yaml") + " holds more than one line", false},
		{"empty", "all.yaml", "postgres.empty", "", "", false, "", "is empty", false},
		{"no such key", "all.yaml", "postgres.uri", "", "", false, "", file("all.yaml") + " has no such key: postgres.uri; postgres has", false},
		{"no such file", "none.yaml", "a", "", "", false, "", "none.yaml", false},
		{"not encrypted", "plain.yaml", "a", "", "", false, "", file("plain.yaml") + " is not encrypted with sops", false},
		{"changed", "changed.yaml", "postgres.pool", "", "", false, "", file("changed.yaml") + " was changed after it was encrypted", false},
		{"no keys", "all.yaml", "plain", "HOME", "/none", false, "", file("all.yaml") + " cannot be decrypted with any key at hand: age: ", true},
		{"damaged keys", "all.yaml", "plain", "SOPS_AGE_KEY_FILE", filepath.Join(dir, "damaged"), false, "", "SOPS_AGE_KEY_FILE", true},
		{"no file of keys", "all.yaml", "plain", "SOPS_AGE_KEY_FILE", filepath.Join(dir, "nothing"), false, "", "SOPS_AGE_KEY_FILE file: open", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.variable == "" {
				tt.variable, tt.value = "SOPS_AGE_KEY", identity
			}
			onlyKeys(t, tt.variable, tt.value)
			p := (&Resolver{Dir: dir}).Pass(0)
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

// What a key service does not say is not known, and worth asking again.
func TestKeyServiceGivesNothing(t *testing.T) {
	dir := t.TempDir()
	_, recipient := sopstest.Key(t)
	onlyKeys(t, "SOPS_HC_VAULT_ALLOWLIST", "none")
	vault := `    hc_vault:
        - {vault_address: "http://vault.example", engine_path: transit, key_name: shop, created_at: "2026-11-03T12:30:00Z", enc: x}
    unused:
`
	text := bytes.Replace(sopstest.Encrypt(t, "a.yaml", "k: s3cret\n", nil, recipient), []byte("    age:\n"), []byte(vault), 1)
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (&Resolver{Dir: dir}).Resolve(t.Context(), forge.SecretRef{SOPS: &forge.SOPSRef{File: "a.yaml", Key: "k"}})
	want := "file " + filepath.Join(dir, "a.yaml") + " cannot be decrypted now: hc_vault http://vault.example/"
	if !Unread(err) || !MayPass(err) || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "Allowlist does not allow http://vault.example") {
		t.Errorf("%v, want %q", err, want)
	}
}

// The key of a file is asked for again when the file changes, and once a pass
// when there was none.
func TestKeysAreAskedForOnce(t *testing.T) {
	dir := t.TempDir()
	identity, recipient := sopstest.Key(t)
	asked := filepath.Join(dir, "asked")
	program := filepath.Join(dir, "key")
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	gives := func(key string) { write(program, "#!/bin/sh\necho x >>"+asked+"\necho '"+key+"'\n", 0o700) }
	encrypted := func(plain string) {
		write(filepath.Join(dir, "a.yaml"), string(sopstest.Encrypt(t, "a.yaml", plain, nil, recipient)), 0o600)
	}
	onlyKeys(t, "SOPS_AGE_KEY_CMD", program)
	r := &Resolver{Dir: dir}
	pass := func(want string, times int) {
		t.Helper()
		p := r.Pass(0)
		for range 2 {
			v, err := p.Resolve(t.Context(), forge.SecretRef{SOPS: &forge.SOPSRef{File: "a.yaml", Key: "k"}})
			if string(v.Reveal()) != want || (err == nil) != (want != "") {
				t.Errorf("another value, or %v", err)
			}
		}
		if b, err := os.ReadFile(asked); err != nil || bytes.Count(b, []byte("\n")) != times {
			t.Errorf("asked %d times, want %d", bytes.Count(b, []byte("\n")), times)
		}
	}
	gives("# none")
	encrypted("k: one\n")
	pass("", 1)
	pass("", 2)
	gives(identity)
	pass("one", 3)
	pass("one", 3)
	encrypted("k: two\n")
	pass("two", 4)
	gives("# none")
	pass("two", 4)
	encrypted("k: three\n")
	pass("", 5)
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
