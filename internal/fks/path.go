package fks

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The kinds that make pods, by their groups. DaemonSets and CronJobs are not
// among them: they are refused as a whole.
var podKinds = []string{"Pod", "ReplicationController", "Deployment.apps", "ReplicaSet.apps", "StatefulSet.apps", "Job.batch"}

// claimKinds are those and what asks for a volume by itself.
var claimKinds = append([]string{"PersistentVolumeClaim"}, podKinds...)

// spelled is a path without its variables and alternatives, as it is in objects
// of a kind.
func spelled(path, kind string) []string {
	pod := "spec.template.spec"
	if kind == "Pod" {
		pod = "spec"
	}
	claim := pod + ".volumes[*].ephemeral.volumeClaimTemplate.spec"
	switch kind {
	case "PersistentVolumeClaim":
		claim = "spec"
	case "StatefulSet.apps":
		claim = "(spec.volumeClaimTemplates[*].spec|" + claim + ")"
	}
	return alternatives(strings.NewReplacer("{container}", pod+".containers[*]", "{pod}", pod, "{claim}", claim).Replace(path))
}

// alternatives multiplies "a(b|c)" out to "ab" and "ac".
func alternatives(path string) []string {
	open := strings.LastIndexByte(path, '(')
	if open < 0 {
		return []string{path}
	}
	length := strings.IndexByte(path[open:], ')')
	var all []string
	for one := range strings.SplitSeq(path[open+1:open+length], "|") {
		all = append(all, alternatives(path[:open]+one+path[open+length+1:])...)
	}
	return all
}

// steps are the parts of a path: keys, "*" for each item, and keys that end in
// "/*" for all that begin so.
func steps(path string) []string {
	var all []string
	for path != "" {
		switch {
		case path[0] == '.':
			path = path[1:]
		case strings.HasPrefix(path, `["`):
			key, rest, _ := strings.Cut(path[2:], `"]`)
			all, path = append(all, key), rest
		case strings.HasPrefix(path, "[*]"):
			all, path = append(all, "*"), path[3:]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			all, path = append(all, path[:end]), path[end:]
		}
	}
	return all
}

// removed stands where an item of a list was, so that the others keep their
// places until all rules have had their say.
type removed struct{}

// match is one place in an object that a path leads to.
type match struct {
	of    *object
	keys  []any // string or int, from the top of the object
	above []any // the values on the way: above[0] is the object, above[i] what keys[i-1] leads to
	value any
	there bool
}

// up is what the place lies in, the nth level above it.
func (m match) up(n int) map[string]any {
	if i := len(m.above) - n; i >= 0 {
		in, _ := m.above[i].(map[string]any)
		return in
	}
	return nil
}

// path is the place for people: spec.ports[0].name.
func (m match) path() string {
	var b strings.Builder
	for _, key := range m.keys {
		switch key := key.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(key) + "]")
		case string:
			switch {
			case strings.ContainsAny(key, `./[]"`):
				b.WriteString("[" + strconv.Quote(key) + "]")
			case b.Len() > 0:
				b.WriteString("." + key)
			default:
				b.WriteString(key)
			}
		}
	}
	return b.String()
}

// find hands out the places that a path leads to. With absent, what is not
// there is a place as well, if only maps are missing on the way.
func find(o *object, path []string, absent bool, visit func(match)) {
	var walk func(at any, there bool, rest []string, keys, above []any)
	walk = func(at any, there bool, rest []string, keys, above []any) {
		if len(rest) == 0 {
			if there || absent {
				visit(match{of: o, keys: slices.Clone(keys), above: slices.Clone(above), value: at, there: there})
			}
			return
		}
		down := func(value any, there bool, key any) {
			walk(value, there, rest[1:], append(keys, key), append(above, at))
		}
		if rest[0] == "*" {
			list, _ := at.([]any)
			for i, item := range list {
				if item != (removed{}) {
					down(item, true, i)
				}
			}
			return
		}
		in, ok := at.(map[string]any)
		if !ok && at != nil {
			return
		}
		prefix, many := strings.CutSuffix(rest[0], "*")
		if !many {
			value, there := in[rest[0]]
			if there || absent {
				down(value, there, rest[0])
			}
			return
		}
		for _, key := range slices.Sorted(maps.Keys(in)) {
			if strings.HasPrefix(key, prefix) {
				down(in[key], true, key)
			}
		}
	}
	walk(o.fields, true, path, nil, nil)
}

// set puts a value at the place, with the maps on the way to it.
func (m match) set(value any) {
	var at any = m.of.fields
	for i, key := range m.keys {
		last := i == len(m.keys)-1
		switch in := at.(type) {
		case map[string]any:
			name := key.(string)
			if last {
				in[name] = value
				return
			}
			if in[name] == nil {
				in[name] = map[string]any{}
			}
			at = in[name]
		case []any:
			if last {
				in[key.(int)] = value
				return
			}
			at = in[key.(int)]
		}
	}
}

// take removes what is at the place.
func (m match) take() {
	if len(m.keys) == 0 {
		m.of.gone = true
		return
	}
	last := m.keys[len(m.keys)-1]
	switch in := m.above[len(m.above)-1].(type) {
	case map[string]any:
		delete(in, last.(string))
	case []any:
		in[last.(int)] = removed{}
	}
}

// swept is a value without the items that were removed; a list that has no
// others goes with them.
func swept(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, in := range v {
			out := swept(in)
			if was, ok := in.([]any); ok && len(was) > 0 && len(out.([]any)) == 0 {
				delete(v, key)
				continue
			}
			v[key] = out
		}
	case []any:
		v = slices.DeleteFunc(v, func(item any) bool { return item == removed{} })
		for i := range v {
			v[i] = swept(v[i])
		}
		return v
	}
	return v
}

// items are the maps in the list under a key.
func items(in map[string]any, key string) []map[string]any {
	list, _ := in[key].([]any)
	var all []map[string]any
	for _, item := range list {
		if fields, ok := item.(map[string]any); ok {
			all = append(all, fields)
		}
	}
	return all
}

// below is the map that keys lead to; nil: there is none.
func below(in map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		in, _ = in[key].(map[string]any)
	}
	return in
}

// text is the string under a key; empty: there is none.
func text(in map[string]any, key string) string {
	s, _ := in[key].(string)
	return s
}
