package schema

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"
)

// syntaxError reports what makes the text of a file no CUE. It is one
// mistake: whatever the parser says after the first is a guess.
func (p *program) syntaxError(f File, err error) {
	first := slices.MinFunc(errors.Errors(err), func(a, b errors.Error) int { return a.Position().Offset() - b.Position().Offset() })
	p.explainSyntax(newWrongText(f, first.Position().Offset()), sentence(first))
}

func (p *program) explainSyntax(t wrongText, said string) {
	at, message, hint, ok := t.foreign()
	open, address := t.scan()
	if !ok && address >= 0 {
		at, message, hint, ok = t.pos(address), notQuoted, addressHint, true
	}
	if !ok {
		at, message, hint = t.explain(said, open)
	}
	p.add(at, t.file.Name(), "syntax", message, hint)
}

// wrongText is text and the place in it where the parser gave up.
type wrongText struct {
	file   *token.File
	data   string
	offset int
	line   string // with a zero byte at the place
	unread bool   // the parser has not seen it
}

func newWrongText(f File, offset int) wrongText {
	t := wrongText{file: token.NewFile(f.Name, -1, len(f.Data)), data: string(f.Data), offset: min(max(offset, 0), len(f.Data))}
	t.file.SetLinesForContent(f.Data)
	from := strings.LastIndexByte(t.data[:t.offset], '\n') + 1
	to := len(t.data)
	if n := strings.IndexByte(t.data[t.offset:], '\n'); n >= 0 {
		to = t.offset + n
	}
	t.line = t.data[from:t.offset] + "\x00" + t.data[t.offset:to]
	return t
}

// secret tells whether the line is better not repeated.
func (t wrongText) secret() bool {
	return showsSecret(strings.ReplaceAll(t.line, "\x00", "")) || secretLines(t.data)[strings.Count(t.data[:t.offset], "\n")]
}

func (t wrongText) pos(offset int) token.Pos { return t.file.Pos(offset, token.NoRelPos) }

var (
	conflict  = regexp.MustCompile(`(?m)^(<{7} |>{7} )`)
	document  = regexp.MustCompile(`(?m)^---[ \t]*\r?$`)
	yamlBlock = regexp.MustCompile(`(?m)^([ \t]*)[A-Za-z][-\w]*:[ \t]*\r?\n(?:[ \t]*\r?\n)*([ \t]+)[-A-Za-z"]`)
)

const notYAML = `CUE writes braces where YAML indents, and text in quotes, such as app: {name: "shop"}; forged init writes an example`

// foreign recognizes text that is something else as a whole.
func (t wrongText) foreign() (at token.Pos, message, hint string, ok bool) {
	if m := conflict.FindStringIndex(t.data); m != nil {
		return t.pos(m[0]), "it is a conflict marker of git", "keep one of the two sides, and delete the markers", true
	}
	if m := document.FindStringIndex(t.data); m != nil {
		return t.pos(m[0]), "this looks like YAML", notYAML, true
	}
	if at, ok := looksYAML(t.data); ok {
		return t.pos(at), "this looks like YAML", notYAML, true
	}
	return token.NoPos, "", "", false
}

// looksYAML tells where text is indented instead of in braces.
func looksYAML(text string) (offset int, ok bool) {
	if strings.Contains(text, "{\n") {
		return 0, false
	}
	for _, m := range yamlBlock.FindAllStringSubmatchIndex(text, -1) {
		if m[5]-m[4] > m[3]-m[2] {
			return m[3], true
		}
	}
	return 0, false
}

// slips are mistakes in the syntax that people make who know another one. Each
// is recognized in the line, in which a zero byte is the place that CUE
// reports. $1 in a hint is from the line.
var slips = []struct {
	line          *regexp.Regexp
	message, hint string
}{
	{
		regexp.MustCompile(`\{\{|\{%`), "a template has no place here: forged reads the file as it is",
		"a value from outside comes with a tag: port: int @tag(port,type=int) is given with -t port=8000",
	},
	{regexp.MustCompile(`/\x00?\*|\*\x00?/`), "/* */ is no comment of CUE", "a comment begins with // and ends with its line"},
	{regexp.MustCompile(`\$\x00?\{`), "${…} has no meaning in CUE", `the value of another field is its name without ${}; in a text it is "\(name)"`},
	{regexp.MustCompile(`^\s*\x00?#\s|\x00#`), "# begins no comment of CUE", "a comment begins with //"},
	{regexp.MustCompile(`\x00;|;\x00`), "; has no meaning here", "leave it out: fields are on lines of their own, or have commas between them"},
	{regexp.MustCompile(`,\s*\x00,`), "there is a comma too many", "leave one out"},
	{regexp.MustCompile(`\x00=>?|\w\s*\x00\s*=>?\s`), notAssigned, assignHint},
	{regexp.MustCompile(`^\s*\x00?-\s*\x00?\S`), "a list is written in brackets", dashHint},
	{regexp.MustCompile(`^\s*[A-Za-z]\w* +\x00"[^"]*"( +"[^"]*")* *\{`), "this looks like a block of HCL", "every name has a colon behind it, and its fields in braces: app: {name: \"shop\"}"},
	{regexp.MustCompile(`^\s*([A-Za-z]\w*)( +"[^"]*")* *\x00\{`), "there is no colon before the brace", "write $1: {"},
}

