package fks_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/providers/helm/offline"
)

// bazaar is a chart as others write them, with everything in it that Fly
// Kubernetes does not have.
func bazaar(t *testing.T) string {
	t.Helper()
	c, err := offline.Open(t.Context(), filepath.Join("testdata", "chart"))
	if err != nil {
		t.Fatal(err)
	}
	return rendered(t, c, "bazaar", "shop", nil)
}

// The findings in a large chart are exactly those that its file says, what comes
// out is what the other file says, and no rule is missing.
func TestChartOfOthers(t *testing.T) {
	text := bazaar(t)
	o := fks.Options{Namespace: "shop"}
	given := objects(t, text)
	out, findings := fks.Fit(given, o)
	golden(t, filepath.Join("testdata", "bazaar.txt"), told(findings))
	golden(t, filepath.Join("testdata", "bazaar.yaml"), written(t, out))
	unchanged(t, out, o)

	for _, r := range fks.Rules() {
		switch r.ID {
		case "FKS215": // no object that is applied may have them
		default:
			if !has(findings, r.ID) {
				t.Errorf("the chart does not break %s %s", r.ID, r.Name)
			}
		}
	}
	all, err := json.Marshal(findings)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(all), "tea-and-biscuits") {
		t.Error("a finding holds the value of a variable")
	}
	// What is no business of these rules passes.
	for _, kind := range []string{"Stall", "ServiceAccount", "ConfigMap"} {
		if slices.ContainsFunc(findings, func(f fks.Finding) bool { return strings.HasPrefix(f.Object, kind+" ") }) {
			t.Errorf("something is found in a %s", kind)
		}
	}
}
