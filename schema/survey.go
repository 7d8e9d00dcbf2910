package schema

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"
)

// CUE's scanner and parser trust what they read. Both take quadratic time for
// some texts: they compare each mistake of the scanner with all before it, and
// the scanner reads an attribute as one token, with whatever is in it, and
// copies it. So a survey goes before every use of them. It takes linear time,
// and a stack of one frame.

const (
	// maxNesting bounds how deep expressions and fields are nested. Parser and
	// evaluator recurse, and a stack that overflows ends the process.
	maxNesting = 1000

	// maxLinks bounds what the evaluator may recurse through in all: it follows
	// references from field to field and operators from operand to operand, and
	// needs up to two kilobytes of stack for each such link. A gigabyte is where
	// Go gives up, and it doubles stacks. A field, a call or a comprehension is
	// two links, an operator or an interpolation is one.
	maxLinks = 250_000

	// maxAttributes bounds how deep attributes are nested. The text of each is
	// copied as often as that.
	maxAttributes = 10

	// maxSlips is how many mistakes of the scanner a text may have and still be
	// parsed, for the parser to say more about it.
	maxSlips = 20
)

// survey is what is known of a text before it is parsed.
type survey struct {
	faults []fault // why it must not be parsed
	links  int     // what it has of maxLinks
	head   int     // where the declarations begin: before are comments, attributes, the package clause and imports
	strays bool    // the parser will find a mistake in it
	early  bool    // there are faults or mistakes in its head

	// texts are where strings with interpolations begin and end, the outermost
	// of them. After a mistake the parser takes the inside of such a string for
	// its outside, or the other way round, so that what it reads is not what
	// was surveyed. torn: one of them does not end.
	texts [][2]int
	torn  bool
}

// fault is a mistake for which a text is not looked at any further.
type fault struct {
	pos     token.Pos
	message string
}

// look surveys a text.
func look(f File) survey { return surveyed(f, false) }

// lookAtHead surveys a text up to its first declaration.
func lookAtHead(f File) survey { return surveyed(f, true) }

func surveyed(f File, headOnly bool) survey {
	s := surveyor{survey: survey{head: -1}, file: token.NewFile(f.Name, -1, len(f.Data)), text: f.Data, headOnly: headOnly, attribute: -1}
	s.masked = mask(f.Data)
	s.run()
	if s.head < 0 { // a fault came before
		s.head, s.early = len(f.Data), true
	}
	for _, e := range s.slips {
		s.early = s.early || e.pos.Offset() < s.head
	}
	s.strays = s.strays || len(s.slips) > 0
	return s.survey
}

// parsedHead is the syntax of the head of a text, as far as mode says; nil if it
// has mistakes.
func parsedHead(f File, mode parser.Mode) *ast.File {
	s := lookAtHead(f)
	if s.early {
		return nil
	}
	syntax, err := parser.ParseFile(f.Name, f.Data[:s.head], mode)
	if err != nil {
		return nil
	}
	return syntax
}

// plain is the text with other text in the place of strings with
// interpolations, at most as long. What the parser reads of it is what was
// surveyed. Not ok if there is no such text.
func (s survey) plain(text []byte) (_ []byte, ok bool) {
	if len(s.faults) > 0 || s.torn {
		return nil, false
	}
	text = slices.Clone(text)
	for _, at := range s.texts {
		inside := text[at[0]:at[1]]
		for i := range inside {
			inside[i] = ' '
		}
		inside[0], inside[len(inside)-1] = '"', '"'
	}
	return text, true
}

// mask is a text in which attributes are read like everything else: each
// begins with a question mark, which is a token by itself wherever it stands,
// and its name is one word. In strings and comments that changes nothing that
// matters.
func mask(text []byte) []byte {
	if bytes.IndexByte(text, '@') < 0 {
		return text
	}
	text = slices.Clone(text)
	for i := 0; i < len(text); {
		if text[i] != '@' {
			i++
			continue
		}
		text[i] = '?'
		for i++; i < len(text); {
			r, n := utf8.DecodeRune(text[i:])
			if r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				break
			}
			for range n {
				text[i] = 'a'
				i++
			}
		}
	}
	return text
}

// surveyor makes a survey.
type surveyor struct {
	survey
	file         *token.File
	text, masked []byte
	headOnly     bool
	scanner      scanner.Scanner
	slips        []fault // mistakes that the scanner finds

	open          []bracket
	depth         int
	interpolation bool // the next bracket is one of a string
	string        int  // where the outermost string with interpolations begins
	strings       int  // how many there are around
	attribute     int  // where the attribute begins whose bracket comes next; -1: none
	clause        bool // a package clause, or imports
	ended         bool // an attribute of the head has ended
}

// bracket is one that is open.
type bracket struct {
	tokens        int // since its last comma
	close         token.Token
	interpolation bool
	begins        bool // an attribute
	attributes    int  // how many there are around
	pos           token.Pos
}

// enough ends a survey.
type enough struct{}

func (s *surveyor) run() {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(enough); !ok {
				// The scanner does not expect every order of calls.
				s.faults = append(s.faults, fault{s.file.Pos(min(s.scanner.Offset(), s.file.Size()), token.NoRelPos), "it cannot be made sense of from here on"})
			}
		}
	}()
	s.open = []bracket{{close: token.EOF}}
	s.scanner.Init(s.file, s.masked, s.slip, 0)
	for {
		pos, tok, lit := s.scanner.Scan()
		s.header(pos, tok, lit)
		if tok == token.EOF {
			break
		}
		s.token(pos, tok)
	}
	for _, b := range s.open[1:] {
		s.strays = true
		s.torn = s.torn || b.interpolation
		if b.begins {
			s.refuse(b.pos, "the attribute that begins here does not end")
		}
	}
	if s.attribute >= 0 {
		s.refuse(s.at(s.attribute), noAttribute)
	}
}