var (
	unquotedKey  = regexp.MustCompile(`(?:^|[\s,{])([-\w./]*\x00[-\w./]*)\s*:(?:\s|$)`)
	keyPath      = regexp.MustCompile(`^[A-Za-z]\w*(\.[A-Za-z]\w*)+$`)
	unquotedText = regexp.MustCompile(`[:,\[]\s*([-\w./:+@]*\x00[-\w./:+@]+)`)
	plainText    = regexp.MustCompile(`^[-\w./+]+$`)
	fieldName    = regexp.MustCompile(`^\s*("[^"]*"|[A-Za-z_]\w*)$`)
	twoWords     = regexp.MustCompile(`[:,\[]\s*[A-Za-z_]\w*\s+\x00[A-Za-z_]\w*\s*(,|\]|\}|$)`)
)

// maxLine is the most characters of a line that anybody has written.
const maxLine = 2000

// explain says what is wrong at the place, for which CUE has its own words.
func (t wrongText) explain(said string, open []openBracket) (at token.Pos, message, hint string) {
	at = t.pos(t.offset)
	if len(t.line) > maxLine {
		return at, said, ""
	}
	before, after, _ := strings.Cut(t.line, "\x00")
	if r, _ := utf8.DecodeRuneInString(after); strings.HasPrefix(said, "illegal character") || r >= utf8.RuneSelf {
		if message, hint := oddCharacter(r); message != "" {
			return at, message, hint
		}
	}
	switch {
	case strings.Contains(said, "not terminated") && strings.HasPrefix(after, "'"):
		return at, "the quotes are not closed", `text stands between " and "`
	case strings.Contains(said, "unknown escape sequence"):
		return at, said, `a backslash in a text is written twice: \\`
	case strings.Contains(said, "not terminated"):
		return at, "the quotes are not closed", `write " at the end of the text; """ and """ on lines of their own enclose one of several lines`
	}
	for _, s := range slips {
		m := s.line.FindStringSubmatchIndex(t.line)
		if m == nil {
			continue
		}
		if n := strings.IndexByte(after, '='); n > 0 && s.message == notAssigned {
			at = t.pos(t.offset + n)
		}
		return at, s.message, string(s.line.ExpandString(nil, s.hint, t.line, m))
	}
	written := func(m []string) (string, bool) {
		s := strings.ReplaceAll(m[1], "\x00", "")
		return s, !t.secret() && plainText.MatchString(s) && !looksSecret(s)
	}
	if m := unquotedKey.FindStringSubmatch(t.line); m != nil && strings.ContainsAny(m[1], "-./") {
		at := t.pos(t.offset - strings.IndexByte(m[1], 0))
		key, ok := written(m)
		switch {
		case !ok:
			return at, "this key has to be in quotes", ""
		case keyPath.MatchString(key):
			return at, "a key has no dots", "write " + strings.ReplaceAll(key, ".", ": ") + ":"
		}
		return at, "this key has to be in quotes", fmt.Sprintf("write %q:", key)
	}
	if at, ok := t.assignment(); ok {
		return at, notAssigned, assignHint
	}
	if n := len(open); n > 0 && open[n-1].bracket != "{" && strings.HasPrefix(after, ":") && strings.HasPrefix(said, "missing ','") &&
		fieldName.MatchString(before) && open[n-1].line < at.Line() {
		at = t.pos(t.offset - len(strings.TrimLeft(before, " \t")))
		return at, fmt.Sprintf("a %s is missing before this line", closedWith[open[n-1].bracket]), open[n-1].hint()
	}
	if message, hint := t.bracket(open, said, after); message != "" {
		return at, message, hint
	}
	if m := unquotedText.FindStringSubmatch(t.line); m != nil {
		at := t.pos(t.offset - strings.IndexByte(m[1], 0))
		if text, ok := written(m); ok {
			return at, notQuoted, fmt.Sprintf("write %q", text)
		}
		return at, notQuoted, ""
	}
	if twoWords.MatchString(t.line) {
		return at, notQuoted, ""
	}
	if strings.HasPrefix(said, "missing ','") {
		return at, "a comma is missing here", "between two fields or two elements there is a comma, or the end of a line"
	}
	return at, said, ""
}

const (
	dashHint    = `write ["a", "b"] and not a line with - for each element`
	notAssigned = "a field is written with a colon"
	assignHint  = "write : and not ="
)

var assigned = regexp.MustCompile(`^\s*[A-Za-z][-\w]*[ \t]+=[ \t]+\S`)

// assignment finds the equals sign of a line that sets a field with it: the
// parser takes it for an alias and complains after the line.
func (t wrongText) assignment() (at token.Pos, ok bool) {
	end := t.offset
	for range 2 {
		from := strings.LastIndexByte(t.data[:end], '\n') + 1
		if line := t.data[from:t.offset]; assigned.MatchString(line) {
			return t.pos(from + strings.IndexByte(line, '=')), true
		}
		end = max(0, from-1)
	}
	return token.NoPos, false
}

