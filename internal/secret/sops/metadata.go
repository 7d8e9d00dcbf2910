package sops

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names by which sops writes its own part into a file.
const (
	metadataKey  = "sops"
	metadataFlat = "sops_"   // before each key, where there are no levels
	inMapping    = "__map_"  // between the names of levels, where there are none
	inList       = "__list_" // before the number of an item
)

// splitMetadata takes the part of sops out of the documents and returns it
// without levels.
func splitMetadata(docs []mapping, format Format) ([]mapping, map[string]string, error) {
	if len(docs) == 0 {
		return nil, nil, ErrNotEncrypted
	}
	fields := map[string]string{}
	if format == DotEnv {
		docs[0] = slices.DeleteFunc(docs[0], func(it item) bool {
			name, ours := strings.CutPrefix(it.key, metadataFlat)
			if ours {
				fields[name] = string(text(it.value))
			}
			return ours
		})
	} else {
		if i := docs[0].index(metadataKey); i >= 0 {
			m, ok := docs[0][i].value.(mapping)
			if !ok {
				return nil, nil, ErrNotEncrypted
			}
			flatten(m, "", fields)
		}
		for d := range docs {
			docs[d] = slices.DeleteFunc(docs[d], func(it item) bool { return it.key == metadataKey })
		}
	}
	if format == INI {
		for name, v := range fields {
			fields[name] = strings.ReplaceAll(v, `\n`, "\n")
		}
	}
	if len(fields) == 0 {
		return nil, nil, ErrNotEncrypted
	}
	return docs, fields, nil
}

func flatten(v any, name string, into map[string]string) {
	switch v := v.(type) {
	case mapping:
		for _, it := range v {
			key := it.key
			if name != "" {
				key = name + inMapping + key
			}
			flatten(it.value, key, into)
		}
	case []any:
		for i, x := range v {
			flatten(x, name+inList+strconv.Itoa(i), into)
		}
	case nil:
	default:
		into[name] = string(text(v))
	}
}

// metadata is what sops has noted about a file.
type metadata struct {
	encrypted     func(path []string) bool // by the names of the keys down to a value
	onlyEncrypted bool                     // others have no part in the checksum
	mac           string
	modified      string
	ageKeys       []string // the data key, encrypted for each recipient
	others        []string // kinds of keys it is encrypted for as well
}

// defaultUnencrypted ends the names of keys whose values stay readable unless
// the file says otherwise.
const defaultUnencrypted = "_unencrypted"

func readMetadata(fields map[string]string) (*metadata, error) {
	m := &metadata{mac: fields["mac"]}
	if m.mac == "" {
		return nil, ErrChanged
	}
	// As it was encrypted: the same text, whatever the format made of it.
	at, err := time.Parse(time.RFC3339, fields["lastmodified"])
	if err != nil {
		return nil, errors.New("has no time of its last change in the part of sops")
	}
	m.modified = at.Format(time.RFC3339)
	if s := fields["mac_only_encrypted"]; s != "" {
		if m.onlyEncrypted, err = strconv.ParseBool(s); err != nil {
			return nil, errors.New("has no true or false as mac_only_encrypted in the part of sops")
		}
	}
	if m.encrypted, err = encryptedRule(fields); err != nil {
		return nil, err
	}

	prefix := ""
	for name := range fields {
		kind, _, _ := strings.Cut(name, inList)
		switch kind {
		case "kms", "gcp_kms", "azure_kv", "hc_vault", "hckms", "pgp":
			if !slices.Contains(m.others, kind) {
				m.others = append(m.others, kind)
			}
		case "key_groups":
			if !strings.HasPrefix(name, "key_groups"+inList+"0"+inMapping) {
				return nil, errors.New("has its key split over several groups (key_groups), which forged does not read: use one group")
			}
			prefix = "key_groups" + inList + "0" + inMapping
		}
	}
	slices.Sort(m.others)
	for i := 0; ; i++ {
		enc, ok := fields[prefix+"age"+inList+strconv.Itoa(i)+inMapping+"enc"]
		if !ok {
			break
		}
		m.ageKeys = append(m.ageKeys, enc)
	}
	if len(m.ageKeys) == 0 {
		err := errors.New("is not encrypted for any age key, and forged reads no others")
		if len(m.others) > 0 {
			err = fmt.Errorf("is encrypted for %s, and forged reads age keys only: add one to .sops.yaml and run sops updatekeys", strings.Join(m.others, ", "))
		}
		return nil, err
	}
	return m, nil
}

// encryptedRule reads which values are encrypted. A file has one rule at most.
func encryptedRule(fields map[string]string) (func([]string) bool, error) {
	var rule func([]string) bool
	rules := 0
	add := func(name string, make func(value string) (func([]string) bool, error)) error {
		value := fields[name]
		if value == "" {
			return nil
		}
		rules++
		r, err := make(value)
		if err != nil {
			return fmt.Errorf("has no rule that can be read as %s in the part of sops", name)
		}
		rule = r
		return nil
	}
	suffix := func(encrypted bool) func(string) (func([]string) bool, error) {
		return func(end string) (func([]string) bool, error) {
			return func(path []string) bool {
				return encrypted == slices.ContainsFunc(path, func(name string) bool { return strings.HasSuffix(name, end) })
			}, nil
		}
	}
	pattern := func(encrypted bool) func(string) (func([]string) bool, error) {
		return func(expr string) (func([]string) bool, error) {
			re, err := regexp.Compile(expr)
			if err != nil {
				return nil, err
			}
			return func(path []string) bool { return encrypted == slices.ContainsFunc(path, re.MatchString) }, nil
		}
	}
	if err := errors.Join(
		add("unencrypted_suffix", suffix(false)), add("encrypted_suffix", suffix(true)),
		add("unencrypted_regex", pattern(false)), add("encrypted_regex", pattern(true)),
	); err != nil {
		return nil, err
	}
	for _, name := range []string{"unencrypted_comment_regex", "encrypted_comment_regex"} {
		if fields[name] != "" {
			return nil, fmt.Errorf("says by comments what is encrypted (%s), which forged does not read: use encrypted_regex", name)
		}
	}
	switch rules {
	case 0:
		return suffix(false)(defaultUnencrypted)
	case 1:
		return rule, nil
	}
	return nil, errors.New("has more than one rule for what is encrypted in the part of sops")
}
