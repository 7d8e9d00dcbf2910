package api

import (
	"context"
	"time"

	"forged.dev/forged/internal/secret"
)

// Org is an organization as GraphQL tells it.
type Org struct {
	ID       string `json:"id"`
	Slug     string `json:"slug"`
	RawSlug  string `json:"rawSlug"` // what "personal" stands for
	Name     string `json:"name"`
	PaidPlan bool   `json:"paidPlan"`
	Billable bool   `json:"billable"`
	Beta     bool   `json:"provisionsBetaExtensions"` // may make what is in closed beta
}

// Organization is an organization by its slug.
func (c *Client) Organization(ctx context.Context, slug string) (Org, error) {
	reply, err := graph[struct {
		Organization *Org `json:"organization"`
	}](ctx, c, operation{
		action: "organization.get", ident: slug, repeat: true,
		text: `query($slug: String!) { organization(slug: $slug) { id slug rawSlug name paidPlan billable provisionsBetaExtensions } }`,
		vars: map[string]any{"slug": slug},
	})
	if err == nil && reply.Organization == nil {
		err = noOrganization("organization.get", slug)
	}
	if err != nil {
		return Org{}, err
	}
	return *reply.Organization, nil
}

func noOrganization(action, slug string) error {
	return &Error{Kind: NotFound, Action: action, Method: "POST", Path: "/graphql", Status: 200, Text: "Could not find Organization " + slug}
}

// Profiles of limited tokens.
const (
	TokenOfApp = "deploy"              // params: app_id
	TokenOfOrg = "deploy_organization" // may make apps
)

// CreateLimitedToken asks for a token that may do less.
type CreateLimitedToken struct {
	Name    string
	OrgID   string // Org.ID
	Profile string
	Params  map[string]any
	Expiry  time.Duration // zero: Fly's, which is 20 years
}

// LimitedToken is a token that may do less.
type LimitedToken struct {
	ID        string
	Name      string
	ExpiresAt time.Time
	Header    secret.Value // of Authorization, with the scheme; only of one that was just made
}

// CreateLimitedToken makes a token.
func (c *Client) CreateLimitedToken(ctx context.Context, ask CreateLimitedToken) (LimitedToken, error) {
	params := ask.Params
	if params == nil {
		params = map[string]any{}
	}
	input := map[string]any{"name": ask.Name, "organizationId": ask.OrgID, "profile": ask.Profile, "profileParams": params}
	if ask.Expiry > 0 {
		input["expiry"] = ask.Expiry.String()
	}
	reply, err := graph[struct {
		Create struct {
			Token struct {
				ID        string `json:"id"`
				Name      string `json:"name"`
				ExpiresAt Time   `json:"expiresAt"`
				Header    string `json:"tokenHeader"`
			} `json:"limitedAccessToken"`
		} `json:"createLimitedAccessToken"`
	}](ctx, c, operation{
		action: "token.create", ident: ask.OrgID,
		text: `mutation($input: CreateLimitedAccessTokenInput!) { createLimitedAccessToken(input: $input) { limitedAccessToken { id name expiresAt tokenHeader } } }`,
		vars: map[string]any{"input": input},
	})
	t := reply.Create.Token
	return LimitedToken{ID: t.ID, Name: t.Name, ExpiresAt: t.ExpiresAt.Time, Header: secret.New([]byte(t.Header))}, err
}

// LimitedTokens are the tokens of an organization.
func (c *Client) LimitedTokens(ctx context.Context, org string) ([]LimitedToken, error) {
	type node struct {
		ID        string `json:"id"`
		Name      string `json:"name"`
		ExpiresAt Time   `json:"expiresAt"`
	}
	nodes, err := pages("token.list", func(cursor string) ([]node, string, error) {
		reply, err := graph[struct {
			Organization *struct {
				Tokens connection[node] `json:"limitedAccessTokens"`
			} `json:"organization"`
		}](ctx, c, operation{
			action: "token.list", ident: org, repeat: true,
			text: `query($org: String!, $after: String) { organization(slug: $org) { limitedAccessTokens(first: 50, after: $after) {
	nodes { id name expiresAt } pageInfo { hasNextPage endCursor } } } }`,
			vars: map[string]any{"org": org, "after": cursorOf(cursor)},
		})
		if err == nil && reply.Organization == nil {
			err = noOrganization("token.list", org)
		}
		if err != nil {
			return nil, "", err
		}
		return reply.Organization.Tokens.Nodes, reply.Organization.Tokens.next(), nil
	})
	var all []LimitedToken
	for _, n := range nodes {
		all = append(all, LimitedToken{ID: n.ID, Name: n.Name, ExpiresAt: n.ExpiresAt.Time})
	}
	return all, err
}

// DeleteLimitedToken revokes a token. It is content when there is none.
func (c *Client) DeleteLimitedToken(ctx context.Context, id string) error {
	_, err := graph[struct{}](ctx, c, operation{
		action: "token.delete", ident: id, repeat: true,
		text: `mutation($input: DeleteLimitedAccessTokenInput!) { deleteLimitedAccessToken(input: $input) { clientMutationId } }`,
		vars: map[string]any{"input": map[string]any{"id": id}},
	})
	if KindOf(err) == NotFound {
		return nil
	}
	return err
}

// LatestImage is the newest tag of an image of Fly's, e.g. flyio/postgres-flex,
// as a reference.
func (c *Client) LatestImage(ctx context.Context, repository string) (string, error) {
	reply, err := graph[struct {
		Tag string `json:"latestImageTag"`
	}](ctx, c, operation{
		action: "image.latest", ident: repository, repeat: true,
		text: `query($repository: String!) { latestImageTag(repository: $repository) }`,
		vars: map[string]any{"repository": repository},
	})
	return reply.Tag, err
}

// EnablePostgresConsul gives an unmanaged Postgres the address of the Consul
// that it elects its leader in.
func (c *Client) EnablePostgresConsul(ctx context.Context, app, region string) (secret.Value, error) {
	input := map[string]any{"appId": app}
	if region != "" {
		input["region"] = region
	}
	reply, err := graph[struct {
		Enable struct {
			URL string `json:"consulUrl"`
		} `json:"enablePostgresConsul"`
	}](ctx, c, operation{
		action: "postgres.consul", ident: app, repeat: true,
		text: `mutation($input: EnablePostgresConsulInput!) { enablePostgresConsul(input: $input) { consulUrl } }`,
		vars: map[string]any{"input": input},
	})
	return secret.New([]byte(reply.Enable.URL)), err
}
