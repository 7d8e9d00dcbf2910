package sops

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
)

// The files in testdata were encrypted by the library of SOPS; hack/sops makes
// them.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keys(t testing.TB) []age.Identity {
	t.Helper()
	ids, err := parseKeys(string(fixture(t, "keys.txt")))
	if err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	return ids
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct{ file, path, want, err string }{
		{"all.yaml", "postgres.url", "postgres://shop:p%40ss@db:5432/shop", ""},
		{"all.yaml", "postgres.pool", "20", ""},
		{"all.yaml", "postgres.ratio", "0.25", ""},
		{"all.yaml", "postgres.enabled", "true", ""},
		{"all.yaml", "postgres.since", "2026-11-03T12:30:00Z", ""},
		{"all.yaml", "postgres.empty", "", ""},
		{"all.yaml", "users.1.password", "s3 cret: #1", ""},
		{"all.yaml", "tls.crt", "with a dot", ""},
		{"all.yaml", "quoted key", "block\nof text\n", ""},
		{"all.json", "postgres.port", "5432", ""},
		{"all.json", "list.1.b", "true", ""},
		{"all.env", "TOKEN", "s3cret-env", ""},
		{"all.env", "LINES", "one\ntwo", ""},
		{"all.ini", "db.password", "s3cret-ini", ""},
		{"all.ini", "top", "1", ""},
		{"all.bin", "data", "s3cret-binary", ""},
		{"partly.yaml", "host", "db", ""},
		{"partly.yaml", "password", "s3cret", ""},

		{"all.yaml", "postgres", "", "has more than one value at key postgres: it has keys of its own, big, empty, enabled,"},
		{"all.yaml", "users", "", "has a list of 2 at key users"},
		{"all.yaml", "postgres.nothing", "", "has no value at key postgres.nothing"},
		{"all.yaml", "postgres.uri", "", "no such key: postgres.uri; postgres has big, empty,"},
		{"all.yaml", "users.2", "", "no such key: users.2; users is a list of 2"},
		{"all.yaml", "users.01", "", "no such key"},
		{"all.yaml", "users.-1", "", "no such key"},
		{"all.yaml", "postgres.url.x", "", "no such key"},
		{"all.yaml", "second", "", "no such key"}, // of another document
		{"all.yaml", "sops.mac", "", "no such key"},
		{"all.yaml", "postgres.", "", "no such key"},
		{"all.yaml", ".", "", "no such key"},
		{"all.json", "x", "", "no such key: x; the file has list, postgres"},
	} {
		doc, err := Open(fixture(t, tt.file), FormatOf(tt.file), keys(t))
		if err != nil {
			t.Fatalf("%s: %v", tt.file, err)
		}
		got, err := doc.Lookup(tt.path)
		switch {
		case tt.err == "" && (err != nil || string(got) != tt.want):
			t.Errorf("%s, %s: %q, %v", tt.file, tt.path, got, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s, %s: %v, want %q", tt.file, tt.path, err, tt.err)
		case err != nil && strings.HasPrefix(tt.err, "no such key") && !errors.Is(err, ErrNoKey):
			t.Errorf("%s, %s: %v is not ErrNoKey", tt.file, tt.path, err)
		}
	}
}

