package schema

import (
	"fmt"
	"slices"
	"strings"
)

// platforms writes what the choices mean on each platform: the enumerations
// of which not every platform has all values.
func (r *reference) platforms() {
	env := r.m.environment()
	if env == nil {
		return
	}
	var columns []*scope
	var heads []string
	for _, c := range env.resolved() {
		columns = append(columns, c.place)
		heads = append(heads, c.name)
	}
	var rows [][]string
	var names []string
	for i, s := range columns {
		for _, cell := range s.cells(r.m, "", "", true) {
			at := slices.Index(names, cell.name)
			if at < 0 {
				names, rows = append(names, cell.name), append(rows, make([]string, len(columns)))
				at = len(names) - 1
			}
			rows[at][i] = cell.text
		}
	}
	// Platforms that can do the same share a column.
	for i := len(columns) - 1; i > 0; i-- {
		for j := range i {
			if !slices.ContainsFunc(rows, func(row []string) bool { return row[i] != row[j] }) {
				kind, _, _ := strings.Cut(heads[j], " ")
				heads[j] += ", " + strings.TrimPrefix(heads[i], kind+" ")
				heads = slices.Delete(heads, i, i+1)
				for k := range rows {
					rows[k] = slices.Delete(rows[k], i, i+1)
				}
				break
			}
		}
	}
	r.b.WriteString("\n## Platforms\n\n" + platformsHead)
	fmt.Fprintf(&r.b, "| Key of an environment | %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat(" --- |", len(heads)+1))
	for _, i := range env.inOrder(names) {
		row := rows[i]
		values := slices.DeleteFunc(slices.Clone(row), func(c string) bool { return c == "" })
		slices.Sort(values)
		if len(slices.Compact(values)) < 2 && (row[0] == "" && values[0] != "yes" || len(values) == len(row) || values[0] != "yes") {
			continue // those that have the key have the same
		}
		for j, cell := range row {
			if cell == "" {
				row[j] = "–"
			}
		}
		fmt.Fprintf(&r.b, "| %s | %s |\n", names[i], strings.Join(row, " | "))
	}
}

// inOrder sorts rows by the key of s that they belong to, and tells where they
// were.
func (s *scope) inOrder(rows []string) []int {
	keys := s.names()
	at := func(i int) int {
		key, _, _ := strings.Cut(strings.Split(rows[i], "`")[1], ".")
		return slices.Index(keys, key)
	}
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return at(a) - at(b) })
	return order
}

// environment is the place of an environment, as seen from itself.
func (m *model) environment() *scope {
	for _, k := range m.root.keys {
		if k.name == "environments" && k.elem != nil {
			return &scope{keys: []*key{k.elem}}
		}
	}
	return nil
}

// variant is a place for which the choice of its tags has been made.
type variant struct {
	name  string
	place *scope
}

// resolved is s once for each kind of platform and its distributions.
func (s *scope) resolved() []variant {
	all := []variant{{"", s}}
	for i := 0; i < len(all); {
		c := all[i]
		tag := c.place.tag()
		if len(tag) != 2 || tag[0] != "platform" {
			i++
			continue
		}
		var split []variant
		for _, v := range c.place.find(tag).leaf().values() {
			name := v
			if c.name != "" {
				name = c.name + " " + v
			}
			split = append(split, variant{name, c.place.choose(tag, v)})
		}
		all = slices.Replace(all, i, i+1, split...)
	}
	return all
}

// cell is what an enumeration has on one platform.
type cell struct{ name, text string }

// cells are the enumerations below s and, of its own keys, those that are not
// there on every platform. What depends on one more choice is there once for
// each.
func (s *scope) cells(m *model, prefix, given string, deep bool) []cell {
	row := func(name string) string { return fmt.Sprintf("`%s%s`%s", prefix, name, given) }
	if tag := s.tag(); len(tag) == len(s.at)+1 {
		last := tag[len(tag)-1]
		l := s.find(tag[len(s.at):]).leaf()
		if l.typ != enum {
			return nil
		}
		all := []cell{{row(last), l.cell()}}
		for _, v := range l.values() {
			if deep {
				below := s.choose(tag, v).cells(m, prefix, fmt.Sprintf(" when %s is `%q`", last, v), false)
				all = append(all, slices.DeleteFunc(below, func(c cell) bool { return strings.HasPrefix(c.name, "`"+prefix+last+"`") })...)
			}
		}
		return all
	}
	var all []cell
	for _, name := range s.names() {
		c := s.child(name)
		switch l := c.leaf(); {
		case l.typ == enum || l.typ == scalar && l.fallback() != "":
			all = append(all, cell{row(name), l.cell()})
		case l.typ == object && c.elem() == nil && m.made(c) == "" && (len(s.at) == 0 || len(s.at) == 1 && deep || !deep):
			all = append(all, c.cells(m, prefix+name+".", given, deep)...)
		}
		if len(s.at) == 0 && name != "platform" {
			all = append(all, cell{"`" + name + "`", "yes"})
		}
	}
	return all
}

// cell are the values of an enumeration, the default first and bold.
func (l leaf) cell() string {
	var s []string
	if l.typ == scalar {
		return "**" + l.fallback() + "**"
	}
	for _, v := range l.enum {
		if v == l.fallback() {
			s = slices.Insert(s, 0, "**"+v+"**")
		} else {
			s = append(s, v)
		}
	}
	return strings.Join(s, ", ")
}

const platformsHead = "What an environment can choose depends on its `platform.kind`. The default is bold; where nothing is bold, the choice " +
	"must\nbe written.\n\n"
