package localfiles

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template/parse"
	"unicode"
)

// Bounds of what is read of one chart.
const (
	maxTemplate  = 1 << 20  // bytes
	maxTemplates = 20 << 20 // bytes of all of them
	// maxLookups bounds how many variables the parser of templates compares: for
	// each one that is used, those that are declared before it.
	maxLookups = 50_000_000
	// maxNesting bounds the depth of conditions and loops in each other: its
	// parser takes more and more of the stack with each.
	maxNesting = 500
)

// most is how many calls are shown.
const most = 3

// impurity is a call of a function that gives another answer each time.
type impurity struct {
	file     string
	line     int
	function string
}

func (i impurity) compare(o impurity) int {
	return cmp.Or(cmp.Compare(i.file, o.file), cmp.Compare(i.line, o.line), cmp.Compare(i.function, o.function))
}

func (i impurity) String() string { return fmt.Sprintf("%s in %s:%d", i.function, i.file, i.line) }

// impure are the functions of Helm's templates whose result depends on more
// than their arguments: the time, chance, the cluster or the network (Helm
// documentation, Template Function List, and that of Sprig).
var impure = map[string]bool{
	"now": true, "ago": true, "uuidv4": true, "lookup": true, "getHostByName": true,
	"randAlphaNum": true, "randAlpha": true, "randNumeric": true, "randAscii": true, "randBytes": true, "randInt": true, "shuffle": true,
	"genPrivateKey": true, "genCA": true, "genCAWithKey": true, "genSelfSignedCert": true, "genSelfSignedCertWithKey": true,
	"genSignedCert": true, "genSignedCertWithKey": true, "bcrypt": true, "htpasswd": true, "encryptAES": true,
}

// hidden are those whose result may be the same in two renderings one after the
// other without a cluster, and another tomorrow, or on a cluster.
var hidden = map[string]bool{"now": true, "ago": true, "lookup": true, "getHostByName": true}

// impurities are the first few of those that were found in each template, and
// how many there are.
type impurities map[string]*inTemplate

type inTemplate struct {
	first []impurity
	all   int
	plain int // of which two renderings show the difference
}

func (f impurities) add(i impurity) {
	in := f[i.file]
	if in == nil {
		in = &inTemplate{}
		f[i.file] = in
	}
	if in.all++; !hidden[i.function] {
		in.plain++
	}
	at, _ := slices.BinarySearchFunc(in.first, i, impurity.compare)
	if at < most {
		in.first = slices.Insert(in.first, at, i)
		in.first = in.first[:min(len(in.first), most)]
	}
}

// of are those in some templates, for people; empty: there are none.
func (f impurities) of(templates func(name string) bool) string {
	var first []impurity
	all := 0
	for name, in := range f {
		if templates(name) {
			first, all = append(first, in.first...), all+in.all
		}
	}
	slices.SortFunc(first, impurity.compare)
	first = first[:min(len(first), most)]
	var places []string
	for _, i := range first {
		places = append(places, i.String())
	}
	if more := all - len(places); more > 0 {
		places = append(places, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(places, ", ")
}

// scan finds the impure calls in the templates of a chart, and in those of the
// charts in it.
func scan(ctx context.Context, files map[string]string) (impurities, error) {
	found, size := impurities{}, 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		switch {
		case ctx.Err() != nil:
			return found, context.Cause(ctx)
		case !isTemplate(name):
			continue
		case len(text) > maxTemplate:
			return found, fmt.Errorf("%s is larger than 1 MiB", name)
		}
		if size += len(text); size > maxTemplates {
			return found, fmt.Errorf("its templates are larger than %d MiB", maxTemplates>>20)
		}
		if nesting(text) > maxNesting {
			return found, fmt.Errorf("%s nests too deep", name)
		}
		if strings.Count(text, ":=")*strings.Count(text, "$") > maxLookups {
			return found, fmt.Errorf("%s has too many variables", name)
		}
		calls(name, text, found.add)
	}
	return found, nil
}

// nesting is how deep the actions of a template lie in each other, at most. An
// else with a condition lies in the condition before it.
func nesting(text string) int {
	var open []int // how many each end closes
	depth, most := 0, 0
	for {
		_, after, ok := strings.Cut(text, "{{")
		if !ok {
			return most
		}
		text = after
		first, rest := word(strings.TrimPrefix(text, "-"))
		second, _ := word(rest)
		switch {
		case slices.Contains([]string{"if", "range", "with", "define", "block"}, first):
			open = append(open, 1)
			depth++
		case first == "else" && second != "" && len(open) > 0:
			open[len(open)-1]++
			depth++
		case first == "end" && len(open) > 0:
			depth -= open[len(open)-1]
			open = open[:len(open)-1]
		}
		most = max(most, depth)
	}
}

// word is the first word of a text, and what follows it.
func word(text string) (first, rest string) {
	text = strings.TrimLeft(text, " \t\r\n")
	end := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(text)
	}
	return text[:end], text[end:]
}

// isTemplate tells whether Helm renders a file: it lies below a directory
// called templates.
func isTemplate(name string) bool {
	return slices.Contains(strings.Split(path.Dir(name), "/"), "templates")
}

// calls hands out the impure functions that a template calls, each once for a
// line. A template that cannot be read has none: Helm says what is wrong with
// it.
func calls(file, text string, add func(impurity)) {
	tree := parse.New(file)
	tree.Mode = parse.SkipFuncCheck
	trees := map[string]*parse.Tree{}
	if _, err := tree.Parse(text, "", "", trees); err != nil {
		return
	}
	var ends []int // of lines
	seen := map[impurity]bool{}
	for _, t := range trees {
		if t.Root == nil {
			continue
		}
		walk(t.Root, func(n *parse.IdentifierNode) {
			if !impure[n.Ident] {
				return
			}
			if ends == nil {
				ends = lineEnds(text)
			}
			line, _ := slices.BinarySearch(ends, int(n.Pos))
			if i := (impurity{file, 1 + line, n.Ident}); !seen[i] {
				seen[i] = true
				add(i)
			}
		})
	}
}

func lineEnds(text string) []int {
	ends := []int{}
	for i := range len(text) {
		if text[i] == '\n' {
			ends = append(ends, i)
		}
	}
	return ends
}

// walk visits every identifier below a node.
func walk(n parse.Node, visit func(*parse.IdentifierNode)) {
	list := func(l *parse.ListNode) {
		if l == nil {
			return
		}
		for _, n := range l.Nodes {
			walk(n, visit)
		}
	}
	branch := func(b *parse.BranchNode) {
		walk(b.Pipe, visit)
		list(b.List)
		list(b.ElseList)
	}
	switch n := n.(type) {
	case *parse.ListNode:
		list(n)
	case *parse.ActionNode:
		walk(n.Pipe, visit)
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			walk(c, visit)
		}
	case *parse.CommandNode:
		for _, a := range n.Args {
			walk(a, visit)
		}
	case *parse.ChainNode:
		walk(n.Node, visit)
	case *parse.IdentifierNode:
		visit(n)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.TemplateNode:
		walk(n.Pipe, visit)
	}
}
