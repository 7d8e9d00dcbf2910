package scram

import (
	"errors"
	"strings"
	"testing"

	"forged.dev/forged/internal/secret"
)

func value(text string) secret.Value { return secret.New([]byte(text)) }

// That PostgreSQL takes a verifier made here is shown by the providers that
// log in with it.
func TestVerifier(t *testing.T) {
	const password = "p4ss'word;--"
	one, err := Verifier(value(password))
	if err != nil {
		t.Fatal(err)
	}
	two, err := Verifier(value(password))
	if err != nil || one == two || strings.Contains(one, password) {
		t.Errorf("%s %s %v", one, two, err)
	}
	if _, err := Verifier(value("p\u00e4ss")); !errors.Is(err, ErrUnprepared) {
		t.Error(err)
	}
	if !Matches(one, value(password)) || !Matches(two, value(password)) || Matches(one, value("another")) {
		t.Error("verifier and password are not told apart")
	}
}

// The example of RFC 7677, as PostgreSQL would keep it.
func TestMatches(t *testing.T) {
	const verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if !Matches(verifier, value("pencil")) {
		t.Error("the example does not match")
	}
	for _, other := range []string{
		"", "md5aabbcc", strings.Replace(verifier, "4096", "4097", 1), strings.Replace(verifier, "4096", "x", 1),
		strings.Replace(verifier, "4096", "999999999", 1), strings.Replace(verifier, "W22Z", "*", 1),
		strings.Replace(verifier, "WG5d", "*", 1), strings.Replace(verifier, "256", "1", 1),
	} {
		if Matches(other, value("pencil")) {
			t.Errorf("%q matches", other)
		}
	}
}
