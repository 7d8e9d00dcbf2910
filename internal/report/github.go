package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"forged.dev/forged/schema"
)

// github writes the report as commands of GitHub Actions, which shows them
// beside the lines of a pull request.
func (r Report) github(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, f := range r.Forges {
		if f.Err != nil {
			fmt.Fprintf(out, "::error title=forged::%s\n", githubMessage.Replace(f.Err.Error()))
		}
		for _, d := range f.Diagnostics {
			command := "error"
			if d.Severity == schema.SeverityWarning {
				command = "warning"
			}
			name, _ := r.located(d.File)
			fmt.Fprintf(out, "::%s file=%s", command, githubProperty.Replace(name))
			if d.Line > 0 {
				fmt.Fprintf(out, ",line=%d", d.Line)
			}
			if start, end := d.Span(); d.Line > 0 && start > 0 {
				fmt.Fprintf(out, ",col=%d", start)
				if end > start {
					fmt.Fprintf(out, ",endColumn=%d", end-1) // GitHub includes it
				}
			}
			text := d.Text()
			if d.Hint != "" {
				text += "\nhint: " + d.Hint
			}
			fmt.Fprintf(out, ",title=%s::%s\n", githubProperty.Replace(strings.TrimSpace(d.Rule+" "+d.Name)), githubMessage.Replace(text))
		}
	}
	errors, warnings := r.count()
	fmt.Fprintf(out, "%s in %s\n", counted(errors, warnings), plural(len(r.Forges), "forge"))
	return out.Flush()
}

// What ends a message or a property of a command has to be written otherwise.
var (
	githubMessage  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	githubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
