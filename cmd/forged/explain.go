package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/fks"
	"forged.dev/forged/schema"
)

func newExplain(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain [RULE...]",
		Short: "Say more about a rule that forged validate names",
		Long: `Say what a rule asks for and why, with an example of the mistake, of what forged says
of it, and of what to write instead. RULE is an id or a name, such as F101 or
unknown-key, and several may be given; without any all rules are listed. FKS101 and its
like are rules about what Fly Kubernetes can run.`,
		Example: `  forged explain F101
  forged explain FKS302
  forged explain same-namespace F503
  forged explain | grep -i secret`,
		Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var words []string
			for _, r := range schema.Rules() {
				words = append(words, r.ID+"\t"+r.Title, r.Name+"\t"+r.Title)
			}
			for _, r := range fks.Rules() {
				words = append(words, r.ID+"\t"+r.Name+": "+r.Message)
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
		var pages []func() error
		for _, name := range args {
			if r, ok := fks.RuleNamed(strings.Trim(name, "[],")); ok && strings.EqualFold(strings.Trim(name, "[],"), r.ID) {
				pages = append(pages, func() error { return explainFKS(p, r) })
				continue
			}
			r, err := ruleNamed(name)
			if err != nil {
				return err
			}
			pages = append(pages, func() error {
				_, said, err := judge(c.Context(), schema.Example(r.Wrong))
				if r.Wrong != "" && err != nil && !errors.As(err, &said) {
					return err
				}
				return explain(p, r, said)
			})
		}
		for i, page := range pages {
			if i > 0 {
				p.line(plain, "")
				p.line(plain, "")
			}
			if err := page(); err != nil {
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
	p.line(plain, "")
	p.wrapped(plain, "", "What Fly Kubernetes can run, in one table with all that each is about: "+fksPage)
	p.line(plain, "")
	about := [][]string{{"RULE", "NAME", "ACTION", "SAYS"}}
	for _, r := range fks.Rules() {
		about = append(about, []string{r.ID, r.Name, string(r.Action), r.Message})
	}
	p.table(about, 3, func(row, _ int) color {
		if row == 0 {
			return bold
		}
		return plain
	})
}

// fksPage is where the rules about Fly Kubernetes stand in one table.
const fksPage = "https://forged.dev/docs/reference/fks-rules"

// explainFKS writes what a rule about Fly Kubernetes is about, and what happens.
func explainFKS(p *printer, r fks.Rule) error {
	tone := plain
	switch r.Action {
	case fks.Error:
		tone = red
	case fks.Warn:
		tone = yellow
	}
	p.line(plain, p.paint(bold, r.ID+" "+r.Name)+" ("+p.paint(tone, string(r.Action))+")")
	p.line(plain, "")
	p.wrapped(plain, "", r.Message)
	if r.Hint != "" {
		p.wrapped(plain, "", "What to do: "+r.Hint+".")
	}
	p.line(plain, "")
	p.wrapped(plain, "- ", "It is about "+r.About()+".")
	switch r.Action {
	case fks.Error:
		p.wrapped(plain, "- ", "forged refuses what breaks it, before anything is touched.")
	case fks.Warn:
		p.wrapped(plain, "- ", "What breaks it stays as it is, and may not do what it says.")
	case fks.Drop:
		p.wrapped(plain, "- ", "It is taken out of what is rendered; forged plan shows it.")
	case fks.Rewrite:
		p.wrapped(plain, "- ", "What is rendered says it in another way; forged plan shows both.")
	case fks.Note:
		p.wrapped(plain, "- ", "It stays as it is, and is of no consequence.")
	}
	if r.Harmless && r.Action != fks.Note {
		p.wrapped(plain, "- ", "It takes nothing from anybody, so that no notice is given of it.")
	}
	if void := r.Unless.String(); void != "" {
		p.wrapped(plain, "- ", "It is void where "+void+".")
	}
	if r.Action != fks.Note && r.Action != fks.Warn {
		p.wrapped(plain, "- ", fmt.Sprintf("platform: allowUnsupported: [%q] lets it through as it is.", r.ID))
	}
	p.line(plain, "")
	p.wrapped(dim, "", "The documentation of "+fks.Version+": "+r.Doc)
	return p.err
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
