package fks

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// podOf is the spec of the pods of an object.
func podOf(o *object) map[string]any {
	if o.kind == "Pod" {
		return below(o.fields, "spec")
	}
	return below(o.fields, "spec", "template", "spec")
}

// scaler is what scales an object; nil: nothing does.
func (f *fitting) scaler(o *object) map[string]any {
	for _, s := range f.objects {
		target := below(s.fields, "spec", "scaleTargetRef")
		kind, _, _ := strings.Cut(o.kind, ".")
		if !s.gone && s.kind == "HorizontalPodAutoscaler.autoscaling" && f.namespace(s) == f.namespace(o) &&
			text(target, "kind") == kind && text(target, "name") == o.name() {
			return below(s.fields, "spec")
		}
	}
	return nil
}

// least is how many replicas it asks for at least: 1 where it does not say.
func least(scaler map[string]any) any {
	if n := scaler["minReplicas"]; !empty(n) {
		return n
	}
	return int64(1)
}

func scaled(f *fitting, m match) bool {
	s := f.scaler(m.of)
	return s != nil && !f.allows("FKS107") && below(m.of.fields, "spec") != nil && fmt.Sprint(m.value) != fmt.Sprint(least(s))
}

func atLeast(f *fitting, m match) string {
	n := copied(least(f.scaler(m.of)))
	m.set(n)
	return fmt.Sprint(n)
}

// sizes is one of the two that a machine has.
type sizes struct {
	name  string // of the resource
	usual string
	// next is the smallest size that holds as much; false: there is none.
	next func(resource.Quantity) (resource.Quantity, bool)
}

var memorySize = sizes{"memory", "512Mi", func(q resource.Quantity) (resource.Quantity, bool) {
	const step = 256 << 20
	n := (max(q.Value(), 1) + step - 1) / step
	return *resource.NewQuantity(n*step, resource.BinarySI), n < 1<<20
}}

var cpuSize = sizes{"cpu", "1", func(q resource.Quantity) (resource.Quantity, bool) {
	for n := int64(1); n <= 16; n *= 2 {
		if size := *resource.NewQuantity(n, resource.DecimalSI); size.Cmp(q) >= 0 {
			return size, true
		}
	}
	return q, false
}}

// fitted is the limit that a container has to have; not ok: what it says is
// right, or cannot be read.
func (s sizes) fitted(container map[string]any, limit any) (to string, ok bool) {
	if empty(limit) {
		limit = cmp.Or(below(container, "resources", "requests")[s.name], any(s.usual))
		if empty(limit) {
			limit = s.usual
		}
	} else if q, err := resource.ParseQuantity(fmt.Sprint(limit)); err != nil {
		return "", false
	} else if size, ok := s.next(q); !ok || size.Cmp(q) == 0 {
		return "", false
	}
	q, err := resource.ParseQuantity(fmt.Sprint(limit))
	if err != nil {
		return "", false
	}
	size, ok := s.next(q)
	if !ok {
		size = q
	}
	return size.String(), true
}

// container is that of a limit: container.resources.limits.memory. It is nil
// where what lies between is no map.
func limited(m match) map[string]any {
	c := m.up(3)
	for _, in := range []any{c["resources"], below(c, "resources")["limits"], below(c, "resources")["requests"]} {
		if _, ok := in.(map[string]any); !ok && in != nil {
			return nil
		}
	}
	return c
}

func uneven(s sizes) func(*fitting, match) bool {
	return func(_ *fitting, m match) bool {
		c := limited(m)
		if c == nil {
			return false
		}
		_, ok := s.fitted(c, m.value)
		return ok
	}
}

func even(s sizes) func(*fitting, match) string {
	return func(_ *fitting, m match) string {
		to, _ := s.fitted(limited(m), m.value)
		m.set(to)
		return to
	}
}

func hasCommand(_ *fitting, m match) bool {
	command, _ := m.up(1)["command"].([]any)
	_, ok := m.value.(string)
	return ok && len(command) > 0
}

