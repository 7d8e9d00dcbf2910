package daemon

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// A program that was linked with others, as every one is that detects races,
// has pages that were changed when it was started and are closed to writing
// since. Without what was put into them, it would not come to its end.
func TestLetGoOfProgram(t *testing.T) {
	before := fromFiles(t)
	if err := letGoOfProgram(); err != nil {
		t.Fatal(err)
	}
	if after := fromFiles(t); after >= before {
		t.Errorf("%d kB of files are mapped, before it were %d", after, before)
	}
}

// fromFiles is how much of files is mapped, in kB.
func fromFiles(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no RssFile in\n%s", status)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
