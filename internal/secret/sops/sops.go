// Package sops reads files that SOPS has encrypted, by the library of SOPS. It
// decrypts in memory, writes nothing, gives out single values, and none before
// the checksum of the file (MAC) holds. What the library says about the content
// of a file never gets out: it quotes it.
package sops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/logging"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	sopsyaml "github.com/getsops/sops/v3/stores/yaml"
	"go.yaml.in/yaml/v3"
)

// Errors that call for something to be done about them. They go on from the
// name of the file.
var (
	// ErrNotEncrypted: it has no part that sops has written.
	ErrNotEncrypted = errors.New("is not encrypted with sops")

	// ErrNoIdentity: none of the keys of this machine fits.
	ErrNoIdentity = errors.New("cannot be decrypted with any key at hand")

	// ErrKeyService: what was to be asked for its key gave none, or no answer.
	// That may pass.
	ErrKeyService = errors.New("cannot be decrypted now")

	// ErrChanged: something in it was changed by another hand than sops.
	ErrChanged = errors.New("was changed after it was encrypted: its checksum (MAC) does not hold")

	// ErrNoKey: it has no such value.
	ErrNoKey = errors.New("has no such key")

	// ErrDamaged: sops cannot have written it so.
	ErrDamaged = errors.New("is damaged: it cannot be read as a file of sops; sops decrypt says more about it")
)

// Document is a decrypted file whose checksum held.
type Document struct {
	ini  bool
	root library.TreeBranch
}

// Open decrypts a file and verifies it. As with sops, the end of the name tells
// the format, and what it does not know is one value with the key "data". The
// key of the file is asked for where sops asks for it, which may be a command or
// a service in the network: ctx bounds that. Errors have no part of the content
// in them.
func (o *Opener) Open(ctx context.Context, name string, data []byte) (doc *Document, err error) {
	defer func() {
		if recover() != nil { // on a value that is said to be of the type "bytes", for one
			doc, err = nil, ErrDamaged
		}
	}()
	silence()
	format := formats.FormatForPath(name)
	tree, err := load(format, data)
	if err != nil {
		return nil, err
	}
	key, err := o.dataKey(ctx, &tree.Metadata)
	if err != nil {
		return nil, err
	}
	cipher := aes.NewCipher()
	sum, err := tree.Decrypt(key, cipher)
	if err != nil {
		return nil, ErrChanged
	}
	noted, err := cipher.Decrypt(tree.Metadata.MessageAuthenticationCode, key, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil || noted != any(sum) {
		return nil, ErrChanged
	}
	return &Document{format == formats.Ini, tree.Branches[0]}, nil
}

// load reads what is not encrypted. What would make the library fill the memory
// or the stack is refused before: nesting without end, and aliases of aliases.
func load(format formats.Format, data []byte) (tree library.Tree, err error) {
	stores := config.NewStoresConfig()
	var store library.EncryptedFileLoader
	switch format {
	case formats.Yaml:
		for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
			var document any
			if err := d.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return tree, ErrDamaged
			}
		}
		store = sopsyaml.NewStore(&stores.YAML)
	case formats.Dotenv:
		store = dotenv.NewStore(&stores.Dotenv)
	case formats.Ini:
		store = ini.NewStore(&stores.INI)
	case formats.Json:
		if !json.Valid(data) {
			return tree, ErrDamaged
		}
		store = sopsjson.NewStore(&stores.JSON)
	default:
		if !json.Valid(data) {
			return tree, ErrNotEncrypted // of which it would have become JSON
		}
		store = sopsjson.NewBinaryStore(&stores.JSONBinary)
	}
	tree, err = store.LoadEncryptedFile(data)
	switch {
	case errors.Is(err, library.MetadataNotFound):
		return tree, ErrNotEncrypted
	case err != nil:
		return tree, ErrDamaged
	}
	return tree, nil
}

// silence keeps the library from writing to standard error. What it logs for
// /etc/sops/audit.yaml stays: it says why it ends the process.
func silence() {
	for name, l := range logging.Loggers {
		if name != "AUDIT" {
			l.SetOutput(io.Discard)
		}
	}
}

// Lookup returns one value as text: numbers and booleans as YAML writes them.
// path are names of keys with dots between them; a number counts the items of
// a list from 0. A name with a dot in it is found as well. Errors go on from the
// name of the file.
func (d *Document) Lookup(path string) ([]byte, error) {
	v, found := find(d.root, path)
	if !found && d.ini {
		v, found = find(d.root, "DEFAULT."+path) // keys above the first section
	}
	if !found {
		return nil, fmt.Errorf("%w: %s%s", ErrNoKey, path, d.neighbours(path))
	}
	switch v := v.(type) {
	case library.TreeBranch:
		return nil, fmt.Errorf("has more than one value at key %s: it has keys of its own, %s", path, names(v))
	case []any:
		return nil, fmt.Errorf("has a list of %d at key %s: put the number of the item behind it, from 0", len(items(v)), path)
	case nil, library.Comment:
		return nil, fmt.Errorf("has no value at key %s", path)
	case bool:
		return strconv.AppendBool(nil, v), nil
	case time.Time:
		return []byte(v.Format(time.RFC3339Nano)), nil
	default:
		return library.ToBytes(v)
	}
}

// items leaves out the comments that the library keeps among the items.
func items(list []any) []any {
	return slices.DeleteFunc(slices.Clone(list), func(v any) bool {
		_, comment := v.(library.Comment)
		return comment
	})
}

// find goes down a path. Where a name could end at more than one dot, the
// longer name is tried first.
func find(v any, path string) (any, bool) {
	if path == "" {
		return v, true
	}
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '.') {
		name, rest := path[:end], strings.TrimPrefix(path[end:], ".")
		if end < len(path) && rest == "" {
			continue // ends with a dot
		}
		var next any
		switch v := v.(type) {
		case library.TreeBranch:
			i := slices.IndexFunc(v, func(it library.TreeItem) bool { return it.Key == any(name) })
			if i < 0 {
				continue
			}
			next = v[i].Value
		case []any:
			list := items(v)
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(list) || strconv.Itoa(i) != name {
				continue
			}
			next = list[i]
		default:
			return nil, false
		}
		if found, ok := find(next, rest); ok {
			return found, true
		}
	}
	return nil, false
}

// neighbours says what there is where a path ends.
func (d *Document) neighbours(path string) string {
	where, parent := "the file", any(d.root)
	for end := strings.LastIndexByte(path, '.'); end > 0; end = strings.LastIndexByte(path[:end], '.') {
		if v, ok := find(d.root, path[:end]); ok {
			where, parent = path[:end], v
			break
		}
	}
	switch v := parent.(type) {
	case library.TreeBranch:
		if has := names(v); has != "" {
			return "; " + where + " has " + has
		}
	case []any:
		return fmt.Sprintf("; %s is a list of %d", where, len(items(v)))
	}
	return ""
}

const mostNames = 12

func names(branch library.TreeBranch) string {
	var list []string
	for _, it := range branch {
		if name, ok := it.Key.(string); ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	if more := len(list) - mostNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:mostNames], ", "), more)
	}
	return strings.Join(list, ", ")
}
