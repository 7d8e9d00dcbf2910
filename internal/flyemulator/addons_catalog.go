package flyemulator

import (
	"regexp"
	"slices"
)

var addOnName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$`)

// addOnPlan is what an add-on costs. Prices are in cents a month.
type addOnPlan struct {
	kind, id, name, display, description, size string
	price                                      int
}

// The plans of Upstash Redis, as the documentation lists them. The identity of
// the first stands in flyctl's source; the others are made up.
var addOnPlans = []addOnPlan{
	{addOnRedis, "ekQ85Yjkw155ohQ5ALYq0M", "pay_as_you_go", "Pay-as-you-go", "$0.20 per 100K commands", "100 GB", 0},
	{addOnRedis, "kR0vJ5wN1oX4qB2tY7mZ8c", "fixed_250mb", "Fixed 250MB", "One size, unlimited commands", "250 MB", 1000},
	{addOnRedis, "aP3dV9sG6hL1jK8fQ5xW2e", "fixed_1gb", "Fixed 1GB", "One size, unlimited commands", "1 GB", 2000},
	{addOnRedis, "tB7yM2nC4rD6zE1uI9oS3g", "fixed_5gb", "Fixed 5GB", "One size, unlimited commands", "5 GB", 10000},
	{addOnRedis, "wH5lF8pT0vA3kJ6bN2qR4x", "fixed_10gb", "Fixed 10GB", "One size, unlimited commands", "10 GB", 20000},
	{addOnRedis, "eU9cZ1mX7gY5iO3sL8dW6t", "fixed_50gb", "Fixed 50GB", "One size, unlimited commands", "50 GB", 40000},
}

func addOnPlanOf(id string) *addOnPlan {
	i := slices.IndexFunc(addOnPlans, func(p addOnPlan) bool { return p.id == id })
	if i < 0 {
		return nil
	}
	return &addOnPlans[i]
}

// addOnProvider is who runs add-ons of a type.
type addOnProvider struct {
	name, display, resource string
	async                   bool     // ready some time after it was made
	beta                    bool     // not for every organization
	internal                bool     // of Fly's own
	tos                     bool     // the organization must have agreed
	region                  bool     // one must be chosen
	replicas                bool     // regions to read from can be chosen
	not                     []string // regions without it
	plan                    string   // usual; empty: it has none
}

var addOnProviders = []addOnProvider{
	{
		name: addOnRedis, display: "Upstash Redis", resource: "Redis database", internal: true, region: true, replicas: true,
		not: []string{"jnb"}, plan: "ekQ85Yjkw155ohQ5ALYq0M",
	},
	{name: addOnKubernetes, display: "Fly Kubernetes", resource: "cluster", async: true, beta: true, internal: true, region: true},
	{name: addOnTigris, display: "Tigris", resource: "storage bucket", tos: true},
}

func addOnProviderOf(name string) *addOnProvider {
	i := slices.IndexFunc(addOnProviders, func(p addOnProvider) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return &addOnProviders[i]
}

// regions are the codes of those that have it.
func (p *addOnProvider) regions() []string {
	var out []string
	for _, r := range regions {
		if !slices.Contains(p.not, r.Code) {
			out = append(out, r.Code)
		}
	}
	return out
}
