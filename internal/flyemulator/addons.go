package flyemulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// addOn is an extension: Upstash Redis, Fly Kubernetes.
type addOn struct {
	ID          string
	Type        string
	Name        string
	Org         string // slug
	App         string // that it was made for; empty: for the organization
	Plan        string // id
	Region      string
	ReadRegions []string
	Options     json.RawMessage `json:",omitempty"`
	ProdPack    bool            // kept until somebody says otherwise
	Metadata    json.RawMessage `json:",omitempty"`
	Status      string
	Error       string `json:",omitempty"`
	Password    string
	Created     time.Time
	Updated     time.Time
	Kubeconfig  string `json:",omitempty"`
	Pods        string `json:",omitempty"` // app that the pods of a cluster run in
}

// Statuses of add-ons.
const (
	addOnProvisioning = "provisioning"
	addOnReady        = "ready"
	addOnError        = "error"
)

// Types of add-ons that are emulated.
const (
	addOnRedis      = "upstash_redis"
	addOnKubernetes = "kubernetes"
	addOnTigris     = "tigris"
)

// addOnTime is how long an add-on is provisioned.
const addOnTime = 10 * time.Second

const eventAddOn = "addon.provisioned"

func (e *Emulator) addOnEvents() map[string]func(event) {
	return map[string]func(event){eventAddOn: e.addOnProvisioned}
}

// addOnRequest asks for an add-on.
type addOnRequest struct {
	Type        string
	Org         *Org
	App         string
	Name        string
	Plan        string
	Region      string
	ReadRegions []string
	Options     json.RawMessage
}

// newAddOn begins to make one. It is there at once; what it can be reached at
// comes with it, but it is ready later.
func (e *Emulator) newAddOn(r addOnRequest) (*addOn, error) {
	provider := addOnProviderOf(r.Type)
	if provider == nil {
		return nil, fmt.Errorf("Could not find AddOnProvider") //nolint:staticcheck // Fly's words
	}
	if r.Org.Unpaid {
		return nil, fmt.Errorf("We need your payment information to continue! Add a credit card or buy credit: https://fly.io/dashboard/%s/billing", r.Org.Slug) //nolint:staticcheck // Fly's words
	}
	if provider.tos && !slices.Contains(e.state.Console.Agreed[r.Org.Slug], r.Type) {
		return nil, fmt.Errorf("You must agree to the %s Terms of Service before provisioning", provider.display) //nolint:staticcheck // Fly's words
	}
	if provider.beta && !r.Org.Beta {
		return nil, fmt.Errorf("%s is in beta: your organization may not provision it", provider.display)
	}
	if provider.region && !slices.Contains(provider.regions(), r.Region) {
		return nil, fmt.Errorf("Validation failed: Primary region %q is not available", r.Region) //nolint:staticcheck // Fly's words
	}
	a := &addOn{
		ID: e.newID("addon", 22), Type: r.Type, Name: r.Name, Org: r.Org.Slug, App: r.App, Region: r.Region,
		Status: addOnProvisioning, Created: e.now(), Updated: e.now(),
	}
	if a.Name == "" {
		a.Name = e.newID("silent-river", 8)
	}
	if !addOnName.MatchString(a.Name) {
		return nil, fmt.Errorf("Validation failed: Name is invalid") //nolint:staticcheck // Fly's words
	}
	if e.addOnTaken(a.Type, a.Name) {
		return nil, fmt.Errorf("Validation failed: Name has already been taken") //nolint:staticcheck // Fly's words
	}
	if r.Plan == "" {
		r.Plan = provider.plan
	}
	if err := a.change(&r.Plan, r.ReadRegions, r.Options); err != nil {
		return nil, err
	}
	a.Password = e.newHex("addon password", 32)
	e.state.AddOns[a.ID] = a
	if e.mode(ModeAddOn) != "stuck" {
		e.after(addOnTime, event{Kind: eventAddOn, ID: a.ID, Data: e.mode(ModeAddOn)})
	}
	return a, nil
}

