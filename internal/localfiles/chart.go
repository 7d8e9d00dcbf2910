package localfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"text/template/parse"
)

// Bounds of what is read of one chart.
const (
	maxChartFiles = 5000
	maxTemplate   = 1 << 20  // bytes
	maxTemplates  = 20 << 20 // bytes of all of them
	// maxLookups bounds how many variables the parser of templates compares: for
	// each one that is used, those that are declared before it.
	maxLookups = 50_000_000
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

func (i impurity) String() string { return fmt.Sprintf("%s:%d calls %s", i.file, i.line, i.function) }

// impure are the functions of Helm's templates whose result depends on more
// than their arguments: the time, chance, the cluster or the network (Helm
// documentation, Template Function List, and that of Sprig).
var impure = map[string]bool{
	"now": true, "ago": true, "uuidv4": true, "lookup": true, "getHostByName": true,
	"randAlphaNum": true, "randAlpha": true, "randNumeric": true, "randAscii": true, "randBytes": true, "randInt": true, "shuffle": true,
	"genPrivateKey": true, "genCA": true, "genCAWithKey": true, "genSelfSignedCert": true, "genSelfSignedCertWithKey": true,
	"genSignedCert": true, "genSignedCertWithKey": true, "bcrypt": true, "htpasswd": true, "encryptAES": true,
}

// impurities are the first few of those that were found, and how many there
// are in all.
type impurities struct {
	first []impurity
	all   int
}

func (f *impurities) add(i impurity) {
	f.all++
	at, _ := slices.BinarySearchFunc(f.first, i, impurity.compare)
	if at < most {
		f.first = slices.Insert(f.first, at, i)
		f.first = f.first[:min(len(f.first), most)]
	}
}

// scan reads the templates of the chart in a directory, and those of charts
// that lie unpacked in it.
func scan(ctx context.Context, dir string) (found impurities, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return found, err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat("Chart.yaml")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return found, errors.New("it has no Chart.yaml")
		}
		return found, err
	}
	if !info.Mode().IsRegular() {
		return found, errors.New("its Chart.yaml is not a regular file")
	}
	files, size := 0, 0
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if files++; files > maxChartFiles {
			return fmt.Errorf("it holds more than %d files", maxChartFiles)
		}
		if !d.Type().IsRegular() || !isTemplate(name) {
			return nil
		}
		text, err := read(root, name)
		if err != nil {
			return err
		}
		if size += len(text); size > maxTemplates {
			return fmt.Errorf("its templates are larger than %d MiB", maxTemplates>>20)
		}
		if strings.Count(text, ":=")*strings.Count(text, "$") > maxLookups {
			return fmt.Errorf("%s has too many variables", name)
		}
		calls(name, text, found.add)
		return nil
	})
	return found, err
}

// isTemplate tells whether Helm renders a file: it lies below a directory
// called templates.
func isTemplate(name string) bool {
	return slices.Contains(strings.Split(path.Dir(name), "/"), "templates")
}

func read(root *os.Root, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTemplate+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxTemplate {
		return "", fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return string(text), nil
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
