package sopscheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	agekeys "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/cmd/sops/common"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/decrypt"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
	"github.com/getsops/sops/v3/version"

	"forged.dev/forged/internal/secret/sops"
)

func store(format sops.Format) common.Store {
	switch format {
	case sops.YAML:
		return yaml.NewStore(&config.YAMLStoreConfig{})
	case sops.JSON:
		return sopsjson.NewStore(&config.JSONStoreConfig{})
	case sops.DotEnv:
		return dotenv.NewStore(&config.DotenvStoreConfig{})
	case sops.INI:
		return ini.NewStore(&config.INIStoreConfig{})
	}
	return sopsjson.NewBinaryStore(&config.JSONBinaryStoreConfig{})
}

// encrypt is what `sops encrypt` does.
func encrypt(t testing.TB, format sops.Format, plain string, rules func(*library.Metadata), recipients ...string) []byte {
	t.Helper()
	s := store(format)
	branches, err := s.LoadPlainFile([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	var group library.KeyGroup
	for _, r := range recipients {
		key, err := agekeys.MasterKeyFromRecipient(r)
		if err != nil {
			t.Fatal(err)
		}
		group = append(group, key)
	}
	tree := library.Tree{Branches: branches, Metadata: library.Metadata{
		KeyGroups: []library.KeyGroup{group}, UnencryptedSuffix: library.DefaultUnencryptedSuffix, Version: version.Version,
	}}
	if rules != nil {
		rules(&tree.Metadata)
	}
	key, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewLocalClient()})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if err := common.EncryptTree(common.EncryptTreeOpts{DataKey: key, Tree: &tree, Cipher: aes.NewCipher()}); err != nil {
		t.Fatal(err)
	}
	out, err := s.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func open(t testing.TB, format sops.Format, data []byte, ids ...age.Identity) *sops.Document {
	t.Helper()
	doc, err := sops.Open(data, format, ids)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return doc
}

func want(t testing.TB, doc *sops.Document, values map[string]string) {
	t.Helper()
	for path, value := range values {
		got, err := doc.Lookup(path)
		if err != nil || string(got) != value {
			t.Errorf("%s: %q, %v; want %q", path, got, err, value)
		}
	}
}

const yamlText = `# what the shop needs
postgres:
  url: postgres://shop:p%40ss@db:5432/shop # the main one
  pool: 20
  ratio: 0.25
  tiny: 1e-7
  big: 12345678901234567890.5
  enabled: true
  off: false
  note_unencrypted: readable
  since: 2026-11-03T12:30:00Z
  nothing: null
  empty: ""
  list_empty: []
  map_empty: {}
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
hex: 0xff
text_number: "0123"
list: [a, [b, c], {d: e}]
---
second: document
`

func TestYAML(t *testing.T) {
	id := identity(t)
	for name, rules := range map[string]func(*library.Metadata){
		"default":            nil,
		"unencrypted suffix": func(m *library.Metadata) { m.UnencryptedSuffix = "_plain" },
		"encrypted suffix":   func(m *library.Metadata) { m.UnencryptedSuffix, m.EncryptedSuffix = "", "password" },
		"encrypted regex":    func(m *library.Metadata) { m.UnencryptedSuffix, m.EncryptedRegex = "", "^(postgres|password)$" },
		"unencrypted regex":  func(m *library.Metadata) { m.UnencryptedSuffix, m.UnencryptedRegex = "", "^(users|octal)$" },
		"only encrypted":     func(m *library.Metadata) { m.MACOnlyEncrypted = true },
		"only encrypted, by regex": func(m *library.Metadata) {
			m.UnencryptedSuffix, m.EncryptedRegex, m.MACOnlyEncrypted = "", "^postgres$", true
		},
	} {
		t.Run(name, func(t *testing.T) {
			data := encrypt(t, sops.YAML, yamlText, rules, id.Recipient().String())
			want(t, open(t, sops.YAML, data, id), map[string]string{
				"postgres.url": "postgres://shop:p%40ss@db:5432/shop", "postgres.pool": "20", "postgres.ratio": "0.25",
				"postgres.tiny": "0.0000001", "postgres.big": "12345678901234567000", "postgres.enabled": "true", "postgres.off": "false",
				"postgres.note_unencrypted": "readable", "postgres.since": "2026-11-03T12:30:00Z", "postgres.empty": "",
				"users.0.name": "ada", "users.0.password": "line one\nline two\n", "users.1.password": "s3 cret: #1",
				"plain": "zwölf € 漢字", "again": "zwölf € 漢字", "tls.crt": "with a dot", "quoted key": "block\nof text\n",
				"octal": "15", "hex": "255", "text_number": "0123", "list.0": "a", "list.1.1": "c", "list.2.d": "e",
			})
		})
	}
}

func TestOtherFormats(t *testing.T) {
	id := identity(t)
	to := id.Recipient().String()
	want(t, open(t, sops.JSON, encrypt(t, sops.JSON, `{"a": {"b": ["x", 1, -2.5, true, null, {"c": "ü"}]}, "big": 9007199254740993, "e_unencrypted": 3}`, nil, to), id),
		map[string]string{"a.b.0": "x", "a.b.1": "1", "a.b.2": "-2.5", "a.b.3": "true", "a.b.5.c": "ü", "big": "9007199254740993", "e_unencrypted": "3"})
	want(t, open(t, sops.DotEnv, encrypt(t, sops.DotEnv, "# a comment\nTOKEN=a=b c\nLINES=one\\ntwo\nEMPTY=\nHOST_unencrypted=db\n", nil, to), id),
		map[string]string{"TOKEN": "a=b c", "LINES": "one\ntwo", "EMPTY": "", "HOST_unencrypted": "db"})
	want(t, open(t, sops.INI, encrypt(t, sops.INI, "top = 1\n[db]\n; a comment\nurl = postgres://shop@db\npassword = `a#b;c`\nquoted = \"x y\"\n\"k=ey\" = v\n[db.replica]\nhost_unencrypted = `c ; d`\nlines_unencrypted = \"\"\"one\ntwo\"\"\"\n", nil, to), id),
		map[string]string{"top": "1", "DEFAULT.top": "1", "db.url": "postgres://shop@db", "db.password": "a#b;c", "db.quoted": "x y", "db.k=ey": "v", "db.replica.host_unencrypted": "c ; d", "db.replica.lines_unencrypted": "one\ntwo"})
	want(t, open(t, sops.Binary, encrypt(t, sops.Binary, "any\nbytes \x00\x01", nil, to), id), map[string]string{"data": "any\nbytes \x00\x01"})
}

// One of several recipients is enough, and so are the newer, hybrid keys.
func TestRecipients(t *testing.T) {
	a, b, stranger := identity(t), identity(t), identity(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	data := encrypt(t, sops.YAML, "k: v\n", nil, a.Recipient().String(), b.Recipient().String(), hybrid.Recipient().String())
	for _, ids := range [][]age.Identity{{a}, {b}, {hybrid}, {stranger, b}} {
		want(t, open(t, sops.YAML, data, ids...), map[string]string{"k": "v"})
	}
	if _, err := sops.Open(data, sops.YAML, []age.Identity{stranger}); !errors.Is(err, sops.ErrNoIdentity) {
		t.Errorf("another key: %v", err)
	}
}

// Whatever the library refuses because it was changed is refused here, and the
// other way round.
func TestChangedFiles(t *testing.T) {
	id := identity(t)
	t.Setenv("SOPS_AGE_KEY", id.String())
	for _, format := range []sops.Format{sops.YAML, sops.JSON, sops.DotEnv, sops.INI} {
		plain := map[sops.Format]string{
			sops.YAML: "a: one\nb: two\nc_unencrypted: three\nd:\n  - x\n  - y\n", sops.JSON: `{"a": "one", "b": "two", "c_unencrypted": "three", "d": ["x", "y"]}`,
			sops.DotEnv: "a=one\nb=two\nc_unencrypted=three\n", sops.INI: "[s]\na = one\nb = two\nc_unencrypted = three\n",
		}[format]
		data := encrypt(t, format, plain, nil, id.Recipient().String())
		if _, err := decrypt.Data(data, string(format)); err != nil {
			t.Fatalf("the library does not read it: %v", err)
		}
		open(t, format, data, id)
		rng := rand.New(rand.NewPCG(7, uint64(len(format))))
		refused := 0
		for range 400 {
			changed := bytes.Clone(data)
			i := rng.IntN(len(changed))
			changed[i] = byte(' ' + rng.IntN(95))
			_, theirs := decrypt.Data(changed, string(format))
			doc, ours := sops.Open(changed, format, []age.Identity{id})
			// The library also reads what is of no use here: keys of other kinds.
			if ours == nil && theirs != nil && !strings.Contains(theirs.Error(), "unflattening") {
				t.Errorf("%s: byte %d changed to %q is read, and the library says %v", format, i, changed[i], theirs)
			}
			if ours != nil {
				refused++
				continue
			}
			// What is read must be what was encrypted; keys outside the part of
			// values, such as the recipient's name, may change.
			for path, value := range map[string]string{"a": "one", "b": "two", "c_unencrypted": "three"} {
				if format == sops.INI {
					path = "s." + path
				}
				if got, err := doc.Lookup(path); err == nil && string(got) != value {
					t.Errorf("%s: byte %d changed to %q: %s is %q", format, i, changed[i], path, got)
				}
			}
		}
		t.Logf("%s: %d of 400 changed files are refused", format, refused)
	}
}

// Values in another order or place are changes too.
func TestMovedValues(t *testing.T) {
	id := identity(t)
	data := string(encrypt(t, sops.YAML, "a: one\nb: two\nl:\n    - x\n    - y\n", nil, id.Recipient().String()))
	line := func(prefix string) string {
		for l := range strings.Lines(data) {
			if strings.HasPrefix(l, prefix) {
				return l
			}
		}
		t.Fatalf("no line %q in\n%s", prefix, data)
		return ""
	}
	a, b := line("a: "), line("b: ")
	items := strings.Split(data[strings.Index(data, "    - "):strings.Index(data, "sops:")], "\n")
	for name, changed := range map[string]string{
		"values swapped": strings.NewReplacer(a, "a: "+b[3:], b, "b: "+a[3:]).Replace(data),
		"lines swapped":  strings.NewReplacer(a, b, b, a).Replace(data),
		"a line gone":    strings.Replace(data, b, "", 1),
		"a line twice":   strings.Replace(data, b, b+"c: "+b[3:], 1),
		"items swapped":  strings.NewReplacer(items[0], items[1], items[1], items[0]).Replace(data),
		"in plain":       strings.Replace(data, a, "a: one\n", 1),
		"a number":       strings.Replace(data, a, "a: 1\n", 1),
		"no MAC":         strings.Replace(data, line("    mac: "), "", 1),
		"empty MAC":      strings.Replace(data, line("    mac: "), "    mac: \"\"\n", 1),
		"MAC of a value": strings.Replace(data, line("    mac: "), "    mac: "+a[3:], 1),
		"later":          strings.Replace(data, line("    lastmodified: "), "    lastmodified: \""+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+"\"\n", 1),
		"another rule":   strings.Replace(data, line("    unencrypted_suffix: "), "    unencrypted_suffix: a\n", 1),
	} {
		if changed == data {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := sops.Open([]byte(changed), sops.YAML, []age.Identity{id}); !errors.Is(err, sops.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Documents of any shape are read as the library reads them.
func TestRandomDocuments(t *testing.T) {
	id := identity(t)
	rng := rand.New(rand.NewPCG(3, 4))
	texts := []string{"", "x", "s3cret", "two\nlines", "true", "12", "0.5", "null", "~", "a: b", "# no comment", "ENC[AES256_GCM,data:x]", "ünï", "\t", " lead", "2026-01-02", "=", "'", `"`, `\n`}
	var value func(level int) any
	value = func(level int) any {
		switch n := rng.IntN(10); {
		case n < 2 && level < 4:
			m := map[string]any{}
			for i := range rng.IntN(4) {
				m[fmt.Sprintf("k%d%s", i, []string{"", "_unencrypted", ".x"}[rng.IntN(3)])] = value(level + 1)
			}
			return m
		case n < 3 && level < 4:
			list := []any{}
			for range rng.IntN(4) {
				list = append(list, value(level+1))
			}
			return list
		case n < 4:
			return rng.IntN(1 << 40)
		case n < 5:
			return rng.NormFloat64()
		case n < 6:
			return rng.IntN(2) == 0
		}
		return texts[rng.IntN(len(texts))]
	}
	for i := range 300 {
		top := map[string]any{"first": value(1), "second": value(1), "third": value(1)}
		plain, err := json.Marshal(top)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []sops.Format{sops.JSON, sops.YAML} { // JSON is YAML
			data := encrypt(t, format, string(plain), nil, id.Recipient().String())
			doc, err := sops.Open(data, format, []age.Identity{id})
			if err != nil {
				t.Fatalf("document %d as %s: %v\n%s\n%s", i, format, err, plain, data)
			}
			same(t, doc, "", top)
		}
	}
}

func same(t *testing.T, doc *sops.Document, path string, v any) {
	t.Helper()
	down := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			same(t, doc, down(name), x)
		}
	case []any:
		for i, x := range v {
			same(t, doc, down(fmt.Sprint(i)), x)
		}
	default:
		got, err := doc.Lookup(path)
		if f, ok := v.(float64); ok {
			var back float64
			if _, scan := fmt.Sscan(string(got), &back); err != nil || scan != nil || back != f {
				t.Errorf("%s: %q, %v; want %v", path, got, err, f)
			}
			return
		}
		if text := fmt.Sprint(v); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v; want %q", path, got, err, text)
		}
	}
}
