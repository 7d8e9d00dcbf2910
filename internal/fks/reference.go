package fks

import (
	"fmt"
	"strings"
)

// groups are the parts of the table, by the first digit of the ids.
var groups = []struct{ digit, title string }{
	{"1", "Kinds"},
	{"2", "Pods"},
	{"3", "Containers"},
	{"4", "Services"},
	{"5", "Storage"},
}

// Reference is the table in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString("# What runs on Fly Kubernetes\n\n" +
		"<!-- Made from internal/fks by go test ./internal/fks -run Reference -update. -->\n\n" +
		"Fly Kubernetes is Kubernetes with parts missing, and a closed beta. What a chart renders is fitted to it by these rules before it is applied; " +
		"the table is that of " + Version + ", when Fly's documentation said so. `forged validate` applies it offline, `forged plan` shows what changes, " +
		"and `forged explain FKS101` tells one rule. An id is never given to another rule.\n\n" +
		"| | What happens |\n| --- | --- |\n" +
		"| error | It cannot be had. forged refuses, and touches nothing. |\n" +
		"| warn | It stays, and may not do what it says. |\n" +
		"| rewrite | It is said in another way. |\n" +
		"| drop | It is taken out. |\n" +
		"| note | It stays, and is of no consequence. |\n" +
		"| harmless | It takes nothing from anybody. `forged plan` and `forged render --objects` show it; no notice is given of it. |\n\n" +
		"What was rewritten or dropped in an object stands in its annotation `" + Annotation + "`. " +
		"With `platform: allowUnsupported: [\"FKS201\"]` forged lets through what breaks that rule, as it is and with a warning: " +
		"for those who know that Fly Kubernetes has caught up. Some rules are void by themselves where the cluster turns out to have what was missing.\n\n" +
		"Kinds that do not stand here pass as they are. Within a rule the order counts: what one rule has taken out or said in another way, those after it do not see. " +
		"`{pod}` is the spec of pods, in whatever makes them (" + kinds(podKinds) + "), `{container}` each of their containers, and `{claim}` the spec of a claim for a volume, wherever it stands.\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "\n## %s\n\n| Rule | About | | Why, and what to do |\n| --- | --- | --- | --- |\n", g.title)
		for _, r := range table() {
			if strings.HasPrefix(r.ID, "FKS"+g.digit) {
				fmt.Fprintf(&b, "| <a id=%q></a>%s<br>%s | %s | %s | %s |\n", strings.ToLower(r.ID), r.ID, r.Name, r.about(), r.action(), r.why())
			}
		}
	}
	return b.String()
}

// About says in words what a rule is about, without marks.
func (r Rule) About() string { return strings.NewReplacer("`", "", `\|`, "|").Replace(r.about()) }

// about is what a rule is about, in Markdown.
func (r Rule) about() string {
	all := kinds(r.Kinds)
	switch {
	case strings.HasPrefix(r.Path, "{pod}"), strings.HasPrefix(r.Path, "{container}"), strings.HasPrefix(r.Path, "{claim}"):
		all = ""
	}
	if path := strings.ReplaceAll(r.Path, "|", `\|`); path != "" {
		all = strings.TrimPrefix(all+" ", " ") + "`" + path + "`"
	}
	if when := r.When.String(); when != "" {
		all += ": " + when
	}
	return all
}

// action is what happens, and whether anybody has to know.
func (r Rule) action() string {
	if r.Harmless {
		return string(r.Action) + ", harmless"
	}
	return string(r.Action)
}

func (r Rule) why() string {
	text := r.Message
	if r.Hint != "" {
		text += " " + strings.ToUpper(r.Hint[:1]) + r.Hint[1:] + "."
		if strings.HasPrefix(r.Hint, "service.fly.io") || strings.HasPrefix(r.Hint, "registry.fly.io") {
			text = r.Message + " " + r.Hint + "."
		}
	}
	if void := r.Unless.String(); void != "" {
		text += " Void where " + void + "."
	}
	if r.Doc == Undocumented {
		return text + " Not documented."
	}
	return text + " [Fly](" + r.Doc + ")"
}

// String says which values they are; empty: all.
func (w When) String() string {
	list := func(set []string) string { return strings.Join(set, ", ") }
	var all []string
	if len(w.OneOf) > 0 {
		all = append(all, list(w.OneOf))
	}
	if len(w.NoneOf) > 0 {
		all = append(all, "not "+list(w.NoneOf))
	}
	if w.More > 0 {
		all = append(all, fmt.Sprintf("more than %d", w.More))
	}
	if w.Over != "" {
		all = append(all, "more than "+w.Over)
	}
	if w.Absent && w.Words == "" {
		all = append(all, "or missing")
	}
	if w.Words != "" {
		all = append(all, w.Words)
	}
	return strings.Join(all, ", ")
}

// String says what the cluster has then; empty: nothing voids the rule.
func (c Capability) String() string {
	switch {
	case c.APIGroup != "":
		return "the cluster serves " + c.APIGroup
	case c.IngressClass:
		return "the cluster has the IngressClass"
	case c.StorageClass:
		return "the cluster has the StorageClass"
	}
	return ""
}

// kinds without their groups, for people.
func kinds(all []string) string {
	var names []string
	for _, kind := range all {
		name, group, _ := strings.Cut(kind, ".")
		if name == "*" {
			name = "all of " + group
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
