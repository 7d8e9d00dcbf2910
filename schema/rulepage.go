package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

const rulesHead = "Every mistake breaks a rule. Its id stands at the end of each message, and `forged explain ID` shows its page.\n" +
	"A warning does not make a forge invalid, unless `--strict` is given.\n"

// rulesTable lists every rule with links to their pages, which are in dir.
func rulesTable(b *strings.Builder, dir string) {
	b.WriteString("| Rule | Name | | Asks for |\n| --- | --- | --- | --- |\n")
	for _, r := range Rules() {
		fmt.Fprintf(b, "| [%s](%s%s.md) | `%s` | %s | %s |\n", r.ID, dir, r.ID, r.Name, r.Severity, r.Title)
	}
}

// rulesPage is the list of all rules in Markdown.
func rulesPage() string {
	var b strings.Builder
	b.WriteString("# Rules\n\n<!-- Made from schema/catalog*.go by go test ./schema -run Reference -update. -->\n\n" + rulesHead)
	b.WriteString("An id is never given to another rule.\n")
	for _, g := range catalog() {
		fmt.Fprintf(&b, "\n## %s\n\n| Rule | Name | | Asks for |\n| --- | --- | --- | --- |\n", g.Title)
		for _, r := range g.Rules {
			fmt.Fprintf(&b, "| [%s](%s.md) | `%s` | %s | %s |\n", r.ID, r.ID, r.Name, r.Severity, r.Title)
		}
	}
	return b.String()
}

// page is what there is to say about the rule, in Markdown. said is what
// forged says of the example, see [Rule.Show].
func (r Rule) page(said Diagnostics) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %s\n\n%s Breaking it is %s.\n\n%s\n", r.ID, r.Name, r.Title, r.article(), r.Why)
	if r.Details != "" {
		fmt.Fprintf(&b, "\n%s", r.Details)
	}
	if r.Wrong == "" {
		return b.String()
	}
	fmt.Fprintf(&b, "\n## Wrong\n\n%s", fenced(r.Wrong))
	if len(said) > 0 {
		var text strings.Builder
		_ = said.Write(&text, WriteOptions{Excerpt: true}) // a strings.Builder takes everything
		fmt.Fprintf(&b, "\n```text\n%s```\n", text.String())
	}
	fmt.Fprintf(&b, "\n## Right\n\n%s", fenced(r.Right))
	return b.String()
}

func (r Rule) article() string {
	if r.Severity == SeverityWarning {
		return "a warning"
	}
	return "an error"
}

// fenced is a snippet as a block of Markdown, or as one for each of its files.
func fenced(snippet string) string {
	var b strings.Builder
	for i, f := range files(snippet) {
		if i > 0 {
			b.WriteString("\n")
		}
		if f.Name != "forge.cue" {
			fmt.Fprintf(&b, "`%s`:\n\n", f.Name)
		}
		fmt.Fprintf(&b, "```cue\n%s```\n", f.Data)
	}
	return b.String()
}

// Show is what forged says of the example of a mistake.
func (r Rule) Show(ctx context.Context, checks ...Check) (Diagnostics, error) {
	if r.Wrong == "" {
		return nil, nil
	}
	_, warnings, err := Load(ctx, Example(r.Wrong), checks...)
	if d := Diagnostics(nil); errors.As(err, &d) {
		return d, nil
	}
	return warnings, err
}
