package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
)

// operation is a query or mutation of GraphQL. Its text never changes: what
// differs goes in variables.
type operation struct {
	action string // which is its name, too
	ident  string
	text   string
	vars   map[string]any
	repeat bool
	hide   []string
}

// complaint is one of the errors in an answer of GraphQL.
type complaint struct {
	Message    string `json:"message"`
	Path       []any  `json:"path"`
	Extensions struct {
		Code string `json:"code"`
	} `json:"extensions"`
}

// graph asks for T; every complaint is an error.
func graph[T any](ctx context.Context, c *Client, op operation) (T, error) {
	r := op.request()
	r.fails = func(body []byte, hide hider) error {
		complaints, err := complaintsOf(body)
		if err != nil || len(complaints) == 0 {
			return err
		}
		return graphError(complaints, op.repeat, hide)
	}
	reply, err := send[data[T]](ctx, c, r)
	return reply.Data, err
}

func (op operation) request() request {
	return request{
		service: graphQL, action: op.action, ident: op.ident, method: http.MethodPost, path: "/graphql",
		body: struct {
			Query     string         `json:"query"`
			Variables map[string]any `json:"variables,omitempty"`
		}{op.text, op.vars},
		repeat: op.repeat, hide: op.hide, holds: "data",
	}
}

func complaintsOf(body []byte) ([]complaint, error) {
	var reply struct {
		Errors []complaint `json:"errors"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return nil, errors.New("the answer is not one of GraphQL")
	}
	return reply.Errors, nil
}

// graphError is what complaints mean. The first that can be told is told: what
// follows follows from it, mostly.
func graphError(complaints []complaint, repeat bool, hide hider) *Error {
	e := &Error{Kind: Invalid}
	var texts []string
	for _, c := range complaints {
		texts = append(texts, hide(c.Message))
	}
	for _, c := range complaints {
		kind, field := graphKind(c)
		if kind != "" {
			e.Kind, e.Field, e.Code = kind, field, clean(hide(c.Extensions.Code))
			break
		}
	}
	e.Text = clean(strings.Join(texts, "; "))
	if e.Kind == Unavailable && !repeat {
		e.Kind = Ambiguous
	}
	return e
}

// Complaints of GraphQL about the query itself: the schema is not the one that
// the query was written for.
var drifts = []*regexp.Regexp{
	regexp.MustCompile(`Field '([^']+)' doesn't exist on type`),
	regexp.MustCompile(`Cannot query field "([^"]+)" on type`),
	regexp.MustCompile(`doesn't accept argument '([^']+)'`),
	regexp.MustCompile(`Argument '([^']+)' (?:on|doesn't)`),
	regexp.MustCompile(`Unknown argument "([^"]+)"`),
	regexp.MustCompile(`Unknown type "([^"]+)"`),
	regexp.MustCompile(`([A-Za-z]+) isn't a defined input type`),
	regexp.MustCompile(`No such type ([A-Za-z]+)`),
	regexp.MustCompile(`for ([A-Za-z.]+) \(Field is not defined on`),
	regexp.MustCompile(`Field "([^"]+)" is not defined by type`),
	regexp.MustCompile(`Field '([^']+)' is missing required arguments`),
	regexp.MustCompile(`Field "([^"]+)" argument "[^"]+" of type "[^"]+" is required`),
	regexp.MustCompile(`Field "([^"]+)" must (?:not )?have a selection`),
	regexp.MustCompile(`Field must have selections \(field '([^']+)'`),
}

// words are the codes beside complaints.
var words = map[string]Kind{
	"NOT_FOUND":       NotFound,
	"UNAUTHORIZED":    Denied,
	"FORBIDDEN":       Denied,
	"UNAUTHENTICATED": Unauthenticated,
	"THROTTLED":       Throttled,
	"SERVER_ERROR":    Unavailable,

	"undefinedField":                 SchemaDrift,
	"undefinedType":                  SchemaDrift,
	"argumentNotAccepted":            SchemaDrift,
	"missingRequiredArguments":       SchemaDrift,
	"selectionMismatch":              SchemaDrift,
	"GRAPHQL_VALIDATION_FAILED":      SchemaDrift,
	"GRAPHQL_PARSE_FAILED":           SchemaDrift,
	"argumentLiteralsIncompatible":   SchemaDrift,
	"variableMismatch":               SchemaDrift,
	"variableRequiresValidType":      SchemaDrift,
	"missingRequiredInputObjectAttr": SchemaDrift,
}

// graphMeanings are texts of GraphQL beside those of the Machines API.
var graphMeanings = []meaning{
	{"could not find", NotFound},
	{"not found", NotFound},
	{"must be authenticated", Unauthenticated},
	{"token validation error", Unauthenticated},
	{"not authorized", Denied},
	{"unauthorized", Denied},
	{"not allowed", Denied},
	{"name is already in use", Taken},
	{"is taken", Taken},
	{"internal server error", Unavailable},
	{"timed out", Unavailable},
	{"timeout", Unavailable},
	{"try again", Unavailable},
}

// graphKind is what one complaint means; empty: it does not tell.
func graphKind(c complaint) (Kind, string) {
	for _, pattern := range drifts {
		if m := pattern.FindStringSubmatch(c.Message); m != nil {
			return SchemaDrift, m[1]
		}
	}
	if kind, ok := words[c.Extensions.Code]; ok {
		return kind, ""
	}
	text := strings.ToLower(quoted.ReplaceAllString(c.Message, ""))
	for _, list := range [][]meaning{meanings, graphMeanings, money} {
		for _, m := range list {
			if strings.Contains(text, m.text) {
				return m.kind, ""
			}
		}
	}
	return "", ""
}
