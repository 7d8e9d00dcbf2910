package flyemulator

import (
	"os"
	"strings"
	"testing"
)

func TestModes(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.says(w.want(200, "GET", "/_emulator/modes", ""), ModeIssuance, "works")
		w.says(w.want(200, "POST", "/_emulator/modes", `{"issuance":"never"}`), ModeIssuance, "never")
		w.refuses([]refused{
			{"mode", "POST", "/_emulator/modes", `{"none":"x"}`, 400, "no mode"},
			{"value", "POST", "/_emulator/modes", `{"issuance":"x"}`, 400, "works, limited, never"},
		})
	})
}

// TestControlsAreDocumented: each control and each mode, with what it can be,
// stands in the documentation.
func TestControlsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../docs/fly-emulator.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for name, values := range modes() {
		_, row, found := strings.Cut(page, "\n| `"+name+"` |")
		row, _, _ = strings.Cut(row, "\n")
		if !found {
			t.Errorf("mode %s is not documented", name)
		}
		for _, v := range values {
			if !strings.Contains(row, "`"+v+"`") {
				t.Errorf("mode %s: value %s is not documented", name, v)
			}
		}
	}
	e := New(Options{})
	defer e.Close()
	for _, r := range e.routes {
		if what, ours := strings.CutPrefix(r.pattern, "/_emulator/"); ours {
			what, _, _ = strings.Cut(what, "/{cluster}")
			if !strings.Contains(page, "`"+r.method+" "+what) && !strings.Contains(page, ", `"+what) {
				t.Errorf("%s %s is not documented", r.method, r.pattern)
			}
		}
	}
}
