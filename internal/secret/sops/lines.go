package sops

import (
	"fmt"
	"strings"
)

// parseDotEnv reads lines of NAME=value, exactly as sops writes them.
func parseDotEnv(data []byte) ([]mapping, error) {
	m := mapping{}
	seen := map[string]bool{}
	number := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		number++
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("is not a file of NAME=value: line %d", number)
		}
		if seen[key] {
			return nil, errTwice(key)
		}
		if seen[key] = true; len(m) >= mostValues {
			return nil, errTooLarge
		}
		m = append(m, item{key, strings.ReplaceAll(value, `\n`, "\n")})
	}
	return []mapping{m}, nil
}

// iniDefault is the section of keys that stand above the first one.
const iniDefault = "DEFAULT"

// parseINI reads sections of keys, as sops writes them: one line for a key,
// unless its value is put between three quotes.
func parseINI(data []byte) ([]mapping, error) {
	p := iniParser{lines: strings.Split(string(data), "\n"), sections: mapping{{iniDefault, mapping{}}}, seen: map[string]bool{iniDefault: true}}
	keys := map[string]bool{}
	for p.next < len(p.lines) {
		line := strings.TrimSpace(p.lines[p.next])
		p.next++
		switch {
		case line == "", line[0] == '#', line[0] == ';':
			continue
		case line[0] == '[':
			name, ok := strings.CutSuffix(line[1:], "]")
			if !ok || name == "" {
				return nil, p.malformed()
			}
			clear(keys)
			if name == iniDefault && len(p.sections) == 1 && len(p.sections[0].value.(mapping)) == 0 {
				continue
			}
			if p.seen[name] {
				return nil, errTwice(name)
			}
			p.seen[name] = true
			p.sections = append(p.sections, item{name, mapping{}})
			continue
		}
		key, rest, ok := iniKey(line)
		if !ok {
			return nil, p.malformed()
		}
		value, ok := p.value(rest)
		if !ok {
			return nil, p.malformed()
		}
		if keys[key] {
			return nil, errTwice(key)
		}
		if keys[key] = true; len(keys) > mostValues || len(p.sections) > mostValues {
			return nil, errTooLarge
		}
		last := &p.sections[len(p.sections)-1]
		last.value = append(last.value.(mapping), item{key, value})
	}
	return []mapping{p.sections}, nil
}

type iniParser struct {
	lines    []string
	next     int
	sections mapping
	seen     map[string]bool
}

func (p *iniParser) malformed() error {
	return fmt.Errorf("is not a file of sections and keys: line %d", p.next)
}

// iniKey cuts a line at its = or :, which may stand in a quoted name too.
func iniKey(line string) (key, rest string, ok bool) {
	for _, quote := range [...]string{`"""`, "`", `"`} {
		if inner, found := strings.CutPrefix(line, quote); found {
			if key, rest, ok = strings.Cut(inner, quote); !ok {
				return "", "", false
			}
			i := strings.IndexAny(rest, "=:")
			if i < 0 {
				return "", "", false
			}
			return strings.TrimSpace(key), rest[i+1:], true
		}
	}
	i := strings.IndexAny(line, "=:")
	if i <= 0 {
		return "", "", false
	}
	return strings.TrimSpace(line[:i]), line[i+1:], true
}

// value reads what stands behind the =, to which further lines may belong.
func (p *iniParser) value(s string) (string, bool) {
	s = strings.TrimSpace(s)
	for _, quote := range [...]string{`"""`, "`"} {
		inner, found := strings.CutPrefix(s, quote)
		if !found {
			continue
		}
		for {
			if i := strings.LastIndex(inner, quote); i >= 0 {
				return inner[:i], true
			}
			if p.next == len(p.lines) {
				return "", false
			}
			inner += "\n" + strings.TrimSuffix(p.lines[p.next], "\r")
			p.next++
		}
	}
	if strings.HasSuffix(s, `\`) {
		return "", false // goes on in the next line, which sops does not write
	}
	if i := strings.IndexAny(s, "#;"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = s[1 : len(s)-1]
	}
	return s, true
}
