// Package sopstest encrypts files for tests as sops does: by the library of
// SOPS, for keys that are made for one test.
package sopstest

import (
	"testing"
	"time"

	"filippo.io/age"
	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
)

// Key makes an age key: what it is written as, and for whom files are
// encrypted that it opens.
func Key(t testing.TB) (identity, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String(), id.Recipient().String()
}

// Group makes a group of keys of recipients.
func Group(t testing.TB, recipients ...string) library.KeyGroup {
	t.Helper()
	var group library.KeyGroup
	for _, r := range recipients {
		key, err := sopsage.MasterKeyFromRecipient(r)
		if err != nil {
			t.Fatal(err)
		}
		group = append(group, key)
	}
	return group
}

// Encrypt does what `sops encrypt` does with a file of this name. rules may
// change what is noted in the file, the keys among it.
func Encrypt(t testing.TB, name, plain string, rules func(*library.Metadata), recipients ...string) []byte {
	t.Helper()
	stores := config.NewStoresConfig()
	store := map[formats.Format]library.Store{
		formats.Yaml: yaml.NewStore(&stores.YAML), formats.Json: json.NewStore(&stores.JSON), formats.Dotenv: dotenv.NewStore(&stores.Dotenv),
		formats.Ini: ini.NewStore(&stores.INI), formats.Binary: json.NewBinaryStore(&stores.JSONBinary),
	}[formats.FormatForPath(name)]
	branches, err := store.LoadPlainFile([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	tree := library.Tree{Branches: branches, Metadata: library.Metadata{
		KeyGroups: []library.KeyGroup{Group(t, recipients...)}, UnencryptedSuffix: library.DefaultUnencryptedSuffix, Version: "3.13.3",
	}}
	if rules != nil {
		rules(&tree.Metadata)
	}
	key, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewLocalClient()})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := aes.NewCipher()
	sum, err := tree.Encrypt(key, cipher)
	if err != nil {
		t.Fatal(err)
	}
	tree.Metadata.LastModified = time.Now().UTC()
	if tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(sum, key, tree.Metadata.LastModified.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	out, err := store.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
