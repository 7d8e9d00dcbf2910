package sops

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	library "github.com/getsops/sops/v3"

	"forged.dev/forged/internal/secret/sopstest"
)

// key makes the one age key that there is in a test, and returns for whom to
// encrypt.
func key(t testing.TB) (recipient string) {
	t.Helper()
	identity, recipient := sopstest.Key(t)
	only(t, "SOPS_AGE_KEY", identity)
	return recipient
}

// only leaves nothing of the machine's keys but what one variable says.
func only(t testing.TB, name, value string) {
	t.Helper()
	nowhere := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{"HOME": nowhere, "XDG_CONFIG_HOME": nowhere, "GNUPGHOME": nowhere} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_CMD", "VAULT_TOKEN"} {
		t.Setenv(name, "") // so that it is set back
		os.Unsetenv(name)
	}
	if name != "" {
		t.Setenv(name, value)
	}
}

const yamlText = `# what the shop needs
postgres:
  url: postgres://shop:p%40ss@db:5432/shop # the main one
  pool: 20
  ratio: 0.25
  tiny: 1e-7
  enabled: true
  off: false
  note_unencrypted: readable
  since: 2026-11-03T12:30:00Z
  nothing: null
  empty: ""
users:
  # the first
  - name: ada
    password: "line one\nline two\n"
  - name: bob # inline
    password: "s3 cret: #1"
  # the last
plain: &anchor zwölf € 漢字
again: *anchor
tls.crt: with a dot
"quoted key": |
  block
  of text
octal: 0o17
text_number: "0123"
list: [a, [b, c], {d: e}]
---
second: document
`