// oddCharacter words a character that CUE does not know.
func oddCharacter(r rune) (message, hint string) {
	switch {
	case r == utf8.RuneError:
		return "", ""
	case strings.ContainsRune("“”„‟«»＂", r):
		return fmt.Sprintf("%c is not a plain quote (%U)", r, r), `write "`
	case strings.ContainsRune("‘’‚‛`´", r):
		return fmt.Sprintf("%c is not a plain quote (%U)", r, r), `text stands between " and "`
	case strings.ContainsRune("–—−", r):
		return fmt.Sprintf("%c is not a plain hyphen (%U)", r, r), "write -"
	case r == ';':
		return "; has no meaning here", "leave it out: fields are on lines of their own, or have commas between them"
	case unicode.Is(unicode.Zs, r):
		return fmt.Sprintf("the space here is %U and not a plain one", r), "delete it, and write a plain space"
	case unicode.In(r, unicode.Cf, unicode.Cc, unicode.Zl, unicode.Zp):
		return fmt.Sprintf("it holds the invisible character %U", r), "delete it"
	case r >= utf8.RuneSelf:
		return fmt.Sprintf("the character %c (%U) has no place outside of quotes", r, r), ""
	}
	return "", ""
}

// bracket says which bracket is missing, or too many.
func (t wrongText) bracket(open []openBracket, said, after string) (message, hint string) {
	if strings.HasSuffix(said, "'EOF'") || strings.TrimSpace(t.data[t.offset:]) == "" {
		if len(open) == 0 {
			return "", ""
		}
		last := open[len(open)-1]
		return fmt.Sprintf("a %s is missing before the end of the file", closedWith[last.bracket]), last.hint()
	}
	if after == "" || !strings.Contains("})]", after[:1]) {
		return "", ""
	}
	switch {
	case len(open) == 0:
		return fmt.Sprintf("there is a %s too many", after[:1]), ""
	case closedWith[open[len(open)-1].bracket] != after[:1]:
		last := open[len(open)-1]
		return fmt.Sprintf("a %s is missing before this %s", closedWith[last.bracket], after[:1]), last.hint()
	}
	return "", ""
}

var closedWith = map[string]string{"{": "}", "[": "]", "(": ")"}

type openBracket struct {
	bracket       string
	line          int
	interpolation bool
}

func (b openBracket) hint() string {
	return fmt.Sprintf("the %s of line %d is not closed", b.bracket, b.line)
}

// scan goes over the text before the place. open are the brackets that are not
// closed there; address is where an address begins that is not in quotes, -1
// when there is none.
func (t wrongText) scan() (open []openBracket, address int) {
	address = -1
	if t.unread {
		return nil, address
	}
	defer func() {
		// The scanner does not expect every order of calls.
		if recover() != nil {
			open = nil
		}
	}()
	var s scanner.Scanner
	s.Init(token.NewFile("", -1, t.offset), mask([]byte(t.data[:t.offset])), func(token.Pos, string, []any) {}, 0)
	interpolation, scheme := false, -1
	for {
		pos, tok, lit := s.Scan()
		switch tok {
		case token.EOF:
			return open, address
		case token.IDENT:
			if slices.Contains(schemes, lit) {
				scheme = pos.Offset()
				continue
			}
		case token.COLON:
			if scheme >= 0 && address < 0 && strings.HasPrefix(t.data[pos.Offset():], "://") {
				address = scheme
			}
		case token.INTERPOLATION:
			interpolation = true
		case token.LPAREN, token.LBRACK, token.LBRACE:
			open = append(open, openBracket{tok.String(), pos.Line(), interpolation && tok == token.LPAREN})
			interpolation = false
		case token.RPAREN, token.RBRACK, token.RBRACE:
			if len(open) == 0 {
				continue
			}
			last := open[len(open)-1]
			open = open[:len(open)-1]
			if last.interpolation {
				interpolation = strings.HasSuffix(s.ResumeInterpolation(), "(")
			}
		}
		scheme = -1
	}
}

const (
	notQuoted   = "text is written in quotes"
	addressHint = "without them // begins a comment"
)

// schemes are what addresses begin with that CUE takes for a key and a comment.
var schemes = []string{"http", "https", "oci", "op", "postgres", "postgresql", "redis"}

// bareAddress finds an address that is not in quotes in a file that is CUE all
// the same.
func bareAddress(f *ast.File, data []byte) (at token.Pos, ok bool) {
	ast.Walk(f, func(n ast.Node) bool {
		if field, isField := n.(*ast.Field); isField && !ok {
			if id, isIdent := field.Label.(*ast.Ident); isIdent && slices.Contains(schemes, id.Name) {
				if from := id.Pos().Offset() + len(id.Name); from <= len(data) && bytes.HasPrefix(data[from:], []byte("://")) {
					at, ok = id.Pos(), true
				}
			}
		}
		return !ok
	}, nil)
	return at, ok
}
