package flyemulator

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kinds of tokens.
const (
	OrgToken      = "org"      // everything in one organization
	AppToken      = "app"      // everything in one app
	ReadOnlyToken = "readonly" // reads everything in one organization
)

// Token is a right.
type Token struct {
	ID      string // empty: made up
	Name    string
	Value   string // without "FlyV1 "
	Kind    string
	Org     string
	App     string    // of an AppToken
	User    string    // mail address of who made it; empty: <id>@tokens.fly.io
	Expires time.Time // zero: never
	Revoked bool
	Profile string // as it was asked for
}

// owner is how leases and events name the token.
func (t *Token) owner() string {
	if t.User != "" {
		return t.User
	}
	return t.ID + "@tokens.fly.io"
}

// bearer splits an Authorization header into the tokens it carries.
func bearer(header string) ([]string, bool) {
	scheme, rest, found := strings.Cut(header, " ")
	if !found || scheme != "Bearer" && scheme != "FlyV1" {
		return nil, false
	}
	rest = strings.TrimPrefix(rest, "FlyV1 ")
	return strings.Split(rest, ","), true
}

// authenticate finds the tokens of the request.
func (c *call) authenticate() *failure {
	if c.route.scope == scopeNone || c.all {
		return nil
	}
	values, ok := bearer(c.r.Header.Get("Authorization"))
	if !ok {
		return refuse(http.StatusUnauthorized, "malformed authorization header")
	}
	c.tokens = c.e.tokensOf(values)
	if len(c.tokens) == 0 {
		return refuse(http.StatusUnauthorized, "Authenticate: token validation error")
	}
	return nil
}

// tokensOf are those of the values that are valid now.
func (e *Emulator) tokensOf(values []string) []*Token {
	var out []*Token
	for _, t := range e.state.Tokens {
		if t.Revoked || !t.Expires.IsZero() && !t.Expires.After(e.now()) {
			continue
		}
		if slices.Contains(values, t.Value) {
			out = append(out, t)
		}
	}
	return out
}

var errUnauthorized = failure{status: http.StatusForbidden, text: "unauthorized"}

// authorize looks the app or the organization of the path up, and whether a
// token reaches it.
func (c *call) authorize() *failure {
	switch c.route.scope {
	case scopeApp:
		return c.authorizeApp()
	case scopeOrg:
		org, f := c.orgOf(c.values["org"])
		c.org = org
		return f
	}
	if c.route.scope == scopeToken && !c.route.read && !c.mayWrite() {
		f := errUnauthorized
		return &f
	}
	return nil
}

// missingApp is how long Fly thinks about an app that does not exist.
const missingApp = 3 * time.Second

func (c *call) authorizeApp() *failure {
	name := c.values["app"]
	a := c.e.state.Apps[name]
	if a == nil {
		c.e.await(c, c.e.now().Add(missingApp), func() bool { return false })
		return refuse(http.StatusNotFound, "app not found")
	}
	if !c.reaches(a) {
		f := errUnauthorized
		return &f
	}
	if !c.all && c.e.now().Before(a.Visible) {
		return refuse(http.StatusNotFound, "app not found")
	}
	c.app, c.org = a, c.e.state.Orgs[a.Org]
	if c.route.read && !c.all {
		if c.app = c.e.replica(c, a); c.app == nil {
			return refuse(http.StatusNotFound, "app not found")
		}
	}
	return nil
}

// reaches says whether a token of the request allows it on an app.
func (c *call) reaches(a *app) bool {
	return c.all || slices.ContainsFunc(c.tokens, func(t *Token) bool {
		switch t.Kind {
		case OrgToken:
			return t.Org == a.Org
		case ReadOnlyToken:
			return t.Org == a.Org && c.route.read
		default:
			return t.App == a.Name
		}
	})
}

// mayWrite says whether a token of the request is for more than reading.
func (c *call) mayWrite() bool {
	return c.all || slices.ContainsFunc(c.tokens, func(t *Token) bool { return t.Kind != ReadOnlyToken })
}

// orgOf is the organization of a slug, if a token of the request reaches the
// whole of it: to write, unless the route only reads.
func (c *call) orgOf(slug string) (*Org, *failure) { return c.orgFor(slug, !c.route.read) }

func (c *call) orgFor(slug string, write bool) (*Org, *failure) {
	o := c.e.org(slug)
	if o != nil && c.all {
		return o, nil
	}
	if o == nil || !slices.ContainsFunc(c.tokens, func(t *Token) bool {
		return t.Org == o.Slug && (t.Kind == OrgToken || t.Kind == ReadOnlyToken && !write)
	}) {
		f := errUnauthorized
		return nil, &f
	}
	return o, nil
}

// owner is how leases and events name who asks.
func (c *call) owner() string {
	if len(c.tokens) == 0 {
		return "emulator@tokens.fly.io"
	}
	return c.tokens[0].owner()
}
