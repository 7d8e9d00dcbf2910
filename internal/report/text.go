package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"forged.dev/forged/schema"
)

// text writes the report for people: to errs what is wrong, each time with the
// line it is in, and to out what is valid.
func (r Report) text(out, errs io.Writer, color bool) error {
	var bad bytes.Buffer
	for _, f := range r.Forges {
		// What was said before stays before: the two may be one terminal.
		if err := f.Diagnostics.Write(&bad, schema.WriteOptions{Color: color, Excerpt: true}); err != nil {
			return err
		}
		file := schema.Printable(f.File)
		switch n := f.Diagnostics.Warnings(); {
		case f.Err != nil:
			for i, line := range strings.Split(f.Err.Error(), "\n") {
				if i == 0 {
					line = "forged: " + line
				}
				fmt.Fprintln(&bad, schema.Printable(line))
			}
		case f.Diagnostics.Errors() > 0:
			fmt.Fprintf(&bad, "forged: %s is invalid: %s\n", file, counted(f.Diagnostics.Errors(), n))
		case !r.accepts(f):
			fmt.Fprintf(&bad, "forged: %s is refused: %s, and --strict is given\n", file, plural(n, "warning"))
		}
		if _, err := errs.Write(bad.Bytes()); err != nil {
			return err
		}
		bad.Reset()
		if r.accepts(f) {
			with := ""
			if n := f.Diagnostics.Warnings(); n > 0 {
				with = ", with " + plural(n, "warning")
			}
			if _, err := fmt.Fprintf(out, "%s: valid%s: %s in %s\n", file, with, schema.Printable(f.App), strings.Join(f.Environments, ", ")); err != nil {
				return err
			}
		}
	}
	if len(r.Forges) < 2 {
		return nil
	}
	return r.sum(errs)
}

// sum writes what came out of several forges, unless all are well.
func (r Report) sum(w io.Writer) error {
	valid, invalid, unknown := 0, 0, 0
	for _, f := range r.Forges {
		switch {
		case f.Err != nil:
			unknown++
		case r.accepts(f):
			valid++
		default:
			invalid++
		}
	}
	if invalid+unknown == 0 {
		return nil
	}
	var parts []string
	for _, x := range []struct {
		n    int
		what string
	}{{valid, "valid"}, {invalid, "invalid"}, {unknown, "not judged"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	_, err := fmt.Fprintf(w, "forged: %d forges: %s; %s\n", len(r.Forges), strings.Join(parts, ", "), counted(r.count()))
	return err
}
