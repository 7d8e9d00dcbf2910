package schema

import (
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
)

// Whatever the text, its package and its imports are told, or that they
// cannot be.
func FuzzModule(f *testing.F) {
	for _, text := range []string{
		"", "package forge", "package _\n", "package forge\nimport \"example.com/a@v0:b\"\n", "pakcage forge",
		"import (\n\t\"strings\"\n\tx \"a.b/c\"\n)\n", "module: \"example.com/shop@v0\"\nlanguage: version: \"v0.17.1\"\n",
		"module: \"\"", "module: \"\\(1)\"", "module: \"/@\"", "@if(a)\npackage b", "import \"\"", "import \"./a\"", "import \"a.b/../c\"", "\xef\xbb\xbfpackage a",
		"import \"a.b:c\"", "import \"a.b/c:\"", "import \"a.b/@v1\"", strings.Repeat("[", 2000),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file := File{"x.cue", data}
		if pkg, ok := packageOf(file); pkg != "" && !ok {
			t.Errorf("package %q and not understood", pkg)
		}
		name, major := moduleName(file)
		if (name == "") != (major == "") || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
			t.Errorf("module %q, version %q", name, major)
		}
		for _, p := range imports([]File{file}) {
			one := packagePath(p)
			if again := packagePath(one); again != one {
				t.Errorf("%q is written %q and %q", p, one, again)
			}
			if builtIn(one) {
				t.Errorf("%q is not built in and %q is", p, one)
			}
		}
	})
}

// Whatever the attribute, it is a tag or a mistake that is explained.
func FuzzTag(f *testing.F) {
	for _, body := range []string{
		"", "sha", "sha,type=int", "sha, short = a|b", `sha,type="int"`, `sha,short="a|b"`, "sha,var=now", "sha,", ",,", "a=b", "sha,(,),[", `sha,"`, "sha,short=", "_,type=bool",
	} {
		f.Add(body, "1.5e3")
	}
	f.Fuzz(func(t *testing.T, body, value string) {
		got, message, _ := parseTag(&ast.Attribute{Text: "@tag(" + body + ")"})
		if (got == nil) == (message == "") {
			t.Fatalf("%+v, %q", got, message)
		}
		if got == nil {
			return
		}
		if !ast.IsValidIdent(got.name) || kinds[got.typ] == "" || got.example() == "" {
			t.Errorf("%+v", got)
		}
		if lit := got.literal(value); lit != nil {
			text := "x: " + value
			if got.typ == "int" || got.typ == "number" {
				if _, err := parser.ParseFile("x.cue", text); err != nil {
					t.Errorf("%q is taken for %s: %v", value, kinds[got.typ], err)
				}
			}
		}
	})
}

// What a survey allows CUE to read, CUE reads as the survey says.
func FuzzSurvey(f *testing.F) {
	for _, text := range []string{
		"", "package a\nimport \"b.c/d\"\n@x(a,b=[1,{c:2}])\na: \"\\(b)\"\n", "@x((", "@x(@y(@z()))", "@", "@@", "@ x(", "@x\n(", "@1x(\"\"\"\n)\n\"\"\")", "@é(",
		"a: \"\\(b \"\\(1)\") q @x((((((\"", "a: #\"\\#(b)\\(c)\"#", "a: \"\"\"\n\t\\({b: \"}\"})\n\t\"\"\"", "a: '\\(b)' @x('\\(c)')", "// @x((\na: 1",
		"\"\\(a)\"?: 1", "a: \"\\(b[0])\\(c)\" @y()", "import (\"a.b/c\"\n@x()\n)", "package a; b: 1", "a: ]\n@x((", "a: \"\n@x((\n\"",
		"@if(a)\n\n@if(b)\npackage c\n@d(e)\nimport e \"f.g/h\"\ni: e.j", "a: 1 @b(c \"\\(d)\")", "\xef\xbb\xbf@a()\npackage b", "=@x(a) !@x(a) ?@x(b)", ",@a(",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file := File{"x.cue", data}
		whole, err := parser.ParseFile(file.Name, data)
		if found := lookAtHead(file); err == nil && len(found.faults) == 0 {
			pkg, ok := clauseOf(file)
			if !ok || pkg != whole.PackageName() {
				t.Errorf("package %q %t, want %q", pkg, ok, whole.PackageName())
			}
			var want []string
			for spec := range whole.ImportSpecs() {
				if p, err := literal.Unquote(spec.Path.Value); err == nil && !builtIn(p) {
					want = append(want, p)
				}
			}
			if got := imports([]File{file}); !slices.Equal(got, want) {
				t.Errorf("imports %q, want %q", got, want)
			}
		}
		found := look(file)
		text, ok := found.plain(data)
		if _, again := parser.ParseFile(file.Name, text); err == nil && ok && again != nil {
			t.Errorf("%v in %q", again, text)
		}
		if err == nil && len(found.faults) == 0 && (found.strays || found.torn || found.early) {
			t.Errorf("%+v, and there is no mistake", found)
		}
	})
}