// changesDir has a shell go to the directory and become the command, whose
// words it does not look at.
func changesDir(_ *fitting, m match) string {
	container := m.up(1)
	wrapped := []any{"/bin/sh", "-c", `cd "$0" && exec "$@"`, literal(m.value.(string))}
	container["command"] = append(wrapped, container["command"].([]any)...)
	m.take()
	return "command: [/bin/sh, -c, 'cd \"$0\" && exec \"$@\"', " + m.value.(string) + ", …]"
}

// literal is a text that Kubernetes puts no variables into.
func literal(s string) string { return strings.ReplaceAll(s, "$(", "$$(") }

// field is what a fieldRef of a pod comes to, where that is known.
func (f *fitting) field(m match) (string, bool) {
	ref, _ := m.value.(map[string]any)
	path := text(ref, "fieldPath")
	template := below(m.of.fields, "spec", "template", "metadata")
	if m.of.kind == "Pod" {
		template = below(m.of.fields, "metadata")
	}
	if key, ok := strings.CutPrefix(path, "metadata.labels['"); ok {
		return textOf(below(template, "labels"), strings.TrimSuffix(key, "']"))
	}
	if key, ok := strings.CutPrefix(path, "metadata.annotations['"); ok {
		return textOf(below(template, "annotations"), strings.TrimSuffix(key, "']"))
	}
	switch path {
	case "metadata.namespace":
		namespace := f.namespace(m.of)
		return namespace, namespace != ""
	case "metadata.name":
		return m.of.name(), m.of.kind == "Pod" && m.of.name() != ""
	case "spec.serviceAccountName":
		return cmp.Or(text(podOf(m.of), "serviceAccountName"), "default"), true
	}
	return "", false
}

func textOf(in map[string]any, key string) (string, bool) {
	s, ok := in[key].(string)
	return s, ok
}

func knownField(f *fitting, m match) bool {
	_, ok := f.field(m)
	return ok
}

func writesField(f *fitting, m match) string {
	value, _ := f.field(m)
	return writes(m, literal(value))
}

// writes puts a value in the place of where it came from: the match is
// env[].valueFrom.xRef.
func writes(m match, value string) string {
	variable := m.up(2)
	delete(variable, "valueFrom")
	variable["value"] = value
	return "a value"
}

// amount is what a resourceFieldRef comes to, where the container says so.
func amount(m match) (string, bool) {
	ref, _ := m.value.(map[string]any)
	container := m.up(4)
	if name := text(ref, "containerName"); container == nil || name != "" && name != text(container, "name") {
		return "", false
	}
	kind, name, _ := strings.Cut(text(ref, "resource"), ".")
	said := below(container, "resources", kind)[name]
	if kind == "requests" && empty(said) {
		said = below(container, "resources", "limits")[name]
	}
	if empty(said) || kind != "requests" && kind != "limits" {
		return "", false
	}
	q, err := resource.ParseQuantity(fmt.Sprint(said))
	if err != nil {
		return "", false
	}
	unit := resource.MustParse("1")
	if divisor := ref["divisor"]; !empty(divisor) && fmt.Sprint(divisor) != "0" {
		if unit, err = resource.ParseQuantity(fmt.Sprint(divisor)); err != nil || unit.MilliValue() <= 0 {
			return "", false
		}
	}
	if name == "cpu" {
		return fmt.Sprint(ceil(q.MilliValue(), unit.MilliValue())), true
	}
	if unit.Value() <= 0 {
		return "", false
	}
	return fmt.Sprint(ceil(q.Value(), unit.Value())), true
}

func ceil(n, unit int64) int64 { return n/unit + min(n%unit, 1) }

func knownResource(_ *fitting, m match) bool {
	_, ok := amount(m)
	return ok
}

func writesResource(_ *fitting, m match) string {
	value, _ := amount(m)
	return writes(m, value)
}

// anyMachine tells whether every machine has the labels that a node is to have.
// flyctl takes images of linux/amd64 and of nothing else.
func anyMachine(_ *fitting, m match) bool {
	labels, ok := m.value.(map[string]any)
	for label, value := range labels {
		switch _, name, _ := strings.Cut(label, "kubernetes.io/"); {
		case name == "os" && value == "linux", name == "arch" && value == "amd64":
		default:
			return false
		}
	}
	return ok
}

func noMachine(f *fitting, m match) bool { return !anyMachine(f, m) }
