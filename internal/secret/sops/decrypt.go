package sops

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// keySize is that of the key a file's values are encrypted with.
const keySize = 32

// dataKey decrypts the key of the file with one of the identities.
func (m *metadata) dataKey(identities []age.Identity) ([]byte, error) {
	if len(identities) == 0 {
		return nil, ErrNoIdentity
	}
	for _, enc := range m.ageKeys {
		r, err := age.Decrypt(armor.NewReader(strings.NewReader(enc)), identities...)
		if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
			continue
		}
		if err != nil {
			return nil, errors.New("has a key in the part of sops that age cannot read")
		}
		key, err := io.ReadAll(io.LimitReader(r, keySize+1))
		if err != nil || len(key) != keySize {
			return nil, errors.New("has a key in the part of sops that is none")
		}
		return key, nil
	}
	return nil, ErrNoIdentity
}

// macOnlyEncrypted goes before all values into a checksum that leaves out what
// is readable, so that it is never that of a file which does not: it is the
// SHA-256 of "sops".
const macOnlyEncrypted = "8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69"

// decrypt puts the values in the place of what they were encrypted to, and
// verifies the checksum.
func (m *metadata) decrypt(docs []mapping, key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	d := &decrypter{metadata: m, block: block, sum: sha512.New()}
	if m.onlyEncrypted {
		start, err := hex.DecodeString(macOnlyEncrypted)
		if err != nil {
			return err
		}
		d.sum.Write(start)
	}
	for i := range docs {
		if _, err := d.walk(docs[i], nil); err != nil {
			return err
		}
	}
	mac, err := d.open(m.mac, m.modified)
	if err != nil {
		return ErrChanged
	}
	noted, _ := mac.(string)
	if subtle.ConstantTimeCompare([]byte(noted), fmt.Appendf(nil, "%X", d.sum.Sum(nil))) != 1 {
		return ErrChanged
	}
	return nil
}

type decrypter struct {
	*metadata
	block cipher.Block
	sum   hash.Hash
}

func (d *decrypter) walk(v any, path []string) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case mapping:
		for i := range v {
			down := append(path[:len(path):len(path)], v[i].key)
			x, err := d.walk(v[i].value, down)
			if err != nil {
				return nil, err
			}
			v[i].value = x
		}
		return v, nil
	case []any:
		values := v[:0]
		for i := range v {
			x, err := d.walk(v[i], path) // items share the path of their list
			if err != nil {
				return nil, err
			}
			if x != (comment{}) {
				values = append(values, x)
			}
		}
		return values, nil
	}
	encrypted := d.encrypted(path)
	if encrypted {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%w: %s should be encrypted and is not", ErrChanged, strings.Join(path, "."))
		}
		var err error
		if v, err = d.open(s, strings.Join(path, ":")+":"); err != nil {
			return nil, fmt.Errorf("%w: %s %w", ErrChanged, strings.Join(path, "."), err)
		}
		if v == (comment{}) {
			return v, nil
		}
	}
	if encrypted || !d.onlyEncrypted {
		b, err := digested(v)
		if err != nil {
			return nil, err
		}
		d.sum.Write(b)
	}
	return v, nil
}

// comment is what stands for one that was encrypted as if it were a value. In
// lists sops writes them so.
type comment struct{}

// open decrypts one value. bound is what it was bound to when it was
// encrypted. The empty text stays as it is.
func (d *decrypter) open(s, bound string) (any, error) {
	if s == "" {
		return "", nil
	}
	inner, ok := strings.CutPrefix(s, "ENC[AES256_GCM,")
	if inner, ok = trimIf(ok, inner, "]"); !ok {
		return nil, errors.New("should be encrypted and is not")
	}
	var raw [3][]byte
	parts := strings.Split(inner, ",")
	if len(parts) != 4 {
		return nil, errors.New("is not as sops encrypts")
	}
	for i, name := range [...]string{"data:", "iv:", "tag:"} {
		text, ok := strings.CutPrefix(parts[i], name)
		b, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(b) == 0 {
			return nil, errors.New("is not as sops encrypts")
		}
		raw[i] = b
	}
	gcm, err := cipher.NewGCMWithNonceSize(d.block, len(raw[1]))
	if err != nil {
		return nil, errors.New("is not as sops encrypts")
	}
	plain, err := gcm.Open(nil, raw[1], bytes.Join([][]byte{raw[0], raw[2]}, nil), []byte(bound))
	if err != nil {
		return nil, errors.New("does not decrypt")
	}
	return typed(strings.TrimPrefix(parts[3], "type:"), string(plain))
}

func trimIf(ok bool, s, suffix string) (string, bool) {
	if !ok {
		return s, false
	}
	return strings.CutSuffix(s, suffix)
}

func typed(kind, s string) (v any, err error) {
	switch kind {
	case "str", "bytes":
		return s, nil
	case "int":
		v, err = strconv.Atoi(s)
	case "float":
		v, err = strconv.ParseFloat(s, 64)
	case "bool":
		v, err = strconv.ParseBool(s)
	case "time":
		var at time.Time
		err = at.UnmarshalText([]byte(s))
		v = at
	case "comment":
		return comment{}, nil
	default:
		return nil, errors.New("is of a kind that sops does not have")
	}
	if err != nil { // which would quote the value
		return nil, errors.New("is not of the kind that it is said to be")
	}
	return v, nil
}
