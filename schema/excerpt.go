package schema

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"cuelang.org/go/cue/token"

	"forged.dev/forged/internal/forge"
)

// diagnostic makes a Diagnostic of the rule with this name.
func (s Source) diagnostic(p token.Pos, file, rule, message, hint string) Diagnostic {
	d := Diagnostic{Severity: SeverityError, File: file, Name: rule, Message: message, Hint: hint}
	if r, ok := RuleNamed(rule); ok {
		d.Rule, d.Severity = r.ID, r.Severity
	}
	if p.IsValid() && p.File() != nil {
		pos := p.Position()
		d.File, d.Line, d.Col = pos.Filename, pos.Line, pos.Column
	}
	return d
}

// Find gives findings their places in the text, and puts them among the
// diagnostics that are known already. It is for checks that come after Load,
// because they need what is not in the text; it evaluates nothing, so a place
// that only evaluation would show is that of what encloses it.
func (s Source) Find(known Diagnostics, found ...forge.Finding) Diagnostics {
	if len(found) == 0 {
		return known
	}
	text, _ := newProgram(s)
	l := &loader{src: s, text: text, files: text.files}
	for _, f := range found {
		l.find(f)
	}
	return s.sorted(append(slices.Clone(known), l.diags...))
}

// sorted are the diagnostics in order, each once, with the excerpts of their
// places.
func (s Source) sorted(d Diagnostics) Diagnostics {
	d = d.sorted()
	for i := 0; i < len(d); {
		n := i + 1
		for n < len(d) && d[n].File == d[i].File {
			n++
		}
		s.excerpts(d[i:n])
		i = n
	}
	return d
}

// excerpts completes diagnostics of one file with what is read off its text.
func (s Source) excerpts(d Diagnostics) {
	file, _ := s.file(d[0].File)
	text := string(file.Data)
	secret := secretLines(text)
	line, rest, at := "", text, 0
	hidden := false // of this line
	private := map[int]bool{}
	for _, x := range d {
		if x.private {
			private[x.Line] = true
		}
	}
	for i := range d {
		x := &d[i]
		if x.Line < 1 || x.Line > len(secret) {
			continue
		}
		if at < x.Line {
			for ; at < x.Line; at++ {
				line, rest, _ = strings.Cut(rest, "\n")
			}
			line = strings.TrimSuffix(line, "\r")
			hidden = secret[x.Line-1] || private[x.Line] || showsSecret(line)
		}
		if hidden {
			x.Message = withoutText(x.Name, x.Message)
		}
		// A line that nobody wants to see is not measured either: it may be
		// the whole file, with a mistake in every word.
		const most = 200
		if x.Col < 1 || x.Col > len(line)+1 || len(line) > 10*most {
			continue
		}
		if n := extent(line[x.Col-1:]); n > 0 {
			x.EndCol = x.Col + n
		} else if x.EndCol <= x.Col || x.EndCol > len(line)+1 {
			x.EndCol = 0
		}
		x.span[0] = 1 + units(line[:x.Col-1])
		if x.EndCol > 0 {
			x.span[1] = x.span[0] + units(line[x.Col-1:x.EndCol-1])
		}
		if !hidden && len(line) <= most {
			x.line = line
		}
	}
}

// units is the length of s in UTF-16 code units.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// extent is the length of the name, number, string or attribute that s begins
// with; 0 when it begins with something else or does not end in this line.
func extent(s string) int {
	if strings.HasPrefix(s, `"""`) || strings.HasPrefix(s, "'''") || s == "" {
		return 0
	}
	if q := s[0]; q == '"' || q == '\'' {
		for i := 1; i < len(s); i++ {
			switch {
			case s[i] == q:
				return i + 1
			case strings.HasPrefix(s[i:], `\(`):
				return 0 // an expression, with strings of its own
			case s[i] == '\\':
				i++
			}
		}
		return 0
	}
	n := len(s) - len(strings.TrimLeft(s, "-+@"))
	rest := strings.TrimLeftFunc(s[n:], func(r rune) bool {
		return r == '_' || r == '#' || r == '$' || r == '.' || '0' <= r && r <= '9' ||
			'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r >= utf8.RuneSelf && r != utf8.RuneError
	})
	if n += len(s[n:]) - len(rest); n > 0 && s[:n] != "-" && s[:n] != "+" && s[:n] != "@" {
		return n
	}
	return 0
}

// secretLines tells for each line whether it begins inside a field whose name
// says that it may hold a secret, or inside a text of several lines. It needs
// no syntax, because it is asked about text that has none.
func secretLines(text string) []bool {
	var lines []bool
	var open []bool // for each open bracket: may what is in it be a secret?
	within := func() bool { return len(open) > 0 && open[len(open)-1] }
	line := func(secret bool) { lines = append(lines, secret) }
	line(false)
	label := 0 // where the names before the next bracket begin
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\n':
			line(within())
			label = i + 1
		case ',':
			label = i + 1
		case '/':
			if strings.HasPrefix(text[i:], "//") {
				for i+1 < len(text) && text[i+1] != '\n' {
					i++
				}
			}
		case '"', '\'':
			if long := strings.Repeat(string(c), 3); strings.HasPrefix(text[i:], long) {
				for i += 3; i < len(text) && !strings.HasPrefix(text[i:], long); i++ {
					if text[i] == '\n' {
						line(true)
					}
				}
				i += 2
				continue
			}
			// A string that is not closed ends with its line.
			for i+1 < len(text) && text[i+1] != '\n' {
				if i++; text[i] == c {
					break
				}
				if text[i] == '\\' && i+1 < len(text) && text[i+1] != '\n' {
					i++
				}
			}
		case '{', '[', '(':
			open = append(open, within() || sensitive.MatchString(text[label:i]))
			label = i + 1
		case '}', ']', ')':
			open = open[:max(0, len(open)-1)]
		}
	}
	return lines
}

// quotedText matches what an error of CUE may quote from the text.
var quotedText = regexp.MustCompile(`"[^"]*"|(found '[A-Z]+') .*`)

// withoutText is a message of CUE about text that may hold a secret.
func withoutText(rule, message string) string {
	switch rule {
	case "syntax", "reference", "import", "tag":
		return quotedText.ReplaceAllString(message, "$1")
	}
	return message
}
