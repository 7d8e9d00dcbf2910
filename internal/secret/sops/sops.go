// Package sops reads files that SOPS has encrypted for age keys. It decrypts
// in memory, writes nothing, and gives out single values. What it does beyond
// age is small and fixed by the format: AES-GCM for each value, bound to the
// path of its keys, and a keyed digest of all values, which is always verified.
//
// The library of SOPS itself brings the clients of five clouds with it; see
// docs/decisions/sops.md. The tests in hack/sops hold this package to it.
package sops

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"
)

// Format is how the values of a file are written down.
type Format string

// Formats.
const (
	YAML   Format = "yaml"
	JSON   Format = "json"
	DotEnv Format = "dotenv"
	INI    Format = "ini"
	Binary Format = "binary" // any file, as one value with the key "data"
)

// FormatOf tells the format by the end of the file's name, as sops does.
func FormatOf(path string) Format {
	switch filepath.Ext(path) {
	case ".yaml", ".yml":
		return YAML
	case ".json":
		return JSON
	case ".env":
		return DotEnv
	case ".ini":
		return INI
	}
	return Binary
}

// Errors that call for something to be done about them. Others say that a file
// is not what it should be.
var (
	// ErrNotEncrypted: it has no part that sops has written.
	ErrNotEncrypted = errors.New("is not encrypted with sops")

	// ErrNoIdentity: none of the age keys fits.
	ErrNoIdentity = errors.New("cannot be decrypted with any age key at hand")

	// ErrChanged: something in it was changed by another hand than sops.
	ErrChanged = errors.New("was changed after it was encrypted: its checksum (MAC) does not hold")

	// ErrNoKey: it has no such value.
	ErrNoKey = errors.New("has no such key")
)

// Document is a decrypted file whose checksum held.
type Document struct {
	format Format
	root   mapping
}

// Open decrypts a file and verifies it. Its errors have no part of the content
// in them but names of keys, which sops leaves readable.
func Open(data []byte, format Format, identities []age.Identity) (*Document, error) {
	parse := parseJSON // of binary files too
	switch format {
	case YAML:
		parse = parseYAML
	case DotEnv:
		parse = parseDotEnv
	case INI:
		parse = parseINI
	}
	docs, err := parse(data)
	switch {
	case err != nil && format == Binary:
		return nil, ErrNotEncrypted // of which it would have become JSON
	case err != nil:
		return nil, err
	}
	docs, fields, err := splitMetadata(docs, format)
	if err != nil {
		return nil, err
	}
	m, err := readMetadata(fields)
	if err != nil {
		return nil, err
	}
	key, err := m.dataKey(identities)
	if err != nil {
		return nil, err
	}
	if err := m.decrypt(docs, key); err != nil {
		return nil, err
	}
	return &Document{format, docs[0]}, nil
}

// Lookup returns one value as text: numbers and booleans as YAML writes them.
// path are names of keys with dots between them; a number counts the items of
// a list from 0. A name with a dot in it is found as well. Errors go on from the
// name of the file.
func (d *Document) Lookup(path string) ([]byte, error) {
	v, found := find(d.root, path)
	if !found && d.format == INI {
		v, found = find(d.root, iniDefault+"."+path) // keys above the first section
	}
	if !found {
		return nil, fmt.Errorf("%w: %s%s", ErrNoKey, path, d.neighbours(path))
	}
	switch v := v.(type) {
	case mapping:
		return nil, fmt.Errorf("has more than one value at key %s: it has keys of its own, %s", path, names(v))
	case []any:
		return nil, fmt.Errorf("has a list of %d at key %s: put the number of the item behind it, from 0", len(v), path)
	case nil, comment:
		return nil, fmt.Errorf("has no value at key %s", path)
	default:
		return text(v), nil
	}
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
		case mapping:
			i := v.index(name)
			if i < 0 {
				continue
			}
			next = v[i].value
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != name {
				continue
			}
			next = v[i]
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
	case mapping:
		if len(v) > 0 {
			return "; " + where + " has " + names(v)
		}
	case []any:
		return fmt.Sprintf("; %s is a list of %d", where, len(v))
	}
	return ""
}

const mostNames = 12

func names(m mapping) string {
	var list []string
	for _, it := range m {
		list = append(list, it.key)
	}
	slices.Sort(list)
	if more := len(list) - mostNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:mostNames], ", "), more)
	}
	return strings.Join(list, ", ")
}