// change gives the add-on a plan, regions to read from and options, where they
// are given.
func (a *addOn) change(plan *string, readRegions []string, options json.RawMessage) error {
	provider := addOnProviderOf(a.Type)
	if plan != nil && *plan != "" {
		p := addOnPlanOf(*plan)
		if p == nil || p.kind != a.Type {
			return fmt.Errorf("Could not find AddOnPlan") //nolint:staticcheck // Fly's words
		}
		a.Plan = p.id
	}
	if readRegions != nil {
		for _, r := range readRegions {
			if r == a.Region || !slices.Contains(provider.regions(), r) {
				return fmt.Errorf("Validation failed: Read region %q is not available", r) //nolint:staticcheck // Fly's words
			}
		}
		a.ReadRegions = slices.Clone(readRegions)
	}
	if given := strings.TrimSpace(string(options)); given != "" && given != "null" {
		var all map[string]any
		if err := json.Unmarshal(options, &all); err != nil {
			return fmt.Errorf("Validation failed: Options must be an object") //nolint:staticcheck // Fly's words
		}
		if on, ok := all["prod_pack"].(bool); ok {
			a.ProdPack = on
		}
		delete(all, "prod_pack")
		a.Options, _ = json.Marshal(all) // it was read as JSON
	}
	return nil
}

// options are what was asked for last, with the production pack, which stays
// whatever the options say.
func (a *addOn) options() map[string]any {
	out := map[string]any{}
	if len(a.Options) > 0 {
		_ = json.Unmarshal(a.Options, &out) // it was read as an object
	}
	if a.ProdPack {
		out["prod_pack"] = true
	}
	return out
}

func (e *Emulator) addOnTaken(kind, name string) bool {
	for _, a := range e.state.AddOns {
		if a.Type == kind && a.Name == name {
			return true
		}
	}
	return false
}

func (e *Emulator) addOnProvisioned(ev event) {
	a := e.state.AddOns[ev.ID]
	if a == nil || a.Status != addOnProvisioning {
		return
	}
	a.Updated = e.now()
	if ev.Data == "error" {
		a.Status, a.Error = addOnError, "provisioning failed"
		return
	}
	if a.Type == addOnKubernetes {
		e.clusterProvisioned(a)
		return
	}
	a.Status = addOnReady
}

// deleteAddOn deletes it at once, with what is in it.
func (e *Emulator) deleteAddOn(a *addOn) {
	delete(e.state.AddOns, a.ID)
	if a.Pods == "" {
		return
	}
	e.removePods(a)
	if e.o.Clusters != nil {
		e.o.Clusters.Delete(a.cluster())
	}
}

// publicURL is how Redis is reached, by the apps of the organization.
func (a *addOn) publicURL() any {
	if a.Type != addOnRedis {
		return nil
	}
	return "redis://default:" + a.Password + "@" + a.hostname() + ":6379"
}

func (a *addOn) hostname() string { return "fly-" + a.Name + ".upstash.io" }

// privateIP is made of the name, so that it stays.
func (a *addOn) privateIP() string {
	n := hash32(a.ID)
	return fmt.Sprintf("fdaa:0:%x:0:1::%x", n>>16, n&0xff)
}

// environment is what an app that uses the add-on needs.
func (a *addOn) environment() map[string]any {
	switch a.Type {
	case addOnRedis:
		return map[string]any{"REDIS_URL": a.publicURL()}
	case addOnTigris:
		return map[string]any{
			"AWS_ACCESS_KEY_ID": "tid_" + a.ID, "AWS_SECRET_ACCESS_KEY": "tsec_" + a.Password,
			"AWS_ENDPOINT_URL_S3": "https://fly.storage.tigris.dev", "AWS_REGION": "auto", "BUCKET_NAME": a.Name,
		}
	}
	return map[string]any{}
}
