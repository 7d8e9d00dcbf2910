package graphql

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

type execution struct {
	schema *ast.Schema
	vars   map[string]any
	errors []Error
}

// object answers a set of selections. Fields of mutations run in the order
// they are written, as all fields do.
func (e *execution) object(o Object, set ast.SelectionSet, path []any) (map[string]any, error) {
	def := e.schema.Types[o.Type]
	if def == nil {
		return nil, fmt.Errorf("%s is no type of the schema", o.Type)
	}
	out := map[string]any{}
	for _, f := range e.collect(def, set, nil) {
		at := append(slices.Clone(path), f.key)
		value, err := e.field(o, f, at)
		if err != nil {
			return nil, err
		}
		out[f.key] = value
	}
	return out, nil
}

// selected is a field under the name it has in the answer; the same name
// asked for twice is one field with the selections of both.
type selected struct {
	key   string
	field *ast.Field
	set   ast.SelectionSet
}

func (e *execution) collect(def *ast.Definition, set ast.SelectionSet, into []selected) []selected {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			if !e.included(s.Directives) {
				continue
			}
			i := slices.IndexFunc(into, func(x selected) bool { return x.key == s.Alias })
			if i < 0 {
				into = append(into, selected{key: s.Alias, field: s, set: slices.Clone(s.SelectionSet)})
				continue
			}
			into[i].set = append(into[i].set, s.SelectionSet...)
		case *ast.InlineFragment:
			if e.included(s.Directives) && e.applies(def, s.TypeCondition) {
				into = e.collect(def, s.SelectionSet, into)
			}
		case *ast.FragmentSpread:
			if e.included(s.Directives) && e.applies(def, s.Definition.TypeCondition) {
				into = e.collect(def, s.Definition.SelectionSet, into)
			}
		}
	}
	return into
}

func (e *execution) included(directives ast.DirectiveList) bool {
	for _, d := range directives {
		on, ok := d.ArgumentMap(e.vars)["if"].(bool)
		if ok && (d.Name == "skip" && on || d.Name == "include" && !on) {
			return false
		}
	}
	return true
}

func (e *execution) applies(def *ast.Definition, condition string) bool {
	if condition == "" || condition == def.Name {
		return true
	}
	return slices.ContainsFunc(e.schema.PossibleTypes[condition], func(d *ast.Definition) bool { return d.Name == def.Name })
}

// field gives the value of one field, or errNull if the object cannot be
// without it.
func (e *execution) field(o Object, f selected, path []any) (any, error) {
	if f.field.Name == "__typename" {
		return o.Type, nil
	}
	value, err := e.resolve(o, f.field)
	if err == nil {
		value, err = e.complete(f.field.Definition.Type, value, f.set, path)
	}
	if err == nil {
		return value, nil
	}
	if !errors.Is(err, errNull) {
		e.fail(err, f.field, path)
	}
	if f.field.Definition.Type.NonNull {
		return nil, errNull
	}
	return nil, nil
}

func (e *execution) resolve(o Object, field *ast.Field) (any, error) {
	value, ok := o.Fields[field.Name]
	if !ok {
		return nil, fmt.Errorf("%s.%s is not emulated", o.Type, field.Name)
	}
	if r, ok := value.(Resolver); ok {
		return r(field.ArgumentMap(e.vars))
	}
	return value, nil
}

func (e *execution) fail(err error, field *ast.Field, path []any) {
	out := Error{Message: err.Error(), Path: path}
	if field.Position != nil {
		out.Locations = []Location{{Line: field.Position.Line, Column: field.Position.Column}}
	}
	var f *Failure
	if errors.As(err, &f) && f.Code != "" {
		out.Extensions = map[string]any{"code": f.Code}
	}
	e.errors = append(e.errors, out)
}

// complete brings a value into the form that its type asks for.
func (e *execution) complete(t *ast.Type, value any, set ast.SelectionSet, path []any) (any, error) {
	if o, ok := value.(*Object); ok && o != nil {
		value = *o
	}
	if isNil(value) {
		if t.NonNull {
			return nil, fmt.Errorf("%s is null, which it must not be", place(path))
		}
		return nil, nil
	}
	if t.Elem != nil {
		return e.list(t.Elem, value, set, path)
	}
	def := e.schema.Types[t.NamedType]
	switch def.Kind {
	case ast.Object, ast.Interface, ast.Union:
		o, ok := value.(Object)
		if !ok || !e.applies(e.schema.Types[o.Type], def.Name) {
			return nil, fmt.Errorf("%s is a %T, not a %s", place(path), value, t.NamedType)
		}
		return e.object(o, set, path)
	case ast.Enum:
		text, ok := value.(string)
		if !ok || def.EnumValues.ForName(text) == nil {
			return nil, fmt.Errorf("%v is no %s", value, def.Name)
		}
		return text, nil
	default:
		return scalar(def.Name, value, path)
	}
}

func (e *execution) list(elem *ast.Type, value any, set ast.SelectionSet, path []any) (any, error) {
	v := reflect.ValueOf(value)
	if v.Kind() != reflect.Slice {
		return nil, fmt.Errorf("%s is a %T, not a list", place(path), value)
	}
	out := make([]any, 0, v.Len())
	for i := range v.Len() {
		item, err := e.complete(elem, v.Index(i).Interface(), set, append(slices.Clone(path), i))
		if errors.Is(err, errNull) && !elem.NonNull {
			item, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, item)
	}
	return out, nil
}

// scalar checks that a value fits, so that the answers never have a number
// where a text was promised.
func scalar(kind string, value any, path []any) (any, error) {
	v := reflect.ValueOf(value)
	fits := true
	switch kind {
	case "Int":
		fits = v.CanInt() || v.CanUint()
	case "Float":
		fits = v.CanFloat() || v.CanInt()
	case "Boolean":
		fits = v.Kind() == reflect.Bool
	case "ID", "String":
		fits = v.Kind() == reflect.String
	case "BigInt":
		if v.CanInt() || v.CanUint() {
			return fmt.Sprint(value), nil
		}
		fits = false
	case "ISO8601DateTime":
		at, ok := value.(time.Time)
		if ok {
			return at.UTC().Format(time.RFC3339), nil
		}
		fits = false
	}
	if !fits {
		return nil, fmt.Errorf("%s is a %T, not a %s", place(path), value, kind)
	}
	return value, nil
}

func isNil(value any) bool {
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Map, reflect.Interface:
		return v.IsNil()
	}
	return false
}

func place(path []any) string {
	out := ""
	for i, p := range path {
		if i > 0 {
			out += "."
		}
		out += fmt.Sprint(p)
	}
	return out
}
