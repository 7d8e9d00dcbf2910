package api

import (
	"context"
	"encoding/json"
	"maps"

	"forged.dev/forged/internal/secret"
)

// Types of add-ons, which are the names of their providers, too.
const (
	AddOnRedis      = "upstash_redis"
	AddOnKubernetes = "kubernetes"
)

// States of an AddOn. There are others on the way.
const (
	AddOnReady = "ready"
	AddOnError = "error"
)

// AddOn is something that another company runs on Fly, or Fly for itself.
type AddOn struct {
	ID            string
	Name          string
	Status        string
	Error         string // why it failed
	PrimaryRegion string
	ReadRegions   []string
	PlanID        string
	Plan          string // name
	Hostname      string
	PrivateIP     string
	Org           string // slug
	Options       map[string]any
	Metadata      map[string]any // without what is secret
	CreatedAt     Time
	UpdatedAt     Time

	PublicURL  secret.Value // with the password; reached from the private network alone
	Password   secret.Value
	Kubeconfig secret.Value // of AddOnKubernetes, once it is ready
}

// kubeconfigKey is where in the metadata of a cluster its way in stands.
const kubeconfigKey = "kubeconfig"

// UnmarshalJSON implements json.Unmarshaler.
func (a *AddOn) UnmarshalJSON(b []byte) error {
	var f struct {
		ID            string          `json:"id"`
		Name          string          `json:"name"`
		Status        string          `json:"status"`
		ErrorMessage  string          `json:"errorMessage"`
		PrimaryRegion string          `json:"primaryRegion"`
		ReadRegions   []string        `json:"readRegions"`
		Hostname      string          `json:"hostname"`
		PrivateIP     string          `json:"privateIp"`
		PublicURL     string          `json:"publicUrl"`
		Password      string          `json:"password"`
		Options       json.RawMessage `json:"options"`
		Metadata      json.RawMessage `json:"metadata"`
		CreatedAt     Time            `json:"createdAt"`
		UpdatedAt     Time            `json:"updatedAt"`
		Plan          *struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"addOnPlan"`
		PlanName     string        `json:"addOnPlanName"`
		Organization *Organization `json:"organization"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*a = AddOn{
		ID: f.ID, Name: f.Name, Status: f.Status, Error: clean(f.ErrorMessage), PrimaryRegion: f.PrimaryRegion,
		ReadRegions: f.ReadRegions, Plan: f.PlanName, Hostname: f.Hostname, PrivateIP: f.PrivateIP,
		Options: object(f.Options), Metadata: object(f.Metadata), CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt,
		PublicURL: secret.New([]byte(f.PublicURL)), Password: secret.New([]byte(f.Password)),
	}
	if f.Plan != nil {
		a.PlanID, a.Plan = f.Plan.ID, or(a.Plan, f.Plan.Name)
	}
	if f.Organization != nil {
		a.Org = f.Organization.Slug
	}
	if kubeconfig, ok := a.Metadata[kubeconfigKey].(string); ok {
		a.Kubeconfig = secret.New([]byte(kubeconfig))
	}
	delete(a.Metadata, kubeconfigKey)
	return nil
}

// object reads an object, which some fields hold as a text of JSON.
func object(b json.RawMessage) map[string]any {
	var m map[string]any
	if json.Unmarshal(b, &m) == nil {
		return m
	}
	var text string
	if json.Unmarshal(b, &text) == nil && json.Unmarshal([]byte(text), &m) == nil {
		return m
	}
	return nil
}

const addOnFields = `id name status errorMessage primaryRegion readRegions hostname privateIp publicUrl password
	options metadata createdAt updatedAt addOnPlanName addOnPlan { id name } organization { name slug }`

// AddOn is an add-on of a provider by its name. Names are unique in an
// organization: look at Org.
func (c *Client) AddOn(ctx context.Context, name, provider string) (AddOn, error) {
	reply, err := graph[struct {
		AddOn *AddOn `json:"addOn"`
	}](ctx, c, operation{
		action: "addon.get", ident: provider + "/" + name, repeat: true,
		text: `query($name: String!, $provider: String!) { addOn(name: $name, provider: $provider) { ` + addOnFields + ` } }`,
		vars: map[string]any{"name": name, "provider": provider},
	})
	if err != nil {
		return AddOn{}, err
	}
	if reply.AddOn == nil {
		return AddOn{}, &Error{Kind: NotFound, Action: "addon.get", Method: "POST", Path: "/graphql", Status: 200, Text: "Could not find AddOn"}
	}
	return *reply.AddOn, nil
}

// AddOns are the add-ons of a type of an organization.
func (c *Client) AddOns(ctx context.Context, org, kind string) ([]AddOn, error) {
	return pages("addon.list", func(cursor string) ([]AddOn, string, error) {
		reply, err := graph[struct {
			Organization *struct {
				AddOns connection[AddOn] `json:"addOns"`
			} `json:"organization"`
		}](ctx, c, operation{
			action: "addon.list", ident: org, repeat: true,
			text: `query($org: String!, $type: AddOnType!, $after: String) { organization(slug: $org) { addOns(type: $type, first: 50, after: $after) {
	nodes { ` + addOnFields + ` } pageInfo { hasNextPage endCursor } } } }`,
			vars: map[string]any{"org": org, "type": kind, "after": cursorOf(cursor)},
		})
		if err == nil && reply.Organization == nil {
			err = noOrganization("addon.list", org)
		}
		if err != nil {
			return nil, "", err
		}
		return reply.Organization.AddOns.Nodes, reply.Organization.AddOns.next(), nil
	})
}

// connection is a page of a list of GraphQL.
type connection[T any] struct {
	Nodes    []T `json:"nodes"`
	PageInfo struct {
		HasNextPage bool   `json:"hasNextPage"`
		EndCursor   string `json:"endCursor"`
	} `json:"pageInfo"`
}

func (c connection[T]) next() string {
	if c.PageInfo.HasNextPage {
		return c.PageInfo.EndCursor
	}
	return ""
}

func cursorOf(cursor string) any {
	if cursor == "" {
		return nil
	}
	return cursor
}

// AddOnPlan is what an add-on can cost.
type AddOnPlan struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	DisplayName   string `json:"displayName"`
	Description   string `json:"description"`
	MaxDataSize   string `json:"maxDataSize"`
	PricePerMonth int    `json:"pricePerMonth"` // cents
}

