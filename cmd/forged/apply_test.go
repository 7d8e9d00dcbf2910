package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

// Only a yes is a yes, and without an answer nothing is done.
func TestAgree(t *testing.T) {
	for typed, want := range map[string]string{
		"yes\n":        "",
		"Y\n":          "",
		"no\n":         "nothing was changed, as you said",
		"\n":           "nothing was changed, as you said",
		"perhaps\ny\n": "",
		"perhaps\n":    "no answer; nothing was changed",
		"":             "no answer; nothing was changed",
	} {
		var out bytes.Buffer
		who := &asker{t.Context(), bufio.NewScanner(strings.NewReader(typed)), &out, unchanged}
		err := who.agree(t.Context(), "Do it?")
		if got := message(err); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
		if asked := strings.Count(out.String(), "Do it? (yes or no) [no]: "); asked != max(1, strings.Count(typed, "\n")) && typed != "perhaps\n" {
			t.Errorf("%q: asked %d times: %q", typed, asked, out.String())
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
