package schema

import (
	"slices"
	"strconv"
)

// choices says what tags have, by their path from the root of what is looked
// at: platform.kind is "fly".
type choices map[string]string

func (c choices) with(tag path, value string) choices {
	out := choices{tag.String(): value}
	for k, v := range c {
		out[k] = v
	}
	return out
}

// scope is one place of the language under some choices: all the keys that
// stand for it, as the schema says the same place in several blocks.
type scope struct {
	at     path   // from the root of what is looked at
	keys   []*key // of this place
	above  *scope
	chosen choices
}

// child is the place of a name below s, nil where the choices leave none.
// Conditions on what is not chosen count as true.
func (s *scope) child(name string) *scope {
	c := &scope{at: s.at.with(name), above: s, chosen: s.chosen}
	for _, k := range s.keys {
		for _, sub := range k.keys {
			if sub.name == name && s.meets(sub.when) != no {
				c.keys = append(c.keys, sub)
			}
		}
	}
	if len(c.keys) == 0 {
		return nil
	}
	return c
}

// elem is the place of the elements below s, with free names or in a list.
func (s *scope) elem() *scope {
	c := &scope{at: s.at.with("*"), above: s, chosen: s.chosen}
	for _, k := range s.keys {
		if k.elem != nil {
			c.keys = append(c.keys, k.elem)
		}
	}
	if len(c.keys) == 0 {
		return nil
	}
	return c
}

// names are the names below s in the order of the schema, each once.
func (s *scope) names() []string {
	var names []string
	for _, k := range s.keys {
		for _, sub := range k.keys {
			if !slices.Contains(names, sub.name) && s.meets(sub.when) != no {
				names = append(names, sub.name)
			}
		}
	}
	return names
}

// meets tells whether all conditions of a key below s hold.
func (s *scope) meets(when []condition) answer {
	all := yes
	for _, c := range when {
		_, tag := s.resolve(c.tag)
		got, ok := s.chosen[tag.String()]
		switch {
		case !ok:
			all = unclear
		case !slices.Contains(c.want, got):
			return no
		}
	}
	return all
}

// resolve is the path of a tag that a condition in s speaks of, and the place
// that holds it: the nearest one around with such a key.
func (s *scope) resolve(tag path) (holder *scope, at path) {
	for holder = s; holder != nil; holder = holder.above {
		for _, k := range holder.keys {
			if slices.Contains(k.children(), tag[0]) {
				return holder, holder.at.with(tag...)
			}
		}
	}
	panic("condition on " + tag.String() + ", which is no key") // the schema is embedded and tested
}

// tag is a tag held by s that decides about something at or below it and is
// not chosen yet; nil when there is none.
func (s *scope) tag() path { return s.tagOf(s) }

func (s *scope) tagOf(holder *scope) path {
	for _, k := range s.keys {
		for _, sub := range k.keys {
			if s.meets(sub.when) != unclear {
				continue
			}
			for _, c := range sub.when {
				h, p := s.resolve(c.tag)
				if _, ok := s.chosen[p.String()]; !ok && slices.Equal(h.at, holder.at) {
					return p
				}
			}
		}
	}
	for _, name := range s.names() {
		for below := s.child(name); below != nil; below = below.elem() {
			if p := below.tagOf(holder); p != nil {
				return p
			}
		}
	}
	return nil
}

// choose is s with one more choice.
func (s *scope) choose(tag path, value string) *scope {
	c := *s
	c.chosen = s.chosen.with(tag, value)
	return &c
}

// find is the place at a path below s.
func (s *scope) find(p path) *scope {
	for _, name := range p {
		if s = s.child(name); s == nil {
			return nil
		}
	}
	return s
}

// leaf is what a place without keys accepts, from all that the schema says
// about it.
type leaf struct {
	*key          // with the narrowest enumeration
	def    string // the default, as JSON
	must   bool   // it has to be written
	gone   string // what to do instead of writing it
	scalar []string
}

// leaf merges the keys of s.
func (s *scope) leaf() leaf {
	l := leaf{key: s.keys[0]}
	required, regular := false, false
	for _, k := range s.keys {
		if k.doc != "" && l.doc == "" {
			l.key = k
		}
		if k.typ == scalar && !slices.Contains(l.scalar, k.scalar) {
			l.scalar = append(l.scalar, k.scalar)
		}
		if k.def != "" {
			l.def = k.def
		}
		if k.obsolete != "" {
			l.gone = k.obsolete
		}
		required = required || k.required
		regular = regular || !k.optional && !k.required
	}
	if l.typ == enum {
		merged := *l.key
		for _, k := range s.keys {
			if k.typ == enum {
				merged.enum = slices.DeleteFunc(slices.Clone(merged.enum), func(v string) bool { return !slices.Contains(k.enum, v) })
			}
		}
		l.key = &merged
	}
	switch l.typ {
	case enum, scalar, text, boolean:
		l.must = l.def == "" && (required || regular)
	default:
		l.must = required
	}
	return l
}

// values are the values of an enumeration or of a bool.
func (l leaf) values() []string {
	if l.typ == boolean {
		return []string{"true", "false"}
	}
	return l.enum
}

// fallback is the default among the values, empty when there is none.
func (l leaf) fallback() string {
	if l.typ == boolean {
		return l.def
	}
	v, err := strconv.Unquote(l.def)
	if err != nil {
		return ""
	}
	return v
}

// Values are what a key of an environment may be on a kind of platform, the
// default first; none when it is no choice there.
func Values(kind, distribution string, key ...string) []string {
	m, err := newModel()
	if err != nil {
		panic(err) // it is embedded and tested
	}
	s := m.environment().choose(path{"platform", "kind"}, kind)
	if distribution != "" {
		s = s.choose(path{"platform", "distribution"}, distribution)
	}
	if s = s.find(key); s == nil {
		return nil
	}
	l := s.leaf()
	values := slices.DeleteFunc(slices.Clone(l.values()), func(v string) bool { return v == l.fallback() })
	if len(values) < len(l.values()) {
		values = slices.Insert(values, 0, l.fallback())
	}
	return values
}
