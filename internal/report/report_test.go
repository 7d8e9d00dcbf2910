package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/report"
	"forged.dev/forged/schema"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = "testdata/" + name
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v (run with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; run with -update to accept):\n%s", name, diff)
	}
}

const valid = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}
}
environments: dev: platform: kind: "minikube"
`

// warn finds something to warn about in each environment.
func warn(f *forge.Forge) []forge.Finding {
	var all []forge.Finding
	for _, e := range f.Environments {
		all = append(all, forge.Finding{
			Path: []string{"environments", e.Name, "platform"}, Rule: "unsupported",
			Message: "this build cannot do 100% of it: neither this, nor that", Hint: "wait",
		})
	}
	return all
}

// judge is the forge that a text is.
func judge(t testing.TB, name, text string, checks ...schema.Check) report.Forge {
	t.Helper()
	out := report.Forge{File: name}
	f, diags, err := schema.Load(context.Background(), schema.Source{Files: []schema.File{{Name: name, Data: []byte(text)}}}, checks...)
	switch {
	case errors.As(err, &diags):
	case err != nil:
		out.Err = err
	default:
		out.App = f.App.Name
		for _, e := range f.Environments {
			out.Environments = append(out.Environments, e.Name)
		}
	}
	out.Diagnostics = diags
	return out
}

func example(t testing.TB) report.Report {
	return report.Report{
		Version: "1.2.3", Dir: "/srv/shop",
		Forges: []report.Forge{
			judge(t, "good/forge.cue", valid),
			judge(t, "warned/forge.cue", valid, warn),
			judge(t, "a b/forge.cue", valid+`app: prot: 8000
environments: dev: {
	_note: "日本 😀", expose: kind: "ingres"
	policy: mode: "aply"
	app: secrets: TOKEN: "hunter2"
}
environments: prod: platform: kind: "kubernetes"
`),
			judge(t, "/elsewhere/50%/forge.cue", `app: [`),
			{File: "none.cue", Err: errors.New("read none.cue: no such file or directory")},
		},
	}
}

func TestFormats(t *testing.T) {
	for _, format := range report.Formats() {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			if err := example(t).Write(format, &out, &out, false); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Error("a secret is shown")
			}
			golden(t, format+".golden", out.Bytes())
		})
	}
	if err := example(t).Write("yaml", io.Discard, io.Discard, false); err == nil || !strings.Contains(err.Error(), "text, json, sarif, github, junit") {
		t.Error(err)
	}
}

// With nothing to tell, every form is whole all the same.
func TestNothingToTell(t *testing.T) {
	r := report.Report{Dir: "/srv/shop", Forges: []report.Forge{judge(t, "forge.cue", valid)}}
	for _, format := range report.Formats() {
		t.Run(format, func(t *testing.T) {
			var out, errs bytes.Buffer
			if err := r.Write(format, &out, &errs, false); err != nil {
				t.Fatal(err)
			}
			if errs.Len() > 0 {
				t.Errorf("%s", errs.String())
			}
			golden(t, "valid-"+format+".golden", out.Bytes())
		})
	}
	if !r.Judged() || !r.Accepted() {
		t.Error("it is not accepted")
	}
}

func TestStrict(t *testing.T) {
	r := report.Report{Dir: "/srv/shop", Forges: []report.Forge{judge(t, "forge.cue", valid, warn)}}
	if !r.Accepted() {
		t.Error("a warning is no error")
	}
	r.Strict = true
	if r.Accepted() || !r.Judged() {
		t.Error("with --strict it is")
	}
	var out bytes.Buffer
	for _, format := range []string{"text", "json", "junit"} {
		if err := r.Write(format, &out, &out, false); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "strict.golden", out.Bytes())
	r.Forges = append(r.Forges, report.Forge{File: "none.cue", Err: errors.New("read none.cue: gone")})
	if r.Judged() || r.Accepted() {
		t.Error("what could not be read is not accepted")
	}
}

// Names of files are seen from the root of the repository, wherever forged
// was started.
func TestRoot(t *testing.T) {
	r := report.Report{Dir: "/srv/repo/services/shop", Root: "/srv/repo", Forges: []report.Forge{judge(t, "forge.cue", valid, warn)}}
	var out bytes.Buffer
	if err := errors.Join(r.Write("github", &out, &out, false), r.Write("sarif", &out, &out, false)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"file=services/shop/forge.cue,", `"uri": "services/shop/forge.cue"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}

