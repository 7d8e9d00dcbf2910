// Package graphql answers GraphQL requests from plain Go values: it parses
// and validates a request against a schema and then asks functions for what
// the request names. Errors read like those of the library that Fly uses.
package graphql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

// Schema says what may be asked.
type Schema struct {
	types *ast.Schema
}

// Load reads a schema. What is named in without is left out of it: a type's
// field ("App.secrets"), an argument ("Mutations.addCertificate.appId") or a
// field of an input ("CreateAddOnInput.options").
func Load(text string, without ...string) (*Schema, error) {
	types, err := gqlparser.LoadSchema(&ast.Source{Name: "schema.graphql", Input: text})
	if err != nil {
		return nil, fmt.Errorf("load the GraphQL schema: %w", err)
	}
	s := &Schema{types: types}
	for _, path := range without {
		if err := s.remove(path); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Schema) remove(path string) error {
	parts := strings.Split(path, ".")
	def := s.types.Types[parts[0]]
	if def == nil || len(parts) < 2 || len(parts) > 3 {
		return fmt.Errorf("remove %q from the GraphQL schema: want Type.field or Type.field.argument, of a type that is there", path)
	}
	i := slices.IndexFunc(def.Fields, func(f *ast.FieldDefinition) bool { return f.Name == parts[1] })
	if i < 0 {
		return fmt.Errorf("remove %q from the GraphQL schema: %s has no such field", path, parts[0])
	}
	if len(parts) == 2 {
		def.Fields = slices.Delete(def.Fields, i, i+1)
		return nil
	}
	field := def.Fields[i]
	a := slices.IndexFunc(field.Arguments, func(a *ast.ArgumentDefinition) bool { return a.Name == parts[2] })
	if a < 0 {
		return fmt.Errorf("remove %q from the GraphQL schema: %s.%s has no such argument", path, parts[0], parts[1])
	}
	field.Arguments = slices.Delete(field.Arguments, a, a+1)
	return nil
}

// Roots are the names of the types that queries and mutations start at.
func (s *Schema) Roots() (query, mutation string) {
	return s.types.Query.Name, s.types.Mutation.Name
}
