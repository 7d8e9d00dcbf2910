package schema

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity says what a diagnostic means for the forge.
type Severity string

// Severities.
const (
	SeverityError   Severity = "error"   // a mistake; a forge with one is not used
	SeverityWarning Severity = "warning" // a forge with one is used
)

// Diagnostic is one mistake in the text of a forge. It never holds the value
// of a secret. Its JSON form is stable.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`           // from 1; 0: the whole file
	Col      int      `json:"column"`         // from 1, in bytes; 0: the whole line
	Path     string   `json:"path,omitempty"` // environments.prod.expose.kind
	Rule     string   `json:"rule"`           // what is broken; see Rules
	Message  string   `json:"message"`        // one sentence without a full stop
	Hint     string   `json:"hint,omitempty"` // what to do next

	line string // of the file, for the excerpt; empty where it may hold a secret
}

// Diagnostics are the mistakes of one forge, sorted by file, line, column and
// path.
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

// Error is the first mistake and the number of the others.
func (d Diagnostics) Error() string {
	switch len(d) {
	case 0:
		return "no mistake"
	case 1:
		return d[0].String()
	}
	return fmt.Sprintf("%s (and %d more)", d[0], len(d)-1)
}

// String is the diagnostic in one line, without the hint.
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.place())
	b.WriteString(": ")
	if d.Path != "" {
		b.WriteString(d.Path + ": ")
	}
	b.WriteString(d.Message)
	return b.String()
}

func (d Diagnostic) place() string {
	switch {
	case d.Line == 0:
		return d.File
	case d.Col == 0:
		return fmt.Sprintf("%s:%d", d.File, d.Line)
	}
	return fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Col)
}

// WriteOptions say how diagnostics are shown.
type WriteOptions struct {
	Color   bool // with ANSI colours
	Excerpt bool // with the line of the file and a mark below the place
}

const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	cyan  = "\x1b[36m"
	dim   = "\x1b[2m"
	reset = "\x1b[0m"
)

// Write shows the diagnostics to a person:
//
//	forge.cue:12:3: environments.prod.expose.kind: "ingres" is not …
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
		path := ""
		if x.Path != "" {
			path = x.Path + ": "
		}
		fmt.Fprintf(out, "%s %s%s\n", color(bold, x.place()+":"), path, color(red, x.Message))
		if o.Excerpt && x.line != "" && x.Col > 0 && x.Col <= len(x.line)+1 {
			fmt.Fprintf(out, "  %s\n", color(dim, "| ")+x.line)
			fmt.Fprintf(out, "  %s\n", color(dim, "| ")+indent(x.line[:x.Col-1])+color(red, "^"))
		}
		if x.Hint != "" {
			fmt.Fprintf(out, "  %s %s\n", color(cyan, "hint:"), x.Hint)
		}
	}
	return out.Flush()
}

// indent is blank space as wide as s.
func indent(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, s)
}

func (d Diagnostics) sorted() Diagnostics {
	slices.SortStableFunc(d, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(d, func(a, b Diagnostic) bool {
		return a.File == b.File && a.Line == b.Line && a.Col == b.Col && a.Path == b.Path && a.Message == b.Message
	})
}

// Rules are the values of Diagnostic.Rule, each with what it asks for.
var Rules = map[string]string{
	"syntax":                 "The text is CUE, and not nested too deep.",
	"size":                   "A file is not larger than 1 MiB.",
	"package":                "Files that are read together have the same package clause.",
	"import":                 "Nothing is read but the files given and CUE's standard library.",
	"reference":              "A name without quotes is that of another field.",
	"version":                "The version of the language is one that this build reads.",
	"unknown-key":            "Every key is part of the language.",
	"unread-key":             "Every key is read: it does not depend on something that is not chosen.",
	"unsupported":            "Every key and value is supported by this build.",
	"missing-key":            "Keys without a default are written.",
	"closed":                 "A definition of the file allows what is added to it.",
	"name":                   "Names that are free to choose are well formed.",
	"value":                  "A value is one of those its key accepts, and there is just one.",
	"secret-value":           "The value of a secret is not in the file.",
	"secret-source":          "A secret has exactly one source.",
	"latest":                 "The tag of an image is not latest.",
	"image-not-pinned":       "Every environment ends up with a tag or a digest.",
	"set-twice":              "A variable is in env or in secrets, not in both.",
	"injected":               "Variables that forged makes are not written.",
	"prefix":                 "No variable begins with PRODUCTION_ or DEVELOPMENT_.",
	"no-environment":         "There is an environment.",
	"namespace":              "The namespace is not one of the cluster's own, and not too long.",
	"same-namespace":         "Two environments do not share a namespace.",
	"same-domain":            "A domain is written once for each cluster.",
	"ingress-without-domain": "An ingress has a domain.",
	"scaling":                "max is at least min; a range has a target, and a target has a range.",
	"limit":                  "A limit is at least the request.",
	"bound":                  "Durations are within their bounds.",
	"object-name":            "The names that forged gives to objects are not too long.",
}