// A fingerprint survives lines that are added above, and tells mistakes apart.
func TestFingerprints(t *testing.T) {
	prints := func(text string) (all []string) {
		r := report.Report{Dir: "/srv/shop", Forges: []report.Forge{judge(t, "forge.cue", text)}}
		var out bytes.Buffer
		if err := r.Write("sarif", &out, &out, false); err != nil {
			t.Fatal(err)
		}
		var log struct {
			Runs []struct {
				Results []struct{ PartialFingerprints map[string]string }
			}
		}
		if err := json.Unmarshal(out.Bytes(), &log); err != nil {
			t.Fatal(err)
		}
		for _, result := range log.Runs[0].Results {
			all = append(all, result.PartialFingerprints["forgedPath/v1"])
		}
		return all
	}
	const wrong = "app: prot: 8000\napp: agrs: []\n"
	before := prints(valid + wrong)
	if len(before) != 2 || before[0] == before[1] {
		t.Fatal(before)
	}
	if after := prints("// a comment\n\n" + valid + wrong); !cmp.Equal(before, after) {
		t.Error(cmp.Diff(before, after))
	}
}

// Where nobody can read the report, that is an error.
func TestBrokenPipe(t *testing.T) {
	for _, format := range report.Formats() {
		if err := example(t).Write(format, broken{}, broken{}, false); err == nil {
			t.Errorf("%s: no error", format)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// checkForms wants each form of the report to be what its readers expect.
func checkForms(t *testing.T, r report.Report) {
	t.Helper()
	forms := map[string][]byte{}
	for _, format := range report.Formats() {
		var out bytes.Buffer
		if err := r.Write(format, &out, &out, false); err != nil {
			t.Fatal(err)
		}
		forms[format] = out.Bytes()
	}
	if bytes.ContainsAny(forms["text"], "\x1b\x07\u202e\u2028") {
		t.Errorf("a terminal would obey %q", forms["text"])
	}
	for _, format := range []string{"json", "sarif"} {
		if !json.Valid(forms[format]) {
			t.Errorf("no JSON: %s", forms[format])
		}
	}
	checkResults(t, forms["sarif"])
	commands := 0
	for line := range strings.Lines(string(forms["github"])) {
		if strings.HasPrefix(line, "::error ") || strings.HasPrefix(line, "::warning ") {
			commands++
		}
	}
	want := 0
	for _, f := range r.Forges {
		want += len(f.Diagnostics)
		if f.Err != nil {
			want++
		}
	}
	if lines := bytes.Count(forms["github"], []byte("\n")); commands != want || lines != want+1 {
		t.Errorf("%d commands for %d findings in %d lines:\n%s", commands, want, lines, forms["github"])
	}
	for dec := xml.NewDecoder(bytes.NewReader(forms["junit"])); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v\n%s", err, forms["junit"])
		}
	}
}

// FuzzFormats evaluates nothing, because that is not what it is about, and
// slow: what is wrong with a text is found by its syntax, and made up.
func FuzzFormats(f *testing.F) {
	f.Add("forge.cue", valid, "environments.dev", "a message", "a hint", 1, 2, 3)
	f.Add("a:b,c%/\x1b[31m.cue", "app: \"\x1b[31m\"\n", "a.\"b\nc\"", "\u202e]]> & < \xff\x00", "::error::x\r\n", 0, 0, 0)
	f.Add("../../etc/passwd", "app: {\n\tport: \"日本\"\n}", "app.port", "", "", -1, 1<<30, -7)
	for _, text := range []string{"many", "secret-value", "syntax", "closed"} {
		data, err := os.ReadFile("../../examples/invalid/" + text + ".cue")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text+".cue", string(data), "app.name", "m", "h", 3, 4, 0)
	}
	f.Fuzz(func(t *testing.T, file, text, path, message, hint string, line, col, end int) {
		made := schema.Diagnostics{
			{Severity: schema.SeverityError, File: file, Line: max(0, line), Col: max(0, col), EndCol: max(0, end), Path: path, Rule: "F107", Name: "value", Message: message, Hint: hint},
			{Severity: schema.SeverityWarning, File: text, Line: max(0, col), Path: message, Name: "none", Message: path, Hint: text},
		}
		src := schema.Source{Files: []schema.File{{Name: file, Data: []byte(text)}}}
		r := report.Report{Dir: "/srv/shop", Forges: []report.Forge{
			{File: file, App: message, Diagnostics: made},
			{File: file, App: message, Diagnostics: src.Find(made,
				forge.Finding{Path: strings.Split(path, "."), Rule: "unsupported", Message: message, Hint: hint},
				forge.Finding{Path: []string{"app", path}, Rule: message, Message: hint},
			)},
			{File: path, Err: errors.New(message)},
		}}
		checkForms(t, r)
		r.Strict, r.Root = true, "/work"
		checkForms(t, r)
	})
}
