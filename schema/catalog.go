package schema

import "strings"

// Rule is one thing that is asked of a forge. Its id and its name are stable
// for ever: an id that is no longer used is never given to another rule.
type Rule struct {
	ID       string // F101
	Name     string // unknown-key
	Severity Severity
	Title    string // what is asked for, in one sentence
	Why      string // plain sentences

	Details string // more to know, in Markdown without headings; mostly empty

	// An example of a mistake and what to write instead, in CUE. Of a whole
	// forge only what matters is there, see [Rule.Example]. Several files are
	// told apart by lines such as "-- shop.cue --". Wrong is empty when no text
	// alone can show the mistake.
	Wrong, Right string
}

// group is a range of ids.
type group struct {
	Title string
	Rules []Rule
}

// catalog is every rule, by group and in the order of their ids. To add one,
// write it at the end of its group, with the next id.
func catalog() []group {
	return []group{
		{"Reading the text", textRules},
		{"Keys and values", keyRules},
		{"App, variables and secrets", appRules},
		{"One environment", environmentRules},
		{"Fly and Fly Kubernetes", flyRules},
		{"Between environments", neighbourRules},
		{"This build", buildRules},
	}
}

// Rules are the rules of the catalogue in the order of their ids.
func Rules() []Rule {
	var all []Rule
	for _, g := range catalog() {
		all = append(all, g.Rules...)
	}
	return all
}

// RuleNamed finds a rule by its name or its id, in either case.
func RuleNamed(name string) (Rule, bool) {
	for _, rules := range [...][]Rule{textRules, keyRules, appRules, environmentRules, flyRules, neighbourRules, buildRules} {
		for i := range rules {
			if strings.EqualFold(rules[i].Name, name) || strings.EqualFold(rules[i].ID, name) {
				return rules[i], true
			}
		}
	}
	return Rule{}, false
}

// URL is where the page of the rule is.
func (r Rule) URL() string { return "https://forged.dev/docs/reference/rules/" + r.ID }

// rest completes an example: a line is added when the example says nothing of
// its path.
var rest = []struct{ path, text string }{
	{"forge", `forge: "v1"`},
	{"app.name", `app: name: "shop"`},
	{"app.image", `app: image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}`},
	{"environments", `environments: dev: platform: kind: "minikube"`},
}

// Example makes a forge from Wrong or Right: what it does not say is added
// below it, so that its lines keep their numbers.
func Example(snippet string) Source {
	src := Source{Files: files(snippet)}
	if parsed, diags := parse(src); len(diags) == 0 {
		x := newIndex(parsed)
		last := &src.Files[len(src.Files)-1]
		for _, r := range rest {
			if _, ok := x.places[r.path]; !ok {
				last.Data = append(last.Data, r.text+"\n"...)
			}
		}
	}
	return src
}

// files are the files of a snippet.
func files(snippet string) []File {
	all := []File{{Name: "forge.cue"}}
	for line := range strings.Lines(snippet) {
		f := &all[len(all)-1]
		if name, ok := strings.CutPrefix(line, "-- "); ok {
			if len(f.Data) > 0 {
				all = append(all, File{})
				f = &all[len(all)-1]
			}
			f.Name = strings.TrimSuffix(name, " --\n")
			continue
		}
		f.Data = append(f.Data, line...)
	}
	return all
}
