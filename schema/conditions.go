package schema

import (
	"fmt"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// switches are the tags that are given without a value.
type switches struct {
	on    map[string]bool
	asked map[string]bool // by an @if
}

func (p *program) switches() *switches {
	s := &switches{map[string]bool{}, map[string]bool{}}
	for _, t := range p.src.Tags {
		if !strings.Contains(t, "=") {
			s.on[t] = true
		}
	}
	return s
}

// buildAttributes are the attributes of a file as a whole.
func buildAttributes(f *ast.File) []*ast.Attribute {
	var attrs []*ast.Attribute
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.Attribute:
			attrs = append(attrs, d)
		case *ast.CommentGroup:
		default:
			return attrs
		}
	}
	return attrs
}

// included tells whether a file is part of its package.
func (p *program) included(f *ast.File, s *switches) bool {
	included, seen := true, false
	for _, a := range buildAttributes(f) {
		switch name, body := a.Split(); {
		case name == "ignore":
			return false
		case name == "if" && seen:
			p.add(a.Pos(), f.Filename, "tag", "there are two @if", "write one: @if(a && b)")
		case name == "if":
			seen = true
			expr, err := ast.Expr(nil), error(nil)
			if len(look(File{f.Filename, []byte(body)}).faults) == 0 {
				expr, err = parser.ParseExpr(f.Filename, body)
			}
			yes, ok := s.holds(expr)
			if err != nil || !ok {
				p.add(a.Pos(), f.Filename, "tag", fmt.Sprintf("@if(%s) is not a condition", body), "it is made of the names of tags, with !, &&, || and parentheses")
			}
			included = yes
		}
	}
	return included
}

// holds judges the condition of an @if.
func (s *switches) holds(e ast.Expr) (yes, ok bool) {
	switch e := e.(type) {
	case *ast.Ident:
		s.asked[e.Name] = true
		return s.on[e.Name], true
	case *ast.ParenExpr:
		return s.holds(e.X)
	case *ast.UnaryExpr:
		yes, ok = s.holds(e.X)
		return !yes, ok && e.Op == token.NOT
	case *ast.BinaryExpr:
		x, okX := s.holds(e.X)
		y, okY := s.holds(e.Y)
		switch e.Op {
		case token.LAND:
			return x && y, okX && okY
		case token.LOR:
			return x || y, okX && okY
		}
	}
	return false, false
}
