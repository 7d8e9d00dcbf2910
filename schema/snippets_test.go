package schema_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/cuecontext"

	"forged.dev/forged/schema"
)

// snippet is a block of CUE in a document. The words behind cue say what it
// is:
//
//	cue                                 a whole forge, or the beginning of one
//	cue fragment=environments.prod      what stands at this place
//	cue fragment=… platform=fly         the same, on another platform than minikube
//	cue invalid=F101                    it breaks this rule
//	cue plain                           CUE that is no forge
type snippet struct {
	file  string
	line  int
	words map[string]string
	text  string
}

var fence = regexp.MustCompile("^( *)```cue(| .*)$")

func snippets(t *testing.T) []snippet {
	t.Helper()
	var all []snippet
	read := func(name string) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var in *snippet
		indent := ""
		for i, line := range strings.Split(string(data), "\n") {
			m := fence.FindStringSubmatch(line)
			switch {
			case in != nil && strings.TrimSpace(line) == "```":
				all = append(all, *in)
				in = nil
			case in != nil:
				in.text += strings.TrimPrefix(line, indent) + "\n"
			case m != nil:
				indent = m[1]
				in = &snippet{file: name, line: i + 1, words: map[string]string{}}
				for _, word := range strings.Fields(m[2]) {
					key, value, _ := strings.Cut(word, "=")
					in.words[key] = value
				}
			}
		}
		if in != nil {
			t.Errorf("%s:%d: the block does not end", name, in.line)
		}
	}
	read("../README.md")
	err := filepath.WalkDir("../docs", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && filepath.ToSlash(name) == "../docs/reference/rules":
			return fs.SkipDir // made from examples that have a test of their own
		case strings.HasSuffix(name, ".md"):
			read(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// platforms are the least that each platform wants of an environment.
var platforms = map[string]string{
	"compose":    `platform: kind: "compose"`,
	"minikube":   `platform: kind: "minikube"`,
	"kubernetes": `platform: {kind: "kubernetes", context: "prod"}`,
	"eks":        `platform: {kind: "kubernetes", context: "prod", distribution: "eks"}`,
	"gke":        `platform: {kind: "kubernetes", context: "prod", distribution: "gke"}`,
	"aks":        `platform: {kind: "kubernetes", context: "prod", distribution: "aks"}`,
	"fks":        `platform: {kind: "fks", org: "acme", cluster: "prod", region: "iad", acknowledgeClosedBeta: true}`,
	"fly":        `{platform: {kind: "fly", org: "acme"}, regions: iad: {}}`,
}

// source is the forge that a snippet is part of.
func (s snippet) source() (schema.Source, error) {
	text := s.text
	at, fragment := s.words["fragment"]
	if fragment {
		text = strings.ReplaceAll(at, ".", ": ") + ": {\n" + text + "}\n"
		if parts := strings.Split(at, "."); len(parts) > 1 && parts[0] == "environments" {
			platform, named := s.words["platform"]
			if !named {
				platform = "minikube"
			}
			least, ok := platforms[platform]
			if !ok {
				return schema.Source{}, fmt.Errorf("platform %q is none of %q", platform, slices.Sorted(maps.Keys(platforms)))
			}
			if named || len(parts) > 2 || !regexp.MustCompile(`(?m)^platform:`).MatchString(s.text) {
				text += fmt.Sprintf("environments: %s: %s\n", parts[1], least)
			}
		}
	}
	return schema.Example(text), nil
}

// What the documents show works.
func TestSnippets(t *testing.T) {
	all := snippets(t)
	if len(all) == 0 {
		t.Fatal("no document has a block of CUE")
	}
	for _, s := range all {
		t.Run(fmt.Sprintf("%s:%d", strings.TrimPrefix(filepath.ToSlash(s.file), "../"), s.line), func(t *testing.T) {
			for word := range s.words {
				if !slices.Contains([]string{"fragment", "platform", "invalid", "plain"}, word) {
					t.Errorf("the word %q behind cue means nothing", word)
				}
			}
			if _, plain := s.words["plain"]; plain {
				if err := cuecontext.New().CompileString(s.text).Err(); err != nil {
					t.Error(err)
				}
				return
			}
			src, err := s.source()
			if err != nil {
				t.Fatal(err)
			}
			_, diags, err := schema.Load(t.Context(), src)
			if found, ok := errors.AsType[schema.Diagnostics](err); ok {
				diags = found
			} else if err != nil {
				t.Fatal(err)
			}
			var shown bytes.Buffer
			if err := diags.Write(&shown, schema.WriteOptions{Excerpt: true}); err != nil {
				t.Fatal(err)
			}
			rule, invalid := s.words["invalid"]
			if !invalid {
				if len(diags) > 0 {
					t.Errorf("it is not valid:\n%s\n%s", shown.String(), src.Files[0].Data)
				}
				return
			}
			if !slices.ContainsFunc(diags, func(d schema.Diagnostic) bool { return d.Rule == rule }) {
				t.Errorf("it does not break rule %s:\n%s", rule, shown.String())
			}
		})
	}
}
