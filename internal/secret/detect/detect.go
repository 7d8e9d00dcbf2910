// Package detect guesses whether a text is a secret that somebody has written
// where it can be read by all. It is a guess: it knows the forms that
// providers give their keys, passwords inside of addresses, and what nobody
// types by hand. It keeps nothing and says nothing of the text but its kind.
package detect

import (
	"encoding/base64"
	"iter"
	"strings"
)

// pemInBase64 is how "-----BEGIN " begins in base64.
const pemInBase64 = "LS0tLS1CRUdJTi"

// mostBytes is how much of a text is looked at.
const mostBytes = 64 << 10

// Looks tells whether a value looks like a secret, and as which kind. What is
// fit for the middle of a sentence ("a GitHub token") and never has a part of
// the value in it.
func Looks(value string) (what string, ok bool) {
	value = bounded(value)
	if what, ok := shown(value); ok {
		return what, true
	}
	for word := range words(value) {
		if what, ok := word.random(false); ok {
			return what, true
		}
	}
	return "", false
}

// Variable is Looks for a value that has a name: that of a variable, a key of
// an annotation or a flag. A name that says "password" makes a secret of what
// would pass otherwise, and one that says "checksum" lets digests pass.
func Variable(name, value string) (what string, ok bool) {
	value = bounded(value)
	if what, ok := shown(value); ok {
		return what, true
	}
	kind := nameOf(name)
	if kind == namesPublic {
		return "", false
	}
	for word := range words(value) {
		if what, ok := word.random(kind == namesKey); ok {
			return what, true
		}
	}
	if kind == namesSecret && isLiteral(value) {
		return "a secret by its name", true
	}
	return "", false
}

func bounded(value string) string {
	return strings.TrimSpace(value[:min(len(value), mostBytes)])
}

// shown finds the secrets that show themselves by their form.
func shown(value string) (string, bool) {
	if len(value) < 8 {
		return "", false
	}
	if rest, ok := after(value, "-----BEGIN "); ok {
		if label, _, ok := strings.Cut(rest, "-----"); ok && (strings.HasSuffix(label, "PRIVATE KEY") || strings.HasSuffix(label, "PRIVATE KEY BLOCK")) {
			return "a private key", true
		}
	}
	if i := strings.Index(value, pemInBase64); i >= 0 {
		encoded := value[i:]
		encoded = encoded[:span(encoded, isBase64)&^3]
		if raw, err := base64.StdEncoding.DecodeString(encoded); err == nil && strings.Contains(string(raw), "PRIVATE KEY-----") {
			return "a private key", true
		}
	}
	if addressWithPassword(value) {
		return "an address with a password in it", true
	}
	for _, hook := range [...]string{"hooks.slack.com/services/T", "discord.com/api/webhooks/", "webhook.office.com/webhookb2/"} {
		if rest, ok := after(value, hook); ok && len(rest) >= 16 && !isPlaceholder(rest) {
			return "the address of a webhook, which is all one needs to post to it", true
		}
	}
	for _, scheme := range [...]string{"Bearer ", "bearer ", "Basic ", "basic "} {
		if rest, ok := after(value, scheme); ok && isCredential(strings.TrimSpace(scheme), rest) {
			return "an HTTP credential", true
		}
	}
	for word := range fields(value) {
		if what, ok := known(word); ok {
			return what, true
		}
		if name, setting, ok := strings.Cut(word, "="); ok && nameOf(strings.TrimLeft(name, "-")) == namesSecret && isLiteral(setting) {
			return "a setting that is a secret by its name", true
		}
	}
	return "", false
}

// after is what follows the first occurrence of mark.
func after(s, mark string) (string, bool) {
	_, rest, ok := strings.Cut(s, mark)
	return rest, ok
}

// fields are the parts of a text between spaces, quotes and the signs that
// divide settings; they still have their "=".
func fields(s string) iter.Seq[string] {
	return strings.FieldsFuncSeq(s, func(r rune) bool {
		return r <= ' ' || strings.ContainsRune("\"'`,;&?|()[]{}<>", r)
	})
}

