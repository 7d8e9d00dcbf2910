package schema_test

import (
	"slices"
	"strings"
	"testing"

	"forged.dev/forged/schema"
)

// quadratic are texts, or nearly, for which CUE's scanner and parser take time
// that grows with the square of their length: 20 seconds for the first, an hour
// for all, and so the test would not end.
func quadratic() map[string]string {
	const n = 128 << 10
	fill := func(s string) string { return strings.Repeat(s, n/len(s)) }
	half := func(s string) string { return strings.Repeat(s, n/2/len(s)) }
	return map[string]string{
		"brackets":                     "@x(" + fill("("),
		"brackets of lists":            "@x(" + fill("["),
		"brackets of structs":          "@x(" + fill("{"),
		"brackets on lines":            "@x(" + fill("(\n"),
		"brackets without a name":      "@(" + fill("("),
		"brackets that match nothing":  "@x(" + fill("]"),
		"attributes in attributes":     fill("@x("),
		"attributes without a name":    fill("@("),
		"attributes that end":          half("@xx(") + half(")xx)"),
		"attributes and no brackets":   fill("@"),
		"names and no brackets":        fill("@a"),
		"spaces and no brackets":       fill("@ "),
		"attributes of another script": fill("@é("),
		"interpolations in attributes": "@x(" + fill(`"\(`+"\n"),
		"strings that do not end":      "@x(" + fill("\"\n"),
		"strange characters":           "@x(" + fill("`\n"),
		"zeros":                        "@x(" + fill("\x00"),
		"zeros in a comment":           "//" + fill("\x00"),
		"zeros in a string":            `x: "` + fill("\x00") + `"`,
		"no UTF-8 in a comment":        "//" + fill("\xff"),
		"no UTF-8 in comments":         fill("//\xff\n"),
		"no UTF-8 in a string":         `x: "` + fill("\xff") + `"`,
		"byte order marks":             "//" + fill("\ufeff"),
		"escapes in a string":          `x: "` + fill(`\q`) + `"`,
		"escapes in strings":           "x: [" + fill("\"\\q\",\n") + "]",
		"escapes of bytes":             "x: '" + fill(`\xzz`) + "'",
		"fields with wrong strings":    fill("a: \"\n"),
		"fields with wrong numbers":    fill("a: 0x\n"),
		"fields with octal numbers":    fill("a: 077\n"),
		"digits that are none":         "x: " + fill("٣"),
		"lists of what cannot be":      "x: [" + fill("__#a,\n") + "]",
		"imports":                      fill("import \"\n"),
		"attributes in a string":       `x: "\(y)` + fill("@x(") + "\"\n]",
		"deep fields":                  fill("a:") + "1",
		"deep fields on lines":         fill("a\n:") + "1",
		"deep loops":                   "x: {" + fill("for x in y ") + "{}}",
		"selectors":                    "x: a" + fill(".a"),
	}
}

// TestQuadraticText: wherever such a text stands, it is refused in the time it
// takes to read it once, and with a place.
func TestQuadraticText(t *testing.T) {
	for name, hostile := range quadratic() {
		head, body := "@if(!never)\n", minimal
		everywhere := strings.HasPrefix(name, "attributes") || name == "brackets" || name == "zeros in a string"
		for where, forge := range map[string]string{
			"alone":             hostile,
			"at the head":       hostile + "\npackage forge\n" + body,
			"behind the clause": "package forge\n" + hostile,
			"in the middle":     head + "package forge\n\n" + body + hostile + "\nx: 1\n",
			"in a neighbour":    "package forge\n" + body,
			"in an import":      "package forge\nimport \"a.b/c/hostile\"\n" + body + "_x: hostile.x\n",
			"in the module":     "package forge\nimport \"a.b/c/hostile\"\n" + body + "_x: hostile.x\n",
		} {
			if !everywhere && where != "behind the clause" {
				continue
			}
			t.Run(name+" "+where, func(t *testing.T) {
				t.Chdir(t.TempDir())
				file, module, rule := "forge.cue", "module: \"a.b/c\"\n", "syntax"
				write(t, "forge.cue", forge)
				switch where {
				case "in a neighbour":
					file = "zz.cue"
					write(t, file, hostile)
				case "in an import":
					file = "hostile/x.cue"
					write(t, file, "package hostile\n"+hostile)
				case "in the module":
					module, rule = hostile, "import"
				}
				write(t, "cue.mod/module.cue", module)
				src, err := schema.Read("forge.cue")
				if err != nil {
					t.Fatal(err)
				}
				found := diagnose(t, src)
				if !slices.ContainsFunc(found, func(d schema.Diagnostic) bool {
					return d.File == file && d.Name == rule && d.Line > 0 && d.Col > 0 && len(d.Message) < 1000
				}) || len(found) > 25 {
					t.Errorf("%d diagnostics: %.500v", len(found), found)
				}
				_, names := schema.Environments(src)
				if len(names) > 1 {
					t.Errorf("environments %v", names)
				}
			})
		}
	}
}
