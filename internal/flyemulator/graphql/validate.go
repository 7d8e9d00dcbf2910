package graphql

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

func (s *Schema) parse(query string) (*ast.QueryDocument, []Error) {
	if strings.TrimSpace(query) == "" {
		return nil, []Error{{Message: "No query string was present"}}
	}
	doc, err := parser.ParseQuery(&ast.Source{Input: query})
	if err != nil {
		var g *gqlerror.Error
		if errors.As(err, &g) {
			return nil, []Error{translate(g)}
		}
		return nil, []Error{{Message: err.Error()}}
	}
	var out []Error
	for _, g := range validator.ValidateWithRules(s.types, doc, rules.NewDefaultRules()) {
		out = append(out, translate(g))
	}
	return doc, out
}

// variables checks what was sent against what the operation declares.
func (s *Schema) variables(op *ast.OperationDefinition, sent map[string]any) (map[string]any, *Error) {
	vars, err := validator.VariableValues(s.types, op, sent)
	if err == nil {
		return vars, nil
	}
	out := Error{Message: err.Error()}
	var g *gqlerror.Error
	if !errors.As(err, &g) {
		return nil, &out
	}
	// The path is variable, NAME, and then the way inside its value.
	if len(g.Path) >= 2 {
		name := fmt.Sprint(g.Path[1])
		var inside []string
		for _, p := range g.Path[2:] {
			inside = append(inside, fmt.Sprint(p))
		}
		kind := ""
		if v := op.VariableDefinitions.ForName(name); v != nil {
			kind = v.Type.String()
		}
		why := g.Message
		if why == "unknown field" {
			why = "Field is not defined on " + strings.Trim(kind, "[]!")
		}
		out.Message = fmt.Sprintf("Variable $%s of type %s was provided invalid value", name, kind)
		if len(inside) > 0 {
			out.Message += fmt.Sprintf(" for %s (%s)", strings.Join(inside, "."), why)
		}
		out.Extensions = map[string]any{"problems": []any{map[string]any{"path": inside, "explanation": why}}}
	}
	return nil, &out
}

// What the validator says, and what Fly's server says instead.
var translations = []struct {
	from *regexp.Regexp
	to   string
	code string
}{
	{regexp.MustCompile(`^Cannot query field "([^"]+)" on type "([^"]+)"`), "Field '$1' doesn't exist on type '$2'", "undefinedField"},
	{regexp.MustCompile(`^Unknown argument "([^"]+)" on field "[^".]+\.([^"]+)"`), "Field '$2' doesn't accept argument '$1'", "argumentNotAccepted"},
	{regexp.MustCompile(`^Field "([^"]+)" is not defined by type "([^"]+)"`), "InputObject '$2' doesn't accept argument '$1'", "argumentNotAccepted"},
	{regexp.MustCompile(`^Field "([^"]+)" argument "([^"]+)" of type "[^"]+" is required`), "Field '$1' is missing required arguments: $2", "missingRequiredArguments"},
	{regexp.MustCompile(`^Unknown type "([^"]+)"`), "$1 isn't a defined input type (on $$input)", "variableRequiresValidType"},
}

func translate(g *gqlerror.Error) Error {
	out := Error{Message: g.Message}
	for _, l := range g.Locations {
		out.Locations = append(out.Locations, Location{Line: l.Line, Column: l.Column})
	}
	if g.Rule == "" {
		out.Message = "Parse error: " + g.Message
		return out
	}
	for _, t := range translations {
		m := t.from.FindStringSubmatchIndex(g.Message)
		if m == nil {
			continue
		}
		out.Message = string(t.from.ExpandString(nil, t.to, g.Message, m))
		out.Extensions = map[string]any{"code": t.code}
		break
	}
	return out
}
