package sopscheck

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/decrypt"

	"forged.dev/forged/internal/secret/sops"
)

var update = flag.Bool("update", false, "write those files that the tests of internal/secret read and that are not there")

// The files that the tests of internal/secret read are made by the library,
// for a key that protects nothing else. What is there already must still be
// readable by it.
func TestFixtures(t *testing.T) {
	dir := filepath.Join("..", "..", "internal", "secret", "sops", "testdata")
	passwords := func(m *library.Metadata) { m.UnencryptedSuffix, m.EncryptedRegex = "", "^password$" }
	files := map[string]struct {
		format sops.Format
		plain  string
		rules  func(*library.Metadata)
	}{
		"all.yaml":     {sops.YAML, yamlText, nil},
		"all.json":     {sops.JSON, `{"postgres": {"url": "postgres://db", "port": 5432}, "list": ["a", {"b": true}]}`, nil},
		"all.env":      {sops.DotEnv, "TOKEN=s3cret-env\nLINES=one\\ntwo\n", nil},
		"all.ini":      {sops.INI, "top = 1\n[db]\npassword = s3cret-ini\n", nil},
		"all.bin":      {sops.Binary, "s3cret-binary", nil},
		"partly.yaml":  {sops.YAML, "host: db\npassword: s3cret\n", passwords},
		"partly2.yaml": {sops.YAML, "host: db\npassword: s3cret-2\n", passwords},
	}
	keys := filepath.Join(dir, "keys.txt")
	if *update { // what is not there yet
		text, err := os.ReadFile(keys)
		if errors.Is(err, os.ErrNotExist) {
			id := identity(t)
			text = []byte("# Made for these tests: it protects nothing.\n# public key: " + id.Recipient().String() + "\n" + id.String() + "\n")
			err = os.WriteFile(keys, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		ids, err := age.ParseIdentities(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		to := ids[0].(*age.X25519Identity).Recipient().String()
		for name, f := range files {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err := os.WriteFile(path, encrypt(t, f.format, f.plain, f.rules, to), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("SOPS_AGE_KEY_FILE", keys)
	for name, f := range files {
		if _, err := decrypt.File(filepath.Join(dir, name), string(f.format)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
