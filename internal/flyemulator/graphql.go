package flyemulator

import (
	_ "embed" // the schema
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"forged.dev/forged/internal/flyemulator/graphql"
)

//go:embed schema.graphql
var schemaText string

// connections are the types that have one.
var connections = []string{
	"AddOn", "AddOnPlan", "App", "AppCertificate", "Certificate", "IPAddress", "Issue", "LimitedAccessToken", "Machine", "MachineIP",
	"Organization", "PostgresClusterAttachment", "Release", "ReleaseUnprocessed", "Volume", "WireGuardPeer",
}

func graphqlSchema() string {
	var b strings.Builder
	b.WriteString(schemaText)
	for _, name := range connections {
		fmt.Fprintf(&b, "\ntype %[1]sConnection {\n  edges: [%[1]sEdge]\n  nodes: [%[1]s]\n  pageInfo: PageInfo!\n  totalCount: Int!\n}\n", name)
		fmt.Fprintf(&b, "\ntype %[1]sEdge {\n  cursor: String!\n  node: %[1]s\n}\n", name)
	}
	return b.String()
}

// RemoveFields takes fields out of the GraphQL schema, as Fly does now and
// then: a query that names one is refused. "App.secrets" is a field,
// "Mutations.addCertificate.appId" an argument, "CreateAddOnInput.options" a
// field of an input. The fields that were removed before come back.
func (e *Emulator) RemoveFields(paths ...string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.removeFields(paths)
}

func (e *Emulator) removeFields(paths []string) error {
	schema, err := graphql.Load(graphqlSchema(), paths...)
	if err != nil {
		return fmt.Errorf("flyemulator: %w", err)
	}
	e.state.Console.Removed, e.state.Console.schema = paths, schema
	return nil
}

func (e *Emulator) schema() *graphql.Schema {
	if e.state.Console.schema == nil {
		if err := e.removeFields(e.state.Console.Removed); err != nil {
			panic(err) // the schema is the emulator's own, and what was removed was checked
		}
	}
	return e.state.Console.schema
}

func (e *Emulator) graphqlRoutes() []route {
	return []route{
		// Many requests at once are Fly's way here: no limit is documented.
		{method: http.MethodPost, pattern: "/graphql", action: "graphql", read: true, rate: rate{1000, 1000}, handler: e.graphql},
		{method: http.MethodPost, pattern: "/_emulator/graphql/removed", scope: scopeControl, handler: func(c *call) reply {
			var paths []string
			if f := c.decode(&paths); f != nil {
				return c.failed(f)
			}
			if err := e.removeFields(paths); err != nil {
				return c.fail(http.StatusBadRequest, "%v", err)
			}
			return c.ok(map[string]any{"removed": paths})
		}},
	}
}

// graph answers one GraphQL request.
type graph struct {
	*call
	e     *Emulator
	write bool
}

func (e *Emulator) graphql(c *call) reply {
	var r graphql.Request
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	g := &graph{call: c, e: e, write: mutates(r)}
	return c.ok(e.schema().Run(r, g.queries(), g.mutations()))
}

// mutates says whether the request is a mutation. What does not parse is none.
func mutates(r graphql.Request) bool {
	doc, err := parser.ParseQuery(&ast.Source{Input: r.Query})
	if err != nil {
		return false
	}
	op := doc.Operations.ForName(r.OperationName)
	return op != nil && op.Operation == ast.Mutation
}

// Codes of errors, as in their extensions.
const (
	codeNotFound     = "NOT_FOUND"
	codeUnauthorized = "UNAUTHORIZED"
	codeInvalid      = "UNPROCESSABLE"
)

func couldNotFind(kind string) error {
	return graphql.Fail(codeNotFound, "Could not find %s", kind)
}

func notAuthorized(what string) error {
	return graphql.Fail(codeUnauthorized, "Not authorized to access this %s", what)
}

func unprocessable(err error) error {
	if err == nil {
		return nil
	}
	return graphql.Fail(codeInvalid, "%s", err.Error())
}

// findApp is the app of a name, if a token of the request reaches it. What
// belongs to others is not found.
func (g *graph) findApp(name string) (*app, error) {
	a := g.e.state.Apps[name]
	if a == nil || !g.reaches(a) {
		return nil, couldNotFind("App")
	}
	if g.write && !slices.ContainsFunc(g.tokens, func(t *Token) bool {
		return t.Kind == OrgToken && t.Org == a.Org || t.Kind == AppToken && t.App == a.Name
	}) {
		return nil, notAuthorized("app")
	}
	return a, nil
}

// findOrg is the organization that fits, if a token reaches the whole of it.
func (g *graph) findOrg(fits func(*Org) bool) (*Org, error) {
	for _, slug := range slices.Sorted(maps.Keys(g.e.state.Orgs)) {
		o := g.e.state.Orgs[slug]
		if !fits(o) || o.Stranger {
			continue
		}
		if _, f := g.orgFor(o.Slug, g.write); f != nil {
			return nil, notAuthorized("organization")
		}
		return o, nil
	}
	return nil, couldNotFind("Organization")
}

func (g *graph) orgByID(id string) (*Org, error) {
	return g.findOrg(func(o *Org) bool { return o.ID == id })
}

// orgs are those that a token reaches the whole of.
func (g *graph) orgs() []*Org {
	var out []*Org
	for _, slug := range slices.Sorted(maps.Keys(g.e.state.Orgs)) {
		if o, f := g.orgFor(slug, false); f == nil {
			out = append(out, o)
		}
	}
	return out
}

// window is what is asked of a connection.
type window struct {
	After, Before string
	First, Last   *int
}

// connection gives nodes in pages. Cursors are opaque to clients.
func connection(kind string, nodes []graphql.Object) graphql.Resolver {
	return graphql.With(func(p window) (any, error) { return paged(kind, nodes, p) })
}

func paged(kind string, nodes []graphql.Object, p window) (any, error) {
	from, to := 0, len(nodes)
	if p.After != "" {
		i, err := place(p.After)
		if err != nil {
			return nil, err
		}
		from = min(i, to)
	}
	if p.Before != "" {
		i, err := place(p.Before)
		if err != nil {
			return nil, err
		}
		to = max(min(to, i-1), from)
	}
	if p.First != nil {
		to = min(to, from+max(*p.First, 0))
	}
	if p.Last != nil {
		from = max(from, to-max(*p.Last, 0))
	}
	var edges []graphql.Object
	for i := from; i < to; i++ {
		edges = append(edges, graphql.Object{Type: kind + "Edge", Fields: map[string]any{"cursor": cursor(i), "node": nodes[i]}})
	}
	info := map[string]any{"hasNextPage": to < len(nodes), "hasPreviousPage": from > 0, "startCursor": nil, "endCursor": nil}
	if from < to {
		info["startCursor"], info["endCursor"] = cursor(from), cursor(to-1)
	}
	return graphql.Object{Type: kind + "Connection", Fields: map[string]any{
		"edges": edges, "nodes": nodes[from:to], "totalCount": len(nodes),
		"pageInfo": graphql.Object{Type: "PageInfo", Fields: info},
	}}, nil
}

func cursor(i int) string { return base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(i + 1))) }

// place is how many nodes there are up to a cursor, with its own.
func place(cursor string) (int, error) {
	raw, err := base64.StdEncoding.DecodeString(cursor)
	if err != nil {
		return 0, graphql.Fail("", "Invalid cursor: %q", cursor)
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil || n < 1 {
		return 0, graphql.Fail("", "Invalid cursor: %q", cursor)
	}
	return n, nil
}

// plain is JSON as a value.
func plain(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil
	}
	return v
}
