package chartsource

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The versions of a chart are found in an index whoever has written it, and what
// is in their texts is not taken for something else.
func TestReadIndex(t *testing.T) {
	t.Parallel()
	const helms = `apiVersion: v1
entries:
  # what follows is made
  other:
  - apiVersion: v2
    description: |
      entries:
        shop:

      # no comment
    name: other
    version: 9.0.0
  shop:
  - apiVersion: v2
    description: >-
      about

      # no comment
      generated: no
    name: shop
    urls:
    - shop-1.1.0.tgz
    version: 1.1.0
  - name: shop
    version: 1.0.0
  shop-two:
  - {name: shop-two, version: 2.0.0}
generated: "2026-11-23T11:00:00Z"
`
	for name, text := range map[string]string{
		"as helm writes it": helms,
		"indented":          "entries:\n  other:\n    - version: 3.0.0\n  shop:\n    - name: shop\n      version: 1.1.0\n\n    - version: 1.0.0\n",
		"deeper keys":       strings.Replace(strings.ReplaceAll(helms, "\n  ", "\n    "), "    # what", "  # what", 1),
		"in quotes":         strings.NewReplacer("\n  shop:\n", "\n  'shop':\n", "  other:", `  "other":`).Replace(helms),
		"with CRLF":         strings.ReplaceAll(helms, "\n", "\r\n"),
		"JSON":              `{"apiVersion": "v1", "entries": {"other": [{"version": 3}], "shop": [{"name": "shop", "version": "1.1.0"}, {"name": "shop", "version": "1.0.0"}]}}`,
		"in one line":       `entries: {other: [], shop: [{version: 1.1.0, name: shop}, {version: 1.0.0}]}`,
		"some in one line":  "entries:\n  other: []\n  shop:\n  - version: 1.1.0\n  - version: 1.0.0\n",
		"with an anchor":    "entries:\n  other:\n  - &it {version: 1.1.0}\n  shop:\n  - *it\n  - version: 1.0.0\n",
	} {
		entries, some, err := readIndex([]byte(text), "shop")
		var versions []string
		for _, e := range entries {
			versions = append(versions, e.Version)
		}
		if err != nil || !some || !cmp.Equal(versions, []string{"1.1.0", "1.0.0"}) {
			t.Errorf("%s: %v, %t, %v", name, versions, some, err)
		}
		if none, some, err := readIndex([]byte(text), "nothing"); err != nil || !some || none != nil {
			t.Errorf("%s: there is no such chart: %v, %t, %v", name, none, some, err)
		}
	}
	for name, text := range map[string]string{"nothing": "", "no entries": "apiVersion: v1\nentries: {}\n", "empty": "entries:\ngenerated: now\n", "a page": "<html>\n"} {
		if entries, some, err := readIndex([]byte(text), "shop"); entries != nil || some || (err != nil) != (name == "a page") {
			t.Errorf("%s: %v, %t, %v", name, entries, some, err)
		}
	}
}

// An index of thousands of charts does not take many times its size of memory
// from a process that looks after everything else.
func TestLargeIndexIsReadInItsSize(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nentries:\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "  chart-%d:\n", i)
		for v := range 40 {
			fmt.Fprintf(&b, "  - apiVersion: v2\n    name: chart-%d\n    version: 1.%d.0\n    description: %s\n    urls:\n    - chart-%d-1.%d.0.tgz\n", i, v, strings.Repeat("word ", 10), i, v)
		}
	}
	text := []byte(b.String())
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	got := allocated(func() {
		entries, some, err := readIndex(text, "chart-1999")
		if err != nil || !some || len(entries) != 40 {
			t.Errorf("%d versions, %v", len(entries), err)
		}
	})
	if got > uint64(len(text)) {
		t.Errorf("an index of %d bytes took %d", len(text), got)
	}
}
