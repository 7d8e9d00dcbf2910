package charts_test

import (
	"regexp"
	"slices"
	"testing"

	"forged.dev/forged/charts"
)

func TestFiles(t *testing.T) {
	digests := map[string]string{}
	for _, name := range charts.Names() {
		files, err := charts.Files(name)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, file := range files {
			names = append(names, file.Name)
			if len(file.Data) == 0 {
				t.Errorf("%s: %s is empty", name, file.Name)
			}
		}
		if !slices.IsSorted(names) {
			t.Errorf("%s: files are not sorted: %v", name, names)
		}
		// The helpers begin with "_", which embedding leaves out by default.
		for _, want := range []string{"Chart.yaml", "values.yaml", "values.schema.json", "templates/_helpers.tpl"} {
			if !slices.Contains(names, want) {
				t.Errorf("%s: no %s in %v", name, want, names)
			}
		}
		if got := load(t, name).Name(); got != name {
			t.Errorf("chart %s calls itself %s", name, got)
		}

		digest := charts.Digest(name)
		if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(digest) {
			t.Errorf("%s: digest %q", name, digest)
		}
		if other, ok := digests[digest]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		digests[digest] = name

		files[0].Data[0] ^= 0xff
		if charts.Digest(name) != digest {
			t.Errorf("%s: writing to the data of Files changed the chart", name)
		}
	}
}

func TestUnknownChart(t *testing.T) {
	for _, name := range []string{"", "mysql", ".", "app/templates", "../internal"} {
		if files, err := charts.Files(name); err == nil || files != nil {
			t.Errorf("Files(%q) = %v, %v", name, files, err)
		}
		if got := charts.Digest(name); got != "" {
			t.Errorf("Digest(%q) = %q", name, got)
		}
	}
}
