package fks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// handlersOf is the annotation with the handlers of a port, by name or number.
func handlersOf(port string) string { return serviceAnnotation + port + "-handlers" }

const serviceAnnotation = "service.fly.io/"

// becomes puts a value in the place of another.
func becomes(value string) func(*fitting, match) string {
	return func(_ *fitting, m match) string {
		m.set(value)
		return value
	}
}

// leftOut takes out what nobody misses.
func leftOut(_ *fitting, m match) string {
	m.take()
	return ""
}

// portNamed tells whether a targetPort is a name.
func portNamed(_ *fitting, m match) bool {
	name, ok := m.value.(string)
	return ok && strings.Trim(name, "0123456789") != ""
}

func portKnown(f *fitting, m match) bool {
	return portNamed(f, m) && f.numberOf(m.of, m.value.(string)) != nil
}

func portNumber(f *fitting, m match) string {
	number := f.numberOf(m.of, m.value.(string))
	m.set(number)
	return fmt.Sprint(number)
}

// numberOf is the port that all pods behind a Service have under a name; nil:
// none has it, or they have several.
func (f *fitting) numberOf(service *object, name string) any {
	var number any
	for _, o := range f.objects {
		if o.gone || !o.is(podKinds) || !f.selects(service, o) {
			continue
		}
		for _, c := range items(podOf(o), "containers") {
			for _, p := range items(c, "ports") {
				switch is := p["containerPort"]; {
				case text(p, "name") != name || is == nil:
				case number != nil && fmt.Sprint(number) != fmt.Sprint(is):
					return nil
				default:
					number = copied(is)
				}
			}
		}
	}
	return number
}

// selects tells whether a Service leads to the pods of an object.
func (f *fitting) selects(service, o *object) bool {
	selector := below(service.fields, "spec", "selector")
	labels := below(o.fields, "spec", "template", "metadata", "labels")
	if o.kind == "Pod" {
		labels = below(o.fields, "metadata", "labels")
	}
	if len(selector) == 0 || f.namespace(service) != f.namespace(o) {
		return false
	}
	for key, value := range selector {
		if labels[key] == nil || fmt.Sprint(labels[key]) != fmt.Sprint(value) {
			return false
		}
	}
	return true
}

// raw tells whether nobody says what Fly's proxy does at a port of the edge.
func raw(_ *fitting, m match) bool {
	if text(below(m.of.fields, "spec"), "type") != "LoadBalancer" {
		return false
	}
	annotations := below(m.of.fields, "metadata", "annotations")
	port := m.up(1)
	return annotations[handlersOf(fmt.Sprint(m.value))] == nil && annotations[handlersOf(text(port, "name"))] == nil
}

func isNoText(_ *fitting, m match) bool {
	switch m.value.(type) {
	case int64, int, float64, bool:
		return true
	}
	return false
}

func becomesText(_ *fitting, m match) string {
	value := fmt.Sprint(m.value)
	if number, ok := m.value.(float64); ok {
		value = strconv.FormatFloat(number, 'f', -1, 64)
	}
	m.set(value)
	return fmt.Sprintf("%q", value)
}

// strange tells whether an annotation is none of those that are documented.
func strange(_ *fitting, m match) bool {
	key, _ := m.keys[len(m.keys)-1].(string)
	key = strings.TrimPrefix(key, serviceAnnotation)
	if slices.Contains([]string{"concurrency-kind", "concurrency-limit-soft", "concurrency-limit-hard"}, key) || strings.HasPrefix(key, "sync-version") {
		return false
	}
	for _, suffix := range []string{"-tls-default-self-signed", "-tls-versions", "-tls-alpn", "-handlers"} {
		if port, ok := strings.CutSuffix(key, suffix); ok {
			return !slices.ContainsFunc(items(below(m.of.fields, "spec"), "ports"), func(p map[string]any) bool {
				return text(p, "name") == port || fmt.Sprint(p["port"]) == port
			})
		}
	}
	return true
}
