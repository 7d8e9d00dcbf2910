package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"forged.dev/forged/schema"
)

// Text writes the report for people: to errs what is wrong, each time with the
// line it is in, and to out what is valid.
func (r Report) Text(out, errs io.Writer, color bool) error {
	var bad bytes.Buffer
	invalid := 0
	for _, f := range r.Forges {
		// What was said before stays before: the two may be one terminal.
		if err := f.Diagnostics.Write(&bad, schema.WriteOptions{Color: color, Excerpt: true}); err != nil {
			return err
		}
		if !r.accepts(f) {
			invalid++
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
	if len(r.Forges) < 2 || invalid == 0 {
		return nil
	}
	_, err := fmt.Fprintf(errs, "forged: %d of %d forges are not valid: %s\n", invalid, len(r.Forges), counted(r.count()))
	return err
}
