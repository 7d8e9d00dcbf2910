// Package scram makes and checks what PostgreSQL keeps of passwords, so that
// no password is in a statement: servers write statements into their logs.
package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"forged.dev/forged/internal/secret"
)

const (
	mechanism  = "SCRAM-SHA-256"
	rounds     = 4096 // as PostgreSQL's own
	mostRounds = 1 << 20
	saltSize   = 16
)

// ErrUnprepared is about a password that clients do not agree about: each
// prepares characters beyond ASCII in its own way before it hashes them.
var ErrUnprepared = errors.New("holds characters other than those of ASCII, which clients of PostgreSQL read in different ways; choose another password")

var errUnhashed = errors.New("the password could not be hashed")

// Verifier is what PostgreSQL takes in the place of a password. It is another
// one each time.
func Verifier(password secret.Value) (string, error) {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	stored, server, err := keys(password, salt, rounds)
	if err != nil {
		return "", err
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", mechanism, rounds, b64(salt), b64(stored), b64(server)), nil
}

// Matches tells whether a verifier was made of a password. One of another
// kind, or of another make, matches none.
func Matches(verifier string, password secret.Value) bool {
	parts := strings.Split(verifier, "$")
	if len(parts) != 3 || parts[0] != mechanism {
		return false
	}
	count, saltText, _ := strings.Cut(parts[1], ":")
	storedText, _, _ := strings.Cut(parts[2], ":")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > mostRounds {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(saltText)
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(storedText)
	if err != nil {
		return false
	}
	stored, _, err := keys(password, salt, n)
	return err == nil && subtle.ConstantTimeCompare(stored, want) == 1
}

func keys(password secret.Value, salt []byte, n int) (stored, server []byte, err error) {
	plain := password.Reveal()
	for _, c := range plain {
		if c < ' ' || c > '~' {
			return nil, nil, ErrUnprepared
		}
	}
	salted, err := pbkdf2.Key(sha256.New, string(plain), salt, n, sha256.Size)
	if err != nil {
		return nil, nil, errUnhashed
	}
	sum := sha256.Sum256(keyed(salted, "Client Key"))
	return sum[:], keyed(salted, "Server Key"), nil
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