// AddOnPlans are the plans of a type of add-ons.
func (c *Client) AddOnPlans(ctx context.Context, kind string) ([]AddOnPlan, error) {
	reply, err := graph[struct {
		Plans connection[AddOnPlan] `json:"addOnPlans"`
	}](ctx, c, operation{
		action: "addon.plans", ident: kind, repeat: true,
		text: `query($type: AddOnType!) { addOnPlans(type: $type) { nodes { id name displayName description maxDataSize pricePerMonth } } }`,
		vars: map[string]any{"type": kind},
	})
	return reply.Plans.Nodes, err
}

// CreateAddOn asks for an add-on. Which of it can be changed differs.
type CreateAddOn struct {
	Type          string
	OrgID         string // Org.ID, not the slug
	Name          string
	PlanID        string
	PrimaryRegion string
	ReadRegions   []string
	Options       map[string]any
}

// CreateAddOn makes an add-on, which may take minutes to be ready. After
// Ambiguous look for it by its name before another is made.
func (c *Client) CreateAddOn(ctx context.Context, ask CreateAddOn) (AddOn, error) {
	input := map[string]any{"type": ask.Type, "organizationId": ask.OrgID, "name": ask.Name}
	for key, value := range map[string]string{"planId": ask.PlanID, "primaryRegion": ask.PrimaryRegion} {
		if value != "" {
			input[key] = value
		}
	}
	if len(ask.ReadRegions) > 0 {
		input["readRegions"] = ask.ReadRegions
	}
	if len(ask.Options) > 0 {
		input["options"] = maps.Clone(ask.Options)
	}
	reply, err := graph[struct {
		Create struct {
			AddOn AddOn `json:"addOn"`
		} `json:"createAddOn"`
	}](ctx, c, operation{
		action: "addon.create", ident: ask.OrgID,
		text: `mutation($input: CreateAddOnInput!) { createAddOn(input: $input) { addOn { ` + addOnFields + ` } } }`,
		vars: map[string]any{"input": input},
	})
	return reply.Create.AddOn, err
}

// UpdateAddOn changes an add-on; nil leaves as it is. Options and Metadata
// replace what there is.
type UpdateAddOn struct {
	ID          string
	PlanID      *string
	ReadRegions *[]string
	Options     map[string]any
	Metadata    map[string]any
	ProdPack    *bool // with a plan only; what is left out stays
}

// UpdateAddOn changes an add-on.
func (c *Client) UpdateAddOn(ctx context.Context, ask UpdateAddOn) (AddOn, error) {
	input := map[string]any{"addOnId": ask.ID}
	if ask.PlanID != nil {
		input["planId"] = *ask.PlanID
	}
	if ask.ReadRegions != nil {
		input["readRegions"] = append([]string{}, *ask.ReadRegions...)
	}
	if ask.Options != nil {
		input["options"] = maps.Clone(ask.Options)
	}
	if ask.Metadata != nil {
		input["metadata"] = maps.Clone(ask.Metadata)
	}
	if ask.ProdPack != nil {
		input["prodPack"] = *ask.ProdPack
	}
	reply, err := graph[struct {
		Update struct {
			AddOn AddOn `json:"addOn"`
		} `json:"updateAddOn"`
	}](ctx, c, operation{
		action: "addon.update", ident: ask.ID, repeat: true,
		text: `mutation($input: UpdateAddOnInput!) { updateAddOn(input: $input) { addOn { ` + addOnFields + ` } } }`,
		vars: map[string]any{"input": input},
	})
	return reply.Update.AddOn, err
}

// DeleteAddOn deletes an add-on and what is in it, at once. It is content when
// there is none.
func (c *Client) DeleteAddOn(ctx context.Context, id string) error {
	_, err := graph[struct{}](ctx, c, operation{
		action: "addon.delete", ident: id, repeat: true,
		text: `mutation($input: DeleteAddOnInput!) { deleteAddOn(input: $input) { deletedAddOnName } }`,
		vars: map[string]any{"input": map[string]any{"addOnId": id}},
	})
	if KindOf(err) == NotFound {
		return nil
	}
	return err
}
