package localfiles

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
)

// Fit says what does not run on Fly Kubernetes of objects that are rendered for
// the place at in forge.cue, each rule once. What is only said in another way
// or taken out is told with brief only: in one finding, by ids. What is harmless
// is not told.
func Fit(at []string, objects []*unstructured.Unstructured, o fks.Options, brief bool) []forge.Finding {
	_, findings := fks.Fit(objects, o)
	var all []forge.Finding
	var changed []string
	byRule := map[string][]fks.Finding{}
	var ids []string
	for _, f := range findings {
		switch {
		case f.Harmless:
		case f.Action == fks.Drop, f.Action == fks.Rewrite:
			changed = append(changed, f.Rule)
		case f.Action == fks.Warn, f.Action == fks.Error:
			if len(byRule[f.Rule]) == 0 {
				ids = append(ids, f.Rule)
			}
			byRule[f.Rule] = append(byRule[f.Rule], f)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		all = append(all, told(at, byRule[id]))
	}
	slices.Sort(changed)
	if changed = slices.Compact(changed); brief && len(changed) > 0 {
		all = append(all, forge.Finding{
			Path: at, Rule: "fks-support",
			Message: "some of what it renders to is left out or written differently: " + strings.Join(changed, ", "),
			Hint:    "forged plan shows before and after, and forged explain " + changed[0] + " says why",
		})
	}
	return all
}

// told is one finding for all places that break a rule in one way.
func told(at []string, broken []fks.Finding) forge.Finding {
	first := broken[0]
	var places []string
	for _, f := range broken[:min(len(broken), most)] {
		place := f.Object
		if f.Path != "" {
			place += ", " + f.Path
		}
		places = append(places, place)
	}
	if more := len(broken) - len(places); more > 0 {
		places = append(places, fmt.Sprintf("and %d more", more))
	}
	found := forge.Finding{
		Path: at, Rule: "fks-support", Hint: first.Hint,
		Message: fmt.Sprintf("%s: %s (%s)", first.Rule, strings.TrimSuffix(first.Message, "."), strings.Join(places, "; ")),
	}
	if first.Action == fks.Error {
		found.Rule = "fks-refused"
		found.Hint = cmp.Or(first.Hint, "leave it out") + fmt.Sprintf("; allowUnsupported: [%q] lets it through as it is", first.Rule)
	}
	return found
}

// fit looks at what a chart renders to with the eyes of Fly Kubernetes.
func (c *checker) fit(at []string, objects []object, as place) {
	c.found = append(c.found, Fit(at, whole(objects), fks.Options{Allow: as.allow, Namespace: as.namespace}, true)...)
}

// definitions are the files of a chart that lie beside its templates: they are
// not rendered, and are made before all else.
func definitions(files map[string]string) map[string]string {
	all := map[string]string{}
	for name, text := range files {
		if strings.HasPrefix(name, "crds/") {
			all[name] = text
		}
	}
	return all
}

// Objects are those of rendered templates; what cannot be read is left out.
func Objects(texts map[string]string) []*unstructured.Unstructured { return whole(readObjects(texts)) }

// whole are objects as an API server would read them, with whole numbers.
func whole(objects []object) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, o := range objects {
		data, err := yaml.YAMLToJSON([]byte(o.text))
		if o.err != nil || err != nil {
			continue
		}
		var fields map[string]any
		if utiljson.Unmarshal(data, &fields) == nil && len(fields) > 0 {
			all = append(all, &unstructured.Unstructured{Object: fields})
		}
	}
	return all
}
