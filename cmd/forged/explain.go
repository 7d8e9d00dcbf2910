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
		Use:   "explain [RULE...]",
		Short: "Say more about a rule that forged validate names",
		Long: `Say what a rule asks for and why, with an example of the mistake, of what forged says
of it, and of what to write instead. RULE is an id or a name, such as F101 or
unknown-key, and several may be given; without any all rules are listed.`,
		Example: `  forged explain F101
  forged explain same-namespace F503
  forged explain | grep -i secret`,
		Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var words []string
			for _, r := range schema.Rules() {
				words = append(words, r.ID+"\t"+r.Title, r.Name+"\t"+r.Title)
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
		var rules []schema.Rule
		for _, name := range args {
			r, err := ruleNamed(name)
			if err != nil {
				return err
			}
			rules = append(rules, r)
		}
		for i, r := range rules {
			_, said, err := judge(c.Context(), schema.Example(r.Wrong))
			if r.Wrong != "" && err != nil && !errors.As(err, &said) {
				return err
			}
			if i > 0 {
				p.line(plain, "")
				p.line(plain, "")
			}
			if err := explain(p, r, said); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// ruleNamed finds a rule by its id or its name, as people write them: F101,
// [F101], unknown-key.
func ruleNamed(name string) (schema.Rule, error) {
	name = strings.Trim(name, "[],")
	if r, ok := schema.RuleNamed(name); ok {
		return r, nil
	}
	var words []string
	for _, r := range schema.Rules() {
		words = append(words, r.Name)
	}
	hint := schema.DidYouMean(name, words)
	if hint == "" {
		hint = "forged explain lists them"
	}
	return schema.Rule{}, fmt.Errorf("there is no rule %q; %s", name, hint)
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