// addressWithPassword finds scheme://user:password@host, and the form without
// a scheme that some drivers have: user:password@tcp(host).
func addressWithPassword(s string) bool {
	for rest := s; ; {
		var ok bool
		if rest, ok = after(rest, "://"); !ok {
			break
		}
		authority := rest
		if i := strings.IndexAny(authority, "/?# \t\n\"'`"); i >= 0 {
			authority = authority[:i]
		}
		if i := strings.LastIndexByte(authority, '@'); i >= 0 {
			if _, password, ok := strings.Cut(authority[:i], ":"); ok && password != "" && !isPlaceholder(password) {
				return true
			}
		}
	}
	for _, driver := range [...]string{"@tcp(", "@unix("} {
		if before, _, ok := strings.Cut(s, driver); ok {
			if _, password, ok := strings.Cut(before, ":"); ok && password != "" && !isPlaceholder(password) {
				return true
			}
		}
	}
	return false
}

// isCredential tells whether a text is what follows a scheme of HTTP
// authentication.
func isCredential(scheme, s string) bool {
	for token := range fields(s) {
		switch {
		case isPlaceholder(token):
			return false
		case strings.EqualFold(scheme, "basic"):
			plain, err := base64.StdEncoding.DecodeString(token)
			return err == nil && strings.IndexByte(string(plain), ':') > 0
		}
		return len(token) >= 16 && distinct(token) >= 8
	}
	return false
}

type nameKind int

const (
	namesNothing nameKind = iota
	namesSecret           // of which any value is a secret
	namesKey              // of which a random value is a secret
	namesPublic           // of which a random value is none
)

// nameOf says what the name of a setting promises. Only its end counts:
// PASSWORD_FILE is a path, and TOKEN_TTL a duration.
func nameOf(name string) nameKind {
	if isDigestName(strings.ToLower(name)) {
		return namesPublic
	}
	if i := strings.LastIndexAny(name, "./"); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case r == '_' || r == '-':
			return -1
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, name)
	for _, public := range [...]string{
		"publickey", "publishablekey", "sitekey", "hostkey", "publictoken", "id",
		"tlssecret", "pullsecret", "existingsecret", // names of Secrets
	} {
		if strings.HasSuffix(name, public) {
			return namesPublic
		}
	}
	for _, end := range [...]string{
		"password", "passwd", "passphrase", "secret", "token", "apikey", "secretkey", "privatekey", "accesskey",
		"signingkey", "encryptionkey", "sharedkey", "accountkey", "masterkey", "authkey", "credentials",
	} {
		if strings.HasSuffix(name, end) {
			return namesSecret
		}
	}
	for _, end := range [...]string{"pwd", "pass"} {
		if name == end || strings.HasSuffix(name, "db"+end) || strings.HasSuffix(name, "user"+end) {
			return namesSecret
		}
	}
	for _, end := range [...]string{"key", "salt", "pepper", "seed"} {
		if strings.HasSuffix(name, end) {
			return namesKey
		}
	}
	return namesNothing
}

func isDigestName(name string) bool {
	for _, part := range [...]string{"dgst", "sha1", "sha256", "sha512", "checksum", "digest", "fingerprint", "revision", "commit", "etag", "integrity"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// isLiteral tells whether the value of something called "password" is the
// password: not a switch, a number, a path, or the name of another place.
func isLiteral(s string) bool {
	switch strings.ToLower(s) {
	case "", "true", "false", "yes", "no", "on", "off", "none", "null", "nil", "required", "optional", "disabled", "enabled", "default", "auto":
		return false
	}
	switch {
	case len(s) < 4, isPlaceholder(s), strings.Trim(s, "0123456789.") == "" && len(s) < 8:
		return false
	case s[0] == '/', strings.HasPrefix(s, "./"), strings.HasPrefix(s, "../"), strings.HasPrefix(s, "~/"):
		return false
	case strings.Contains(s, "_") && span(s, func(b byte) bool { return isUpperDigit(b) || b == '_' }) == len(s): // a variable
		return false
	case strings.Contains(s, "://"): // a password in it was looked for before
		return false
	}
	return true
}

// isPlaceholder tells whether a text stands for a secret that is put in later:
// a variable, a template, or a row of one sign.
func isPlaceholder(s string) bool {
	for _, mark := range [...]string{"$", "{{", "<", "%(", "%s", "..."} {
		if strings.Contains(s, mark) {
			return true
		}
	}
	return distinct(s) <= 2
}

// distinct counts the different bytes of a text.
func distinct(s string) int {
	var seen [256]bool
	n := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			n++
		}
	}
	return n
}
