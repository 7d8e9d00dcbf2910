package schema

import (
	"regexp"
	"slices"
	"strings"

	"forged.dev/forged/internal/secret/detect"
)

// A forge holds no secrets, and people write them into it all the same. What
// is said about a mistake must not spread them: a value that may be one is
// called "this value", and its line is not shown.

// sensitive matches names, paths and lines that may hold a secret by mistake.
var sensitive = regexp.MustCompile(`(?i)secret|passw|token|credential|_key`)

// referenceLine matches the names under which the language has references to
// secrets: what is written behind one may be the secret itself.
var referenceLine = regexp.MustCompile(`\b(url|caBundle|admin|apiKey|cert|chain|key|username|mtls)"?\s*:`)

// private tells whether what is at p may be a secret.
func (l *loader) private(p path) bool {
	if sensitive.MatchString(p.String()) {
		return true
	}
	if l.model == nil {
		return false
	}
	for n := range p {
		if slices.ContainsFunc(l.model.find(p[:n+1]), func(f found) bool { return f.ref == "#SecretRef" }) {
			return true
		}
	}
	return false
}

// literalText matches a string as CUE and Go write it, on one line.
var literalText = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'`)

// looksSecret tells whether a string, without its quotes, is better not shown.
func looksSecret(s string) bool {
	if name, _, ok := strings.Cut(s, "="); ok && sensitive.MatchString(name) {
		return true // a flag
	}
	if m := login.FindString(s); m != "" && !strings.Contains(s, "@sha256:") {
		return true
	}
	_, ok := detect.Looks(s)
	return ok
}

// login matches a name and a password before a host.
var login = regexp.MustCompile(`[^/\s:]+:[^/\s@]+@`)

// longestMessage is more than anybody reads, in bytes. CUE quotes whatever it
// was given.
const longestMessage = 1000

// discreet is a message without the strings in it that look like secrets.
func discreet(message string) string {
	message = literalText.ReplaceAllStringFunc(message, func(quoted string) string {
		if looksSecret(quoted[1 : len(quoted)-1]) {
			return thisValue
		}
		return quoted
	})
	// Cut last: half a string has no end to be recognized by.
	if len(message) > longestMessage {
		message = strings.ToValidUTF8(message[:longestMessage], "") + "…"
	}
	return message
}

// showsSecret tells whether a line of a forge is better not shown.
func showsSecret(line string) bool {
	return sensitive.MatchString(line) || referenceLine.MatchString(line) ||
		slices.ContainsFunc(literalText.FindAllString(line, -1), func(quoted string) bool { return looksSecret(quoted[1 : len(quoted)-1]) })
}
