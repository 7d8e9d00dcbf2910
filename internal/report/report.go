// Package report says what validation has found, to people and to the programs
// that they let look at it: as text, JSON, SARIF 2.1.0, commands of GitHub
// Actions, and JUnit XML.
package report

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"forged.dev/forged/schema"
)

// Forge is what is known about one forge.
type Forge struct {
	File         string             // as it was named
	App          string             // of a valid forge
	Environments []string           // of a valid forge
	Diagnostics  schema.Diagnostics // errors make it invalid, warnings do not
	Err          error              // why it could not be judged, or not wholly
}

// Report is the outcome of one validation.
type Report struct {
	Forges  []Forge
	Strict  bool   // warnings are as bad as errors
	Version string // of forged

	// Dir is where relative file names start. Root is the directory that
	// SARIF and GitHub want them to start at; empty: the same.
	Dir, Root string
}

// Formats are the names of the forms that Write knows, the usual one first.
func Formats() []string { return []string{"text", "json", "sarif", "github", "junit"} }

// Write writes the report in a form by its name. The text is for people, and
// goes in two parts: what is wrong to errs, what is well to out.
func (r Report) Write(format string, out, errs io.Writer, color bool) error {
	switch format {
	case "text":
		return r.text(out, errs, color)
	case "json":
		return r.json(out)
	case "sarif":
		return r.sarif(out)
	case "github":
		return r.github(out)
	case "junit":
		return r.junit(out)
	}
	return fmt.Errorf("there is no format %q; it is one of %s", format, strings.Join(Formats(), ", "))
}

// Judged tells whether every forge could be read and evaluated.
func (r Report) Judged() bool {
	for _, f := range r.Forges {
		if f.Err != nil {
			return false
		}
	}
	return true
}

// Accepted tells whether every forge is valid, and with Strict without a
// warning.
func (r Report) Accepted() bool {
	for _, f := range r.Forges {
		if !r.accepts(f) {
			return false
		}
	}
	return true
}

func (r Report) accepts(f Forge) bool {
	return f.Err == nil && f.Diagnostics.Errors() == 0 && (!r.Strict || len(f.Diagnostics) == 0)
}

// count is the number of errors and of warnings in all forges.
func (r Report) count() (errors, warnings int) {
	for _, f := range r.Forges {
		errors += f.Diagnostics.Errors()
		warnings += f.Diagnostics.Warnings()
	}
	return errors, warnings
}

// located is a file name as seen from Root, and whether it is inside of it.
func (r Report) located(file string) (name string, inside bool) {
	root := r.Root
	if root == "" {
		root = r.Dir
	}
	abs := file
	if !filepath.IsAbs(abs) {
		abs = filepath.Join(r.Dir, file)
	}
	if rel, err := filepath.Rel(root, abs); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel), true
	}
	return filepath.ToSlash(abs), false
}

// plural is a number of things, in words.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// counted is "2 errors and 1 warning", or what of it there is.
func counted(errors, warnings int) string {
	switch {
	case warnings == 0:
		return plural(errors, "error")
	case errors == 0:
		return plural(warnings, "warning")
	}
	return plural(errors, "error") + " and " + plural(warnings, "warning")
}
