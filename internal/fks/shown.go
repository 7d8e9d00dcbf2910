package fks

import (
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// mostShown bounds the text of one value, in bytes.
const mostShown = 600

// shown is the value of a place as short YAML. What may be secret is not in it:
// values of variables, arguments of commands, headers of requests. Of a whole
// object it is the spec.
func shown(m match, v any) string {
	if fields, ok := v.(map[string]any); ok && len(m.keys) == 0 {
		v = fields["spec"]
	}
	if !m.there && v == nil || empty(v) {
		return ""
	}
	if slices.Contains(m.keys, "env") {
		v = hidden("value", v)
	}
	out, err := yaml.Marshal(discreet(v))
	if err != nil {
		return ""
	}
	text := strings.TrimSuffix(string(out), "\n")
	if len(text) > mostShown {
		text = text[:strings.LastIndexByte(text[:mostShown], '\n')+1] + "…"
	}
	return text
}

// discreet is a copy of a value without what may be secret.
func discreet(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, in := range v {
			out[key] = hidden(key, discreet(in))
		}
		return out
	case []any:
		var out []any
		for _, in := range v {
			if in != (removed{}) {
				out = append(out, discreet(in))
			}
		}
		return out
	}
	return v
}

// hidden is what is shown of a value under a key.
func hidden(key string, v any) any {
	const elided = "…"
	switch key {
	case "value", "data", "stringData", "binaryData":
		if v, ok := v.(map[string]any); ok && key == "value" {
			return v
		}
		return elided
	case "command", "args":
		if list, ok := v.([]any); ok && len(list) > 1 {
			return []any{list[0], elided}
		}
		if key == "args" {
			return elided
		}
	}
	return v
}
