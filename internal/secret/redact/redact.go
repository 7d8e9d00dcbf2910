// Package redact takes secrets out of text that other programs have written,
// before a person or a log gets to see it: those whose values are known, in
// the forms in which programs print them, and what looks like one.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/detect"
)

// Mark stands in the place of what was taken out.
const Mark = "[redacted]"

const (
	short     = 4 // what is shorter is taken out only where it stands for itself
	shortLine = 8 // what is shorter does not make a line of a longer secret known
)

// Redactor knows secrets. The zero Redactor knows none and still takes out
// what looks like one.
type Redactor struct {
	needles []string
	words   []string // too short to be looked for within others
}

// New makes a Redactor that knows these values.
func New(values []secret.Value) *Redactor {
	r := &Redactor{}
	for _, v := range values {
		r.add(string(v.Reveal()))
	}
	for _, list := range []*[]string{&r.needles, &r.words} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return r
}

// add takes down a value in all its forms.
func (r *Redactor) add(v string) {
	trimmed := strings.TrimSpace(v)
	switch {
	case trimmed == "":
		return
	case len(trimmed) < short:
		r.words = append(r.words, trimmed)
		return
	}
	r.needles = append(r.needles, forms(trimmed)...)
	for line := range strings.Lines(trimmed) {
		if line = strings.TrimSpace(line); len(line) >= shortLine && line != trimmed && !strings.HasPrefix(line, "-----") {
			r.needles = append(r.needles, forms(line)...)
		}
	}
	if u, err := url.Parse(trimmed); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			r.add(password)
		}
	}
	var doc any
	if strings.HasPrefix(trimmed, "{") && json.Unmarshal([]byte(trimmed), &doc) == nil {
		r.leaves(doc) // the login of a registry, an account of a cloud
	}
}

func (r *Redactor) leaves(v any) {
	switch v := v.(type) {
	case string:
		if len(v) >= shortLine {
			r.needles = append(r.needles, forms(v)...)
		}
	case []any:
		for _, item := range v {
			r.leaves(item)
		}
	case map[string]any:
		for _, item := range v {
			r.leaves(item)
		}
	}
}

// forms are the ways in which a program may print a value.
func forms(v string) []string {
	digits := hex.EncodeToString([]byte(v))
	all := []string{v, html.EscapeString(v), digits, strings.ToUpper(digits)}
	for _, escaped := range []string{url.QueryEscape(v), url.PathEscape(v), strings.ReplaceAll(url.QueryEscape(v), "+", "%20")} {
		all = append(all, escaped, escapes.ReplaceAllStringFunc(escaped, strings.ToLower))
	}
	for _, quoted := range []string{strconv.Quote(v), strconv.QuoteToASCII(v), quotedJSON(v, false), quotedJSON(v, true)} {
		quoted = quoted[1 : len(quoted)-1]
		all = append(all, quoted, strings.ReplaceAll(quoted, "/", `\/`), onlyASCII(quoted))
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		// By itself, and as the line that echo makes of it.
		all = append(all, encoding.EncodeToString([]byte(v)), encoding.EncodeToString([]byte(v+"\n")))
		if len(v) < shortLine {
			continue // too little of it would be left
		}
		// What stands before it moves it against the groups of three bytes.
		for before := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, before), v...))
			sure := (before + len(v)) / 3 * 4 // what follows changes the rest
			all = append(all, encoded[(before*8+5)/6:sure])
		}
	}
	return all
}

// escapes are bytes as they stand in a URL.
var escapes = regexp.MustCompile(`%[0-9A-F]{2}`)

// quotedJSON is a text in JSON. Some programs escape what means something in
// HTML as well, as Go's does unless told not to.
func quotedJSON(v string, forHTML bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(forHTML)
	if enc.Encode(v) != nil { // a string
		return `""`
	}
	return strings.TrimRight(b.String(), "\n")
}

// onlyASCII escapes all else, as JSON of some programs does.
func onlyASCII(v string) string {
	var b strings.Builder
	for _, r := range v {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// Text is s without secrets. A line that still looks as if it held one is left
// out as a whole.
func (r *Redactor) Text(s string) string {
	lines := strings.Split(r.known(s), "\n")
	for i, line := range lines {
		lines[i] = guessed(line)
	}
	return strings.Join(lines, "\n")
}

// known takes out the values that are known. All places are found before any
// is replaced: values may overlap.
func (r *Redactor) known(s string) string {
	hit := make([]bool, len(s))
	found := false
	mark := func(from, to int) {
		found = true
		for i := from; i < to; i++ {
			hit[i] = true
		}
	}
	each := func(needle string, ok func(from, to int) bool) {
		for at := 0; needle != ""; {
			i := strings.Index(s[at:], needle)
			if i < 0 {
				return
			}
			if from := at + i; ok(from, from+len(needle)) {
				mark(from, from+len(needle))
			}
			at += i + 1
		}
	}
	for _, needle := range r.needles {
		each(needle, func(int, int) bool { return true })
	}
	for _, word := range r.words {
		each(word, func(from, to int) bool {
			return (from == 0 || !inWord(s[from-1])) && (to == len(s) || !inWord(s[to]))
		})
	}
	if !found {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case !hit[i]:
			b.WriteByte(s[i])
		case i == 0 || !hit[i-1]:
			b.WriteString(Mark)
		}
	}
	return b.String()
}

func inWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// guessed takes out the words that look like a secret.
func guessed(line string) string {
	if _, ok := detect.Looks(line); !ok {
		return line
	}
	words := strings.Fields(line)
	for i, word := range words {
		if _, ok := detect.Looks(word); ok {
			words[i] = Mark
		}
	}
	rest := strings.Join(words, " ")
	if what, ok := detect.Looks(rest); ok {
		return "(a line with " + what + ")"
	}
	return rest
}