// A file that is not what it should be, plain ones among them, is refused, and
// the error has nothing of it but names of keys and numbers of lines.
func TestRefusals(t *testing.T) {
	const canary = "c4n4ry"
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	all := string(fixture(t, "all.yaml"))
	env := string(fixture(t, "all.env"))
	with := func(old, replacement string) string {
		if !strings.Contains(all, old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(all, old, replacement, 1)
	}
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	laughs := "a0: &a0 [" + canary + "]\n"
	for i := range 9 {
		n, next := string(rune('0'+i)), string(rune('1'+i))
		laughs += "a" + next + ": &a" + next + " [" + strings.TrimSuffix(strings.Repeat("*a"+n+", ", 10), ", ") + "]\n"
	}
	for _, tt := range []struct {
		name   string
		format Format
		data   string
		ids    []age.Identity
		is     error
		want   string
	}{
		{"no key", YAML, all, nil, ErrNoIdentity, ""},
		{"another key", YAML, all, []age.Identity{stranger}, ErrNoIdentity, ""},
		{"plain YAML", YAML, "password: " + canary + "\n", keys(t), ErrNotEncrypted, ""},
		{"plain JSON", JSON, `{"password": "` + canary + `"}`, keys(t), ErrNotEncrypted, ""},
		{"plain dotenv", DotEnv, "PASSWORD=" + canary, keys(t), ErrNotEncrypted, ""},
		{"plain INI", INI, "[a]\npassword = " + canary, keys(t), ErrNotEncrypted, ""},
		{"plain binary", Binary, canary, keys(t), ErrNotEncrypted, ""},
		{"empty", YAML, "", keys(t), ErrNotEncrypted, ""},
		{"sops is a text", YAML, "sops: " + canary, keys(t), ErrNotEncrypted, ""},
		{"no YAML", YAML, "a: b\n\t" + canary + ": {", keys(t), nil, "is not YAML"},
		{"no mapping", YAML, "- " + canary, keys(t), nil, "is not a mapping"},
		{"no JSON", JSON, "{\n\"a\": " + canary, keys(t), nil, "is not JSON: line 2"},
		{"half JSON", JSON, `{"a": "` + canary + `"`, keys(t), nil, "is not JSON"},
		{"two JSON", JSON, `{"sops":{}}{"a":1}`, keys(t), nil, "behind its end"},
		{"JSON list", JSON, `["` + canary + `"]`, keys(t), nil, "is not a mapping"},
		{"no dotenv", DotEnv, "A=b\n" + canary, keys(t), nil, "line 2"},
		{"no INI", INI, "[a]\n" + canary, keys(t), nil, "line 2"},
		{"no INI section", INI, "[" + canary, keys(t), nil, "line 1"},
		{"key twice in YAML", YAML, "a: 1\na: " + canary, keys(t), nil, `has the key "a" twice`},
		{"key twice in JSON", JSON, `{"a": 1, "a": 2}`, keys(t), nil, `has the key "a" twice`},
		{"key twice in dotenv", DotEnv, "A=1\nA=2", keys(t), nil, `has the key "A" twice`},
		{"section twice", INI, "[a]\n[a]\n", keys(t), nil, `has the key "a" twice`},
		{"key that is no text", YAML, "1: " + canary, keys(t), nil, "line 1"},
		{"deep JSON", JSON, `{"a":` + deep + `}`, keys(t), errTooLarge, ""},
		{"deep YAML", YAML, "a: " + deep, keys(t), errTooLarge, ""},
		{"billion laughs", YAML, laughs, keys(t), errTooLarge, ""},
		{"a value in plain", YAML, with("    pool: ENC[", "    pool: 7 #"), keys(t), ErrChanged, ""},
		{"no MAC", YAML, with("    mac: ", "    cam: "), keys(t), ErrChanged, ""},
		{"plain MAC", YAML, with("    mac: ENC[", "    mac: ENC["+"x"), keys(t), ErrChanged, ""},
		{"no time", YAML, with("    lastmodified: ", "    modified: "), keys(t), nil, "no time"},
		{"no age", YAML, with("    age:\n", "    agge:\n"), keys(t), nil, "not encrypted for any age key"},
		{"other keys", YAML, with("    age:\n", "    pgp:\n"), keys(t), nil, "is encrypted for pgp, and forged reads age keys only"},
		{"groups", YAML, with("sops:\n", "sops:\n    key_groups:\n        - age: []\n        - age: [{enc: x}]\n"), keys(t), nil, "key_groups"},
		{"comments", YAML, with("    unencrypted_suffix: ", "    encrypted_comment_regex: x\n    unused: "), keys(t), nil, "encrypted_comment_regex"},
		{"two rules", YAML, with("    unencrypted_suffix: ", "    encrypted_regex: x\n    unencrypted_suffix: "), keys(t), nil, "more than one rule"},
		{"bad rule", YAML, with("    unencrypted_suffix: _unencrypted", "    encrypted_regex: \"(\""), keys(t), nil, "encrypted_regex"},
		{"damaged key", YAML, with("YWdlLWVuY3J5cHRpb24", "XWdlLWVuY3J5cHRpb24"), keys(t), nil, "age cannot read"},
		{"bad flag", DotEnv, env + "sops_mac_only_encrypted=" + canary + "\n", keys(t), nil, "mac_only_encrypted"},
	} {
		doc, err := Open([]byte(tt.data), tt.format, tt.ids)
		switch {
		case err == nil:
			t.Errorf("%s: read, as %d keys", tt.name, len(doc.root))
		case tt.is != nil && !errors.Is(err, tt.is), !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: %v", tt.name, err)
		case strings.Contains(err.Error(), canary):
			t.Errorf("%s: quotes the content: %v", tt.name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	ids := make([]*age.X25519Identity, 5)
	for i := range ids {
		var err error
		if ids[i], err = age.GenerateX25519Identity(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "mine.txt")
	user := filepath.Join(dir, "config", "sops", "age", "keys.txt")
	if err := os.MkdirAll(filepath.Dir(user), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, id := range map[string]*age.X25519Identity{file: ids[2], user: ids[4]} {
		if err := os.WriteFile(path, []byte("# created: today\n"+id.String()+"\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ran []string
	run := func(_ context.Context, argv []string) ([]byte, error) {
		ran = argv
		return []byte(ids[3].String() + "\n"), nil
	}
	for _, tt := range []struct {
		name  string
		env   map[string]string
		want  []*age.X25519Identity
		where string
		err   string
	}{
		{"all", map[string]string{
			"SOPS_AGE_KEY": ids[0].String() + " " + ids[1].String(), "SOPS_AGE_KEY_FILE": file,
			"SOPS_AGE_KEY_CMD": `get-key --name "my key" it\'s ''`, "XDG_CONFIG_HOME": filepath.Join(dir, "config"),
		}, ids, "SOPS_AGE_KEY, SOPS_AGE_KEY_FILE (" + file + "), SOPS_AGE_KEY_CMD, " + user, ""},
		{"none", map[string]string{"XDG_CONFIG_HOME": dir}, nil, filepath.Join(dir, "sops", "age", "keys.txt"), ""},
		{"empty variable", map[string]string{"SOPS_AGE_KEY": "", "XDG_CONFIG_HOME": dir}, nil, "SOPS_AGE_KEY, " + filepath.Join(dir, "sops", "age", "keys.txt"), ""},
		{"no such file", map[string]string{"SOPS_AGE_KEY_FILE": filepath.Join(dir, "none")}, nil, "", "SOPS_AGE_KEY_FILE: open "},
		{"directory", map[string]string{"SOPS_AGE_KEY_FILE": dir}, nil, "", "is a directory"},
		{"not a key", map[string]string{"SOPS_AGE_KEY": "c4n4ry"}, nil, "", "SOPS_AGE_KEY has something that is not an age key"},
		{"damaged", map[string]string{"SOPS_AGE_KEY": ids[0].String() + "C4N4RY"}, nil, "", "SOPS_AGE_KEY has an age key that is damaged"},
		{"plugin", map[string]string{"SOPS_AGE_KEY": "AGE-PLUGIN-C4N4RY"}, nil, "", "age plugin"},
		{"bad command", map[string]string{"SOPS_AGE_KEY_CMD": `get "c4n4ry`}, nil, "", "SOPS_AGE_KEY_CMD: a quote"},
		{"no command", map[string]string{"SOPS_AGE_KEY_CMD": ` `}, nil, "", "names no command"},
	} {
		k := Keys{LookupEnv: func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }, Run: run}
		if tt.env["XDG_CONFIG_HOME"] == "" {
			tt.env["XDG_CONFIG_HOME"] = filepath.Join(dir, "nothing")
		}
		got, where, err := k.Identities(t.Context())
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(strings.ToLower(err.Error()), "c4n4ry") {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || where != tt.where || len(got) != len(tt.want) {
			t.Errorf("%s: %d keys of %q, %v", tt.name, len(got), where, err)
			continue
		}
		for i, id := range tt.want {
			if got[i].(*age.X25519Identity).String() != id.String() {
				t.Errorf("%s: key %d is another one", tt.name, i)
			}
		}
	}
	if want := []string{"get-key", "--name", "my key", "it's", ""}; !slices.Equal(ran, want) {
		t.Errorf("ran %q", ran)
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"all.yaml", "all.json", "all.env", "all.ini", "all.bin", "partly.yaml"} {
		f.Add(fixture(f, name), string(FormatOf(name)), "postgres.url")
	}
	f.Add([]byte("a: &a [*a]"), "yaml", "a.0")
	f.Add([]byte("[s]\nk = \"\"\"x\n"), "ini", "s.k")
	ids := keys(f)
	f.Fuzz(func(t *testing.T, data []byte, format, path string) {
		doc, err := Open(data, Format(format), ids)
		if err != nil {
			return
		}
		if v, err := doc.Lookup(path); err == nil && bytes.HasPrefix(v, []byte("ENC[AES256_GCM")) && !bytes.Contains(data, []byte("_regex")) && !bytes.Contains(data, []byte("suffix")) {
			t.Errorf("a value that was not decrypted: %q", v)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	data, ids := fixture(b, "all.yaml"), keys(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(data, YAML, ids); err != nil {
			b.Fatal(err)
		}
	}
}
