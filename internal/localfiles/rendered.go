package localfiles

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Bounds of what is looked at of one chart.
const (
	maxObjects = 10_000
	maxBad     = 10 // that cannot be read
)

var errTooSlow = errors.New("rendering it takes longer than " + renderLimit.String())

// rendered looks at what a chart gives: twice, since what differs then will
// differ always.
func (c *checker) rendered(at []string, s *scanned, as place, values map[string]any) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, renderLimit, errTooSlow)
	defer cancel()
	first, again, err := s.RenderTwice(ctx, as.release, as.namespace, values)
	if err != nil {
		if c.ctx.Err() == nil {
			c.add(at, "chart-render", fmt.Sprintf("it does not render without a cluster: %v", err), "what it finds in a cluster may be another matter")
		}
		c.impure(at, s.impure.of(func(string) bool { return true }), "")
		return
	}
	different := map[string]bool{}
	for name, text := range first {
		if text != again[name] {
			different[name] = true
		}
	}
	// What is defined in one template is called in others.
	calls := s.impure.of(func(name string) bool {
		in := s.impure[name]
		return different[name] || len(different) > 0 && first[name] == "" || in.plain < in.all
	})
	objects := c.objects(at, first, as.namespace)
	c.impure(at, calls, strings.Join(unlike(objects, readObjects(again)), ", "))
	c.scaled(at, objects)
	if as.fks {
		c.fit(at, slices.Concat(objects, readObjects(definitions(s.Files()))), as)
	}
}

// object is what is needed of a rendered object.
type object struct {
	template string
	text     string
	err      error // why it cannot be read; the rest is empty then

	apiVersion, kind, namespace, title string

	replicas bool // it says how many there are
	scales   string
}

func (o object) name() string { return o.kind + " " + o.title }

// readObjects reads the objects of rendered templates, in the order of their names.
func readObjects(texts map[string]string) []object {
	var all []object
	bad := 0
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		before := 0 // lines, so that errors name the line of the whole
		for text := range strings.SplitSeq(texts[name], "\n---") {
			if len(all) == maxObjects {
				return all
			}
			if o, ok := parseOne(text); ok {
				if o.err != nil {
					if bad++; bad > maxBad {
						return all
					}
					o, _ = parseOne(strings.Repeat("\n", before) + text)
				}
				o.template, o.text = name, text
				all = append(all, o)
			}
			before += strings.Count(text, "\n") + 1
		}
	}
	return all
}

func parseOne(text string) (o object, ok bool) {
	var fields map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &fields); err != nil {
		return object{err: err}, true
	}
	if len(fields) == 0 {
		return o, false // comments
	}
	field := func(m map[string]any, key string) string {
		s, _ := m[key].(string)
		return s
	}
	o.apiVersion, o.kind = field(fields, "apiVersion"), field(fields, "kind")
	meta, _ := fields["metadata"].(map[string]any)
	o.title, o.namespace = field(meta, "name"), field(meta, "namespace")
	spec, _ := fields["spec"].(map[string]any)
	_, o.replicas = spec["replicas"].(float64)
	if target, ok := spec["scaleTargetRef"].(map[string]any); ok && o.kind == "HorizontalPodAutoscaler" {
		o.scales = field(target, "kind") + " " + field(target, "name")
	}
	return o, true
}

// objects reads what was rendered, and finds what no cluster would take, or
// what is not for this environment.
func (c *checker) objects(at []string, texts map[string]string, namespace string) []object {
	all := readObjects(texts)
	seen := map[string]string{}
	for _, o := range all {
		where := o.apiVersion + " " + o.name() + " " + o.namespace
		switch before, twice := seen[where]; {
		case o.err != nil:
			c.add(at, "chart-render", fmt.Sprintf("%s renders to what cannot be read: %v", o.template, oneLine(o.err)), "")
		case o.apiVersion == "" || o.kind == "":
			c.add(at, "chart-render", o.template+" renders to an object without apiVersion or kind", "")
		case o.namespace != "" && o.namespace != namespace:
			c.add(at, "chart-render", fmt.Sprintf("%s puts %s into the namespace %s; this environment has %s", o.template, o.name(), o.namespace, namespace),
				"leave namespace out of the templates, or write .Release.Namespace")
		case twice:
			c.add(at, "chart-render", fmt.Sprintf("%s and %s both make %s", before, o.template, o.name()), "")
		}
		seen[where] = o.template
	}
	return all
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// unlike names the objects that two renderings differ in.
func unlike(first, again []object) []string {
	var names []string
	for i, o := range first {
		if i < len(again) && o.err == nil && o.text != again[i].text && len(names) < most && !slices.Contains(names, o.name()) {
			names = append(names, o.name())
		}
	}
	return names
}

// scaled finds workloads whose number of pods is said twice: by themselves and
// by an autoscaler.
func (c *checker) scaled(at []string, objects []object) {
	for _, scaler := range objects {
		for _, o := range objects {
			if scaler.scales != "" && o.replicas && o.name() == scaler.scales {
				c.add(at, "chart-replicas", fmt.Sprintf("%s sets replicas of %s, which %s scales", o.template, o.name(), scaler.name()),
					"leave replicas out of the template when it is scaled: whoever applies it would set it back")
			}
		}
	}
}