func TestLookup(t *testing.T) {
	to := key(t)
	files := map[string][]byte{}
	for name, plain := range map[string]string{
		"all.yaml": yamlText,
		"all.yml":  "k: v\n",
		"all.json": `{"postgres": {"url": "postgres://db", "port": 5432, "big": 9007199254740993}, "list": ["a", {"b": true}]}`,
		"all.env":  "# a comment\nTOKEN=a=b c\nLINES=one\\ntwo\nEMPTY=\nHOST_unencrypted=db\n",
		"all.ini":  "top = 1\n[db]\n; a comment\npassword = `a#b;c`\nquoted = \"x y\"\n[db.replica]\nhost_unencrypted = `c ; d`\n",
		"all.bin":  "any\nbytes \x01",
		"none":     "no ending",
	} {
		files[name] = sopstest.Encrypt(t, name, plain, nil, to)
	}
	for _, tt := range []struct{ file, path, want, err string }{
		{"all.yaml", "postgres.url", "postgres://shop:p%40ss@db:5432/shop", ""},
		{"all.yaml", "postgres.pool", "20", ""},
		{"all.yaml", "postgres.ratio", "0.25", ""},
		{"all.yaml", "postgres.tiny", "0.0000001", ""},
		{"all.yaml", "postgres.enabled", "true", ""},
		{"all.yaml", "postgres.off", "false", ""},
		{"all.yaml", "postgres.note_unencrypted", "readable", ""},
		{"all.yaml", "postgres.since", "2026-11-03T12:30:00Z", ""},
		{"all.yaml", "postgres.empty", "", ""},
		{"all.yaml", "users.0.name", "ada", ""},
		{"all.yaml", "users.0.password", "line one\nline two\n", ""},
		{"all.yaml", "users.1.password", "s3 cret: #1", ""},
		{"all.yaml", "plain", "zwölf € 漢字", ""},
		{"all.yaml", "again", "zwölf € 漢字", ""},
		{"all.yaml", "tls.crt", "with a dot", ""},
		{"all.yaml", "quoted key", "block\nof text\n", ""},
		{"all.yaml", "octal", "15", ""},
		{"all.yaml", "text_number", "0123", ""},
		{"all.yaml", "list.0", "a", ""},
		{"all.yaml", "list.1.1", "c", ""},
		{"all.yaml", "list.2.d", "e", ""},
		{"all.yml", "k", "v", ""},
		{"all.json", "postgres.port", "5432", ""},
		{"all.json", "postgres.big", "9007199254740993", ""},
		{"all.json", "list.0", "a", ""},
		{"all.json", "list.1.b", "true", ""},
		{"all.env", "TOKEN", "a=b c", ""},
		{"all.env", "LINES", "one\ntwo", ""},
		{"all.env", "EMPTY", "", ""},
		{"all.env", "HOST_unencrypted", "db", ""},
		{"all.ini", "top", "1", ""},
		{"all.ini", "DEFAULT.top", "1", ""},
		{"all.ini", "db.password", "a#b;c", ""},
		{"all.ini", "db.quoted", "x y", ""},
		{"all.ini", "db.replica.host_unencrypted", "c ; d", ""},
		{"all.bin", "data", "any\nbytes \x01", ""},
		{"none", "data", "no ending", ""},

		{"all.yaml", "postgres", "", "has more than one value at key postgres: it has keys of its own, empty, enabled,"},
		{"all.yaml", "users", "", "has a list of 2 at key users"},
		{"all.yaml", "postgres.nothing", "", "has no value at key postgres.nothing"},
		{"all.yaml", "postgres.uri", "", "no such key: postgres.uri; postgres has empty, enabled,"},
		{"all.yaml", "users.2", "", "no such key: users.2; users is a list of 2"},
		{"all.yaml", "users.01", "", "no such key"},
		{"all.yaml", "users.-1", "", "no such key"},
		{"all.yaml", "postgres.url.x", "", "no such key"},
		{"all.yaml", "second", "", "no such key"}, // of another document
		{"all.yaml", "sops.mac", "", "no such key"},
		{"all.yaml", "postgres.", "", "no such key"},
		{"all.yaml", ".", "", "no such key"},
		{"all.json", "x", "", "no such key: x; the file has list, postgres"},
		{"all.env", "sops_mac", "", "no such key: sops_mac; the file has EMPTY, HOST_unencrypted, LINES, TOKEN"},
	} {
		doc, err := new(Opener).Open(t.Context(), tt.file, files[tt.file])
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

// What is encrypted in a file is for the file to say.
func TestRules(t *testing.T) {
	to := key(t)
	for name, rules := range map[string]func(*library.Metadata){
		"unencrypted suffix":  func(m *library.Metadata) { m.UnencryptedSuffix = "_plain" },
		"encrypted suffix":    func(m *library.Metadata) { m.UnencryptedSuffix, m.EncryptedSuffix = "", "word" },
		"encrypted regex":     func(m *library.Metadata) { m.UnencryptedSuffix, m.EncryptedRegex = "", "^pass" },
		"unencrypted regex":   func(m *library.Metadata) { m.UnencryptedSuffix, m.UnencryptedRegex = "", "^(host|host_plain)$" },
		"encrypted comment":   func(m *library.Metadata) { m.UnencryptedSuffix, m.EncryptedCommentRegex = "", "hide" },
		"unencrypted comment": func(m *library.Metadata) { m.UnencryptedSuffix, m.UnencryptedCommentRegex = "", "show" },
		"only encrypted": func(m *library.Metadata) {
			m.UnencryptedSuffix, m.EncryptedRegex, m.MACOnlyEncrypted = "", "^pass", true
		},
	} {
		data := sopstest.Encrypt(t, "a.yaml", "# show\nhost_plain: db\n# hide\npassword: s3cret\n", rules, to)
		if bytes.Contains(data, []byte("s3cret")) {
			t.Errorf("%s: it is not encrypted:\n%s", name, data)
		}
		doc, err := new(Opener).Open(t.Context(), "a.yaml", data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for path, want := range map[string]string{"host_plain": "db", "password": "s3cret"} {
			if got, err := doc.Lookup(path); err != nil || string(got) != want {
				t.Errorf("%s: %s is %q, %v", name, path, got, err)
			}
		}
	}
}

// A file that is not what it should be, plain ones among them, is refused, and
// the error has nothing of the content.
func TestRefusals(t *testing.T) {
	const canary = "c4n4ry"
	to := key(t)
	deep := strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000)
	laughs := "a0: &a0 [" + canary + "]\n"
	for i := range 9 {
		n, next := string(rune('0'+i)), string(rune('1'+i))
		laughs += "a" + next + ": &a" + next + " [" + strings.TrimSuffix(strings.Repeat("*a"+n+", ", 10), ", ") + "]\n"
	}
	whole := string(sopstest.Encrypt(t, "a.yaml", "a: one\nb: two\nc_unencrypted: three\nl:\n    - x\n    - y\n", nil, to))
	line := func(prefix string) string {
		for l := range strings.Lines(whole) {
			if strings.HasPrefix(l, prefix) {
				return l
			}
		}
		t.Fatalf("no line %q in\n%s", prefix, whole)
		return ""
	}
	with := func(oldnew ...string) string {
		changed := strings.NewReplacer(oldnew...).Replace(whole)
		if changed == whole {
			t.Fatalf("there is no %q", oldnew)
		}
		return changed
	}
	a, b, mac := line("a: "), line("b: "), line("    mac: ")
	items := strings.Split(whole[strings.Index(whole, "    - "):strings.Index(whole, "sops:")], "\n")
	for _, tt := range []struct {
		name, file, data string
		is               error
	}{
		{"plain YAML", "a.yaml", "password: " + canary + "\n", ErrNotEncrypted},
		{"plain JSON", "a.json", `{"password": "` + canary + `"}`, ErrNotEncrypted},
		{"plain dotenv", "a.env", "PASSWORD=" + canary, ErrNotEncrypted},
		{"plain INI", "a.ini", "[a]\npassword = " + canary, ErrNotEncrypted},
		{"plain binary", "a", canary, ErrNotEncrypted},
		{"empty", "a.yaml", "", ErrNotEncrypted},
		{"empty, of another format", "a", "", ErrNotEncrypted},
		{"sops is a text", "a.yaml", "sops: " + canary, ErrDamaged},
		{"no YAML", "a.yaml", "a: b\n\t" + canary + ": {", ErrDamaged},
		{"no mapping", "a.yaml", "- " + canary, ErrDamaged},
		{"no JSON", "a.json", "{\n\"a\": " + canary, ErrDamaged},
		{"half JSON", "a.json", `{"a": "` + canary + `"`, ErrDamaged},
		{"two JSON", "a.json", `{"sops":{}}{"a":1}`, ErrDamaged},
		{"JSON list", "a.json", `["` + canary + `"]`, ErrDamaged},
		{"no dotenv", "a.env", "A=b\n" + canary, ErrDamaged},
		{"no INI", "a.ini", "[a]\n" + canary, ErrDamaged},
		{"key twice", "a.yaml", "a: 1\na: " + canary, ErrDamaged},
		{"deep JSON", "a.json", `{"a":` + deep + `}`, ErrDamaged},
		{"deep YAML", "a.yaml", "a: " + deep, ErrDamaged},
		{"aliases of aliases", "a.yaml", laughs, ErrDamaged},
		{"aliases of aliases, further down", "a.yaml", whole + "---\n" + laughs, ErrDamaged},
		{"an alias of itself", "a.yaml", whole + "---\na: &a [*a]\n", ErrDamaged},
		{"no keys", "a.yaml", with("    age:\n", "    agge:\n"), ErrDamaged},
		{"no time", "a.yaml", with("    lastmodified: ", "    modified: "), ErrDamaged},
		{"two rules", "a.yaml", with("    unencrypted_suffix: ", "    encrypted_regex: x\n    unencrypted_suffix: "), ErrDamaged},
		{"another type", "a.yaml", with(a, strings.Replace(a, "type:str", "type:bytes", 1)), ErrDamaged},
		{"damaged key", "a.yaml", with("YWdlLWVuY3J5cHRpb24", "XWdlLWVuY3J5cHRpb24"), ErrNoIdentity},

		{"values swapped", "a.yaml", with(a, "a: "+b[3:], b, "b: "+a[3:]), ErrChanged},
		{"lines swapped", "a.yaml", with(a, b, b, a), ErrChanged},
		{"a line gone", "a.yaml", with(b, ""), ErrChanged},
		{"a line more", "a.yaml", with(b, b+"c: "+b[3:]), ErrChanged},
		{"items swapped", "a.yaml", with(items[0], items[1], items[1], items[0]), ErrChanged},
		{"in plain", "a.yaml", with(a, "a: "+canary+"\n"), ErrChanged},
		{"a number", "a.yaml", with(a, "a: 1\n"), ErrChanged},
		{"what was readable", "a.yaml", with("three", canary), ErrChanged},
		{"no MAC", "a.yaml", with(mac, ""), ErrChanged},
		{"empty MAC", "a.yaml", with(mac, "    mac: \"\"\n"), ErrChanged},
		{"MAC of a value", "a.yaml", with(mac, "    mac: "+a[3:]), ErrChanged},
		{"plain MAC", "a.yaml", with(mac, "    mac: "+canary+"\n"), ErrChanged},
		{"later", "a.yaml", with(line("    lastmodified: "), "    lastmodified: \""+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+"\"\n"), ErrChanged},
		{"another rule", "a.yaml", with(line("    unencrypted_suffix: "), "    unencrypted_suffix: a\n"), ErrChanged},
		{"a rule that is none", "a.yaml", with(line("    unencrypted_suffix: "), "    encrypted_regex: \"(\"\n"), ErrChanged},
	} {
		_, err := new(Opener).Open(t.Context(), tt.file, []byte(tt.data))
		switch {
		case !errors.Is(err, tt.is):
			t.Errorf("%s: %v, want %v", tt.name, err, tt.is)
		case strings.Contains(err.Error(), canary), strings.Contains(err.Error(), "ENC["):
			t.Errorf("%s: quotes the content: %v", tt.name, err)
		}
	}
	if _, err := new(Opener).Open(t.Context(), "a.yaml", []byte(whole)); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	to := key(f)
	for name, plain := range map[string]string{"a.yaml": yamlText, "a.json": `{"a": [1]}`, "a.env": "A=b\n", "a.ini": "[a]\nb = c\n", "a": "x"} {
		f.Add(sopstest.Encrypt(f, name, plain, nil, to), name, "postgres.url")
	}
	f.Add([]byte("a: &a [*a]"), "a.yaml", "a.0")
	f.Add([]byte("[s]\nk = \"\"\"x\n"), "a.ini", "s.k")
	f.Fuzz(func(t *testing.T, data []byte, name, path string) {
		for _, kind := range []string{"kms", "azure", "vault", "pgp"} {
			if bytes.Contains(data, []byte(kind)) {
				return // would ask somebody
			}
		}
		doc, err := new(Opener).Open(t.Context(), name, data)
		if err != nil {
			return
		}
		if v, err := doc.Lookup(path); err == nil && bytes.HasPrefix(v, []byte("ENC[AES256_GCM")) && !bytes.Contains(data, []byte("_regex")) && !bytes.Contains(data, []byte("suffix")) {
			t.Errorf("a value that was not decrypted: %q", v)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	data := sopstest.Encrypt(b, "a.yaml", yamlText, nil, key(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := new(Opener).Open(b.Context(), "a.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}
