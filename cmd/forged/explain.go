package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"forged.dev/forged/schema"
)

func newExplain(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain [RULE]",
		Short: "Say more about a rule that forged validate names",
		Long: `Say what a rule asks for and why, with an example of the mistake, of what forged says
of it, and of what to write instead. RULE is an id or a name, such as F101 or
unknown-key; without it all rules are listed.`,
		Example: `  forged explain F101
  forged explain same-namespace
  forged explain | grep -i secret`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var words []string
			if len(args) == 0 {
				for _, r := range schema.Rules() {
					words = append(words, r.ID+"\t"+r.Title, r.Name+"\t"+r.Title)
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		p := newPrinter(s.out)
		if len(args) == 0 {
			listRules(p)
			return p.err
		}
		r, ok := schema.RuleNamed(args[0])
		if !ok {
			return fmt.Errorf("there is no rule %q; forged explain lists them", args[0])
		}
		_, said, err := judge(c.Context(), schema.Example(r.Wrong))
		if r.Wrong != "" && err != nil && !errors.As(err, &said) {
			return err
		}
		return explain(p, r, said)
	}
	return c
}

func listRules(p *printer) {
	rows := [][]string{{"RULE", "NAME", "SEVERITY", "ASKS FOR"}}
	for _, r := range schema.Rules() {
		rows = append(rows, []string{r.ID, r.Name, string(r.Severity), r.Title})
	}
	p.table(rows, 3, func(row, col int) color {
		switch {
		case row == 0:
			return bold
		case col == 2:
			return severityColor(schema.Severity(rows[row][col]))
		}
		return plain
	})
}

func severityColor(s schema.Severity) color {
	if s == schema.SeverityWarning {
		return yellow
	}
	return red
}

// explain writes the page of a rule; said is what forged says of its example.
func explain(p *printer, r schema.Rule, said schema.Diagnostics) error {
	p.line(plain, p.paint(bold, r.ID+" "+r.Name)+" ("+p.paint(severityColor(r.Severity), string(r.Severity))+")")
	p.line(plain, "")
	p.wrapped(plain, "", r.Title)
	p.line(plain, "")
	p.wrapped(plain, "", r.Why)
	if r.Details != "" {
		p.line(plain, "")
	}
	for line := range strings.Lines(r.Details) {
		text, item := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "- ")
		if item {
			p.wrapped(plain, "- ", text)
		} else {
			p.wrapped(plain, "", text)
		}
	}
	block := func(title, text string) {
		p.line(plain, "")
		p.line(bold, title)
		p.line(plain, "")
		for line := range strings.Lines(text) {
			p.line(plain, strings.TrimRight("    "+strings.TrimSuffix(line, "\n"), " "))
		}
	}
	if r.Wrong != "" {
		block("Wrong", r.Wrong)
		var text strings.Builder
		for _, d := range said {
			if d.Rule == r.ID {
				_ = schema.Diagnostics{d}.Write(&text, schema.WriteOptions{Color: p.color}) // a strings.Builder takes everything
			}
		}
		if text.Len() > 0 {
			block("What forged says", text.String())
		}
		block("Right", r.Right)
	}
	p.line(plain, "")
	p.line(dim, r.URL())
	return p.err
}
