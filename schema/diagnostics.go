package schema

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Severity says what a diagnostic means for the forge.
type Severity string

// Severities.
const (
	SeverityError   Severity = "error"   // a mistake; a forge with one is not used
	SeverityWarning Severity = "warning" // a forge with one is used
)

// Diagnostic is one mistake in the text of a forge, or a warning about it. It
// never holds the value of a secret. Its JSON form is stable.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`                // from 1; 0: the whole file
	Col      int      `json:"column"`              // from 1, in bytes; 0: the whole line
	EndCol   int      `json:"endColumn,omitempty"` // after the last byte of what is meant; 0: not known
	Path     string   `json:"path,omitempty"`      // environments.prod.expose.kind
	Rule     string   `json:"rule,omitempty"`      // F101; empty only when the name is in no catalogue
	Name     string   `json:"name"`                // of the rule: unknown-key
	Message  string   `json:"message"`             // one sentence without a full stop
	Hint     string   `json:"hint,omitempty"`      // what to do next

	line string // of the file, for the excerpt; empty where it may hold a secret
	span [2]int // Col and EndCol in UTF-16 code units

	private bool // what is at its place may be a secret
}

// Diagnostics are the mistakes of one forge and the warnings about it, sorted
// by file, line, column and path.
type Diagnostics []Diagnostic

// Errors is the number of diagnostics that are no warnings.
func (d Diagnostics) Errors() int {
	n := 0
	for _, x := range d {
		if x.Severity == SeverityError {
			n++
		}
	}
	return n
}

// Warnings is the number of diagnostics that are warnings.
func (d Diagnostics) Warnings() int { return len(d) - d.Errors() }

// Error is the first mistake and the number of the others.
func (d Diagnostics) Error() string {
	first, n := 0, d.Errors()
	if n > 0 {
		first = slices.IndexFunc(d, func(x Diagnostic) bool { return x.Severity == SeverityError })
	}
	switch {
	case len(d) == 0:
		return "no mistake"
	case n < 2:
		return d[first].String()
	}
	return fmt.Sprintf("%s (and %d more)", d[first], n-1)
}

// String is the diagnostic in one line, without the hint.
func (d Diagnostic) String() string {
	s := d.place() + ": " + string(d.Severity) + ": " + d.Text()
	if d.Rule != "" {
		s += " [" + d.Rule + "]"
	}
	return s
}

// Text is the message with the path before it.
func (d Diagnostic) Text() string {
	if d.Path == "" {
		return Printable(d.Message)
	}
	return Printable(d.Path + ": " + d.Message)
}

// place is the file with line and column as far as they are known.
func (d Diagnostic) place() string {
	file := Printable(d.File)
	switch {
	case d.Line == 0:
		return file
	case d.Col == 0:
		return fmt.Sprintf("%s:%d", file, d.Line)
	}
	return fmt.Sprintf("%s:%d:%d", file, d.Line, d.Col)
}

// Span is Col and EndCol in UTF-16 code units, as editors and SARIF count.
// end is 0 when the end is not known, and both are when there is no column.
func (d Diagnostic) Span() (start, end int) {
	if d.span[0] == 0 {
		return d.Col, d.EndCol
	}
	return d.span[0], d.span[1]
}

// Printable shows what a terminal would obey instead of showing it.
func Printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// WriteOptions say how diagnostics are shown.
type WriteOptions struct {
	Color   bool // with ANSI colours
	Excerpt bool // with the line of the file and a mark below the place
}

const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	dim    = "\x1b[2m"
	reset  = "\x1b[0m"
)

// Write shows the diagnostics to a person, in the form that editors know from
// compilers:
//
//	forge.cue:12:16: error: environments.prod.expose.kind: "ingres" is not … [F107]
//	  | 	expose: kind: "ingres"
//	  | 	              ^~~~~~~~
//	  hint: did you mean "ingress"?
func (d Diagnostics) Write(w io.Writer, o WriteOptions) error {
	color := func(code, s string) string {
		if !o.Color || s == "" {
			return s
		}
		return code + s + reset
	}
	out := bufio.NewWriter(w)
	for _, x := range d {
		loud := red
		if x.Severity == SeverityWarning {
			loud = yellow
		}
		fmt.Fprintf(out, "%s %s %s", color(bold, x.place()+":"), color(loud, string(x.Severity)+":"), x.Text())
		if x.Rule != "" {
			fmt.Fprintf(out, " %s", color(dim, "["+x.Rule+"]"))
		}
		fmt.Fprintln(out)
		if line, mark := x.excerpt(); o.Excerpt && line != "" {
			fmt.Fprintf(out, "  %s%s\n", color(dim, "| "), line)
			space := strings.TrimRight(mark, "^~")
			fmt.Fprintf(out, "  %s%s%s\n", color(dim, "| "), space, color(loud, mark[len(space):]))
		}
		if x.Hint != "" {
			fmt.Fprintf(out, "  %s %s\n", color(cyan, "hint:"), Printable(x.Hint))
		}
	}
	return out.Flush()
}

// excerpt is the line of the file, and below it a caret under the place;
// empty when there is nothing to show.
func (d Diagnostic) excerpt() (line, mark string) {
	if d.line == "" || d.Col < 1 || d.Col > len(d.line)+1 {
		return "", ""
	}
	end := d.EndCol
	if end <= d.Col || end > len(d.line)+1 {
		end = d.Col
	}
	mark = blank(d.line[:d.Col-1]) + "^"
	if n := len(blank(d.line[d.Col-1 : end-1])); n > 1 {
		mark += strings.Repeat("~", n-1)
	}
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, d.line), mark
}

// blank is space as wide as s on a terminal.
func blank(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t':
			b.WriteRune(r)
		case unicode.In(r, unicode.Mn, unicode.Me):
		case wide(r):
			b.WriteString("  ")
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// wide tells whether a terminal gives a rune two columns.
func wide(r rune) bool {
	return r >= 0x1100 && (unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) ||
		r >= 0x3000 && r <= 0x303e || r >= 0xff01 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 ||
		r >= 0x1f300 && r <= 0x1f64f || r >= 0x1f680 && r <= 0x1f6ff || r >= 0x1f900 && r <= 0x1faff)
}

// sorted sorts, and keeps one diagnostic for each place, path and rule: what
// else is said there follows from it.
func (d Diagnostics) sorted() Diagnostics {
	slices.SortStableFunc(d, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(d, func(a, b Diagnostic) bool {
		return a.File == b.File && a.Line == b.Line && a.Col == b.Col && a.Path == b.Path && a.Name == b.Name &&
			(a.Message == b.Message || !many(a.Name))
	})
}

// many tells whether one place may break a rule in several ways at once, so
// that different words are different mistakes.
func many(rule string) bool {
	switch rule {
	case "unsupported", "compile", "chart-impure", "chart-render", "chart-replicas", "fks-support", "fks-refused", "tag":
		return true
	}
	return false
}
