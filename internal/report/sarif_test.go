package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
)

// sarif is the shape of SARIF 2.1.0, as far as forged fills it.
var sarif = sync.OnceValue(func() cue.Value {
	text, err := os.ReadFile("testdata/sarif-2.1.0.cue")
	if err != nil {
		panic(err)
	}
	v := cuecontext.New().CompileBytes(text, cue.Filename("sarif-2.1.0.cue"))
	if err := v.Err(); err != nil {
		panic(err)
	}
	return v.LookupPath(cue.ParsePath("#Log"))
})

// checkSARIF wants a log of the right shape.
func checkSARIF(t *testing.T, log []byte) {
	t.Helper()
	shape := sarif()
	v := cuecontext.New().CompileBytes(log, cue.Filename("log.json"))
	if err := shape.Unify(v).Validate(cue.Concrete(true)); err != nil {
		t.Fatalf("no SARIF: %s\n%s", errors.Details(err, nil), log)
	}
	checkResults(t, log)
}

// checkResults wants results that name rules which are there, and places that
// can be.
func checkResults(t *testing.T, log []byte) {
	t.Helper()
	type region struct{ StartLine, StartColumn, EndColumn *int }
	var got struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           *region
					}
				}
			}
		}
	}
	if err := json.Unmarshal(log, &got); err != nil {
		t.Fatal(err)
	}
	for _, run := range got.Runs {
		for _, result := range run.Results {
			if rules := run.Tool.Driver.Rules; result.RuleIndex >= len(rules) || rules[result.RuleIndex].ID != result.RuleID {
				t.Errorf("result of %s points at rule %d of %v", result.RuleID, result.RuleIndex, rules)
			}
			for _, l := range result.Locations {
				if uri := l.PhysicalLocation.ArtifactLocation.URI; !uriReference.MatchString(uri) {
					t.Errorf("%q is no URI", uri)
				}
				if at := l.PhysicalLocation.Region; at != nil {
					for _, n := range []*int{at.StartLine, at.StartColumn, at.EndColumn} {
						if n != nil && *n < 1 {
							t.Errorf("%s: a region begins at %d", result.RuleID, *n)
						}
					}
				}
			}
		}
	}
}

var uriReference = regexp.MustCompile(`^([-._~:/?#\[\]@!$&'()*+,;=a-zA-Z0-9]|%[0-9a-fA-F]{2})*$`)

func TestSARIF(t *testing.T) {
	var out bytes.Buffer
	if err := example(t).Write("sarif", &out, &out, false); err != nil {
		t.Fatal(err)
	}
	checkSARIF(t, out.Bytes())
	for _, wrong := range []struct{ old, new string }{
		{`"version": "2.1.0"`, `"version": "2.2"`},
		{`"level": "error"`, `"level": "fatal"`},
		{`"startLine": 6`, `"startLine": 0`},
		{`"ruleId"`, `"ruleID"`},
		{`"text": "app`, `"txt": "app`},
		{`"uri": "`, `"uri": "a b`},
	} {
		text := strings.Replace(out.String(), wrong.old, wrong.new, 1)
		v := cuecontext.New().CompileString(text)
		if text == out.String() || sarif().Unify(v).Validate(cue.Concrete(true)) == nil {
			t.Errorf("the shape accepts %s", wrong.new)
		}
	}
}
