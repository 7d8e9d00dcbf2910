package graphql

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Request is what a client sends.
type Request struct {
	Query         string         `json:"query"`
	OperationName string         `json:"operationName"`
	Variables     map[string]any `json:"variables"`
}

// Response is what it gets. Without data there is no key "data": the request
// was not run.
type Response struct {
	Data   *any    `json:"data,omitempty"`
	Errors []Error `json:"errors,omitempty"`
}

// Error is one entry of the errors of a response.
type Error struct {
	Message    string         `json:"message"`
	Locations  []Location     `json:"locations,omitempty"`
	Path       []any          `json:"path,omitempty"`
	Extensions map[string]any `json:"extensions,omitempty"`
}

// Location is where in the query an error is.
type Location struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Object is a value of a type of the schema. A field's value is a scalar, an
// Object, a slice of these, nil, or a Resolver that gives one of them.
type Object struct {
	Type   string
	Fields map[string]any
}

// Resolver gives the value of a field for the arguments it is asked with.
type Resolver func(args map[string]any) (any, error)

// Failure is an error that a resolver shows to the client.
type Failure struct {
	Message string
	Code    string // extensions.code
}

func (f *Failure) Error() string { return f.Message }

// Fail makes the error of a resolver.
func Fail(code, format string, args ...any) error {
	return &Failure{Message: fmt.Sprintf(format, args...), Code: code}
}

// With is a resolver that takes its arguments as a T, decoded as from JSON.
func With[T any](resolve func(T) (any, error)) Resolver {
	return func(args map[string]any) (any, error) {
		text, err := json.Marshal(args)
		if err != nil {
			return nil, fmt.Errorf("encode the arguments: %w", err)
		}
		var in T
		if err := json.Unmarshal(text, &in); err != nil {
			return nil, fmt.Errorf("decode the arguments: %w", err)
		}
		return resolve(in)
	}
}

// Run validates and answers a request. The roots give the fields of queries
// and of mutations.
func (s *Schema) Run(r Request, query, mutation map[string]any) Response {
	doc, failures := s.parse(r.Query)
	if len(failures) > 0 {
		return Response{Errors: failures}
	}
	op := doc.Operations.ForName(r.OperationName)
	if op == nil {
		text := "An operation name is required"
		if r.OperationName != "" {
			text = fmt.Sprintf("No operation named %q", r.OperationName)
		}
		return Response{Errors: []Error{{Message: text}}}
	}
	vars, failure := s.variables(op, r.Variables)
	if failure != nil {
		return Response{Errors: []Error{*failure}}
	}
	root := Object{Type: s.types.Query.Name, Fields: query}
	if op.Operation == "mutation" {
		root = Object{Type: s.types.Mutation.Name, Fields: mutation}
	}
	e := &execution{schema: s.types, vars: vars}
	data, err := e.object(root, op.SelectionSet, nil)
	var value any = data
	if err != nil {
		value = nil
	}
	return Response{Data: &value, Errors: e.errors}
}

// errNull is what a field that must have a value, but has none, does to the
// object it is in.
var errNull = errors.New("null where a value must be")
