package external

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"forged.dev/forged/internal/secret"
)

const (
	scramRounds = 4096 // as PostgreSQL's own
	scramSalt   = 16
)

// errUnprepared is about a password that clients do not agree about: each
// prepares characters beyond ASCII in its own way before it hashes them.
var errUnprepared = errors.New("holds characters other than those of ASCII, which clients of PostgreSQL read in different ways; choose another password")

// verifier is what PostgreSQL keeps of a password. It is made here, so that the
// password itself is in no statement: servers write statements into their logs.
func verifier(password secret.Value) (string, error) {
	plain := password.Reveal()
	for _, c := range plain {
		if c < ' ' || c > '~' {
			return "", errUnprepared
		}
	}
	salt := make([]byte, scramSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	salted, err := pbkdf2.Key(sha256.New, string(plain), salt, scramRounds, sha256.Size)
	if err != nil {
		return "", errors.New("the password could not be hashed")
	}
	stored := sha256.Sum256(keyed(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramRounds, b64(salt), b64(stored[:]), b64(keyed(salted, "Server Key"))), nil
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