const noAttribute = "invalid attribute: expected '('"

func (s *surveyor) refuse(pos token.Pos, format string, args ...any) {
	s.faults = append(s.faults, fault{pos, fmt.Sprintf(format, args...)})
	panic(enough{})
}

// slip takes note of a mistake that the scanner has found.
func (s *surveyor) slip(pos token.Pos, message string, args []any) {
	s.slips = append(s.slips, fault{pos, sentence(errors.Newf(pos, message, args...))})
	if len(s.slips) > maxSlips {
		s.faults = append(s.faults, s.slips...)
		panic(enough{})
	}
}

func (s *surveyor) at(offset int) token.Pos { return s.file.Pos(offset, token.NoRelPos) }

// header finds out where the declarations begin.
func (s *surveyor) header(pos token.Pos, tok token.Token, lit string) {
	if s.head >= 0 || len(s.open) > 1 && tok != token.INTERPOLATION && tok != token.EOF {
		return
	}
	ended := s.ended
	s.ended = false
	switch {
	case s.clause && tok != token.INTERPOLATION && tok != token.EOF:
		s.clause = tok != token.COMMA
	case tok == token.COMMA && ended, s.attribute >= 0, tok == token.OPTION && s.text[pos.Offset()] == '@':
	case tok == token.IDENT && (lit == "package" || lit == "import"):
		s.clause = true
	default:
		s.head = pos.Offset()
		s.early = s.clause && tok == token.INTERPOLATION || len(s.open) > 1
		if s.headOnly {
			panic(enough{})
		}
	}
}

// token goes on by one token. The tokens since the last comma of each open
// bracket are more than the levels they can make, so counting them needs no
// recursion.
func (s *surveyor) token(pos token.Pos, tok token.Token) {
	top := &s.open[len(s.open)-1]
	inside := top.attributes > 0
	if s.attribute >= 0 {
		switch {
		case tok == token.LPAREN:
		case tok == token.IDENT && pos.Offset() == s.attribute+1 && s.masked[s.attribute+1] == 'a':
			return
		default:
			s.refuse(s.at(s.attribute), noAttribute)
		}
	}
	switch tok {
	case token.OPTION:
		if s.text[pos.Offset()] == '@' {
			if s.attribute = pos.Offset(); top.attributes >= maxAttributes {
				s.refuse(pos, "attributes within attributes, more than %d levels deep", maxAttributes)
			}
		}
	case token.COMMA:
		s.depth -= top.tokens
		top.tokens = 0
		return
	case token.INTERPOLATION:
		if inside {
			s.refuse(pos, "interpolation not allowed in attribute")
		}
		if s.strings == 0 {
			s.string = pos.Offset()
		}
		s.strings++
		s.interpolation = true
	case token.LPAREN, token.LBRACK, token.LBRACE:
		s.opens(pos, tok, top.attributes)
	case token.RPAREN, token.RBRACK, token.RBRACE:
		s.closes(pos, tok)
	}
	top = &s.open[len(s.open)-1]
	if !inside && top.attributes == 0 {
		s.links += weight[tok]
	} else if top.attributes > 0 && tok != token.LPAREN && tok != token.LBRACK && tok != token.LBRACE {
		return // an attribute has no levels but those of its brackets
	}
	top.tokens++
	if s.depth++; s.depth > maxNesting {
		s.refuse(pos, "nested more than %d levels deep", maxNesting)
	}
}

func (s *surveyor) opens(pos token.Pos, tok token.Token, attributes int) {
	b := bracket{close: closing[tok], interpolation: s.interpolation && tok == token.LPAREN, begins: s.attribute >= 0, attributes: attributes, pos: pos}
	if b.begins {
		b.pos = s.at(s.attribute)
		b.attributes++
	}
	s.open = append(s.open, b)
	s.interpolation, s.attribute = false, -1
}

func (s *surveyor) closes(pos token.Pos, tok token.Token) {
	b := s.open[len(s.open)-1]
	if b.close != tok {
		if b.attributes > 0 {
			s.refuse(pos, "unexpected '%s' in an attribute", tok)
		}
		s.strays = true
		if len(s.open) == 1 {
			return
		}
	}
	s.depth -= b.tokens
	s.open = s.open[:len(s.open)-1]
	s.ended = b.begins && len(s.open) == 1
	if !b.interpolation {
		return
	}
	if strings.HasSuffix(s.scanner.ResumeInterpolation(), "(") {
		s.interpolation = true
		return
	}
	if s.strings--; s.strings == 0 {
		s.texts = append(s.texts, [2]int{s.string, s.scanner.Offset()})
	}
}

var closing = map[token.Token]token.Token{token.LPAREN: token.RPAREN, token.LBRACK: token.RBRACK, token.LBRACE: token.RBRACE}

// weight is what tokens have of maxLinks.
var weight = map[token.Token]int{
	token.COLON: 2, token.BIND: 2, token.IF: 2, token.FOR: 2, token.LPAREN: 2, token.INTERPOLATION: 1,
	token.ADD: 1, token.SUB: 1, token.MUL: 1, token.POW: 1, token.QUO: 1, token.LAND: 1, token.LOR: 1, token.NOT: 1,
	token.EQL: 1, token.NEQ: 1, token.LSS: 1, token.LEQ: 1, token.GTR: 1, token.GEQ: 1, token.MAT: 1, token.NMAT: 1,
}
