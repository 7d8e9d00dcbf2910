package flyemulator

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/flyemulator/graphql"
)

// app is an app as GraphQL shows it. What costs something is looked up when it
// is asked for.
func (g *graph) app(a *app) graphql.Object {
	current := g.currentRelease(a)
	var role any
	if a.Role != "" {
		kind := "EmptyAppRole"
		if a.Role == "postgres_cluster" {
			kind = "PostgresClusterAppRole"
		}
		role = graphql.Object{Type: kind, Fields: map[string]any{"name": a.Role}}
	}
	status, state := g.e.appStatus(a), "DEPLOYED"
	switch status {
	case "pending":
		state = "PENDING"
	case "suspended":
		state = "SUSPENDED"
	}
	definition := map[string]any{}
	version := 0
	if len(a.Releases) > 0 {
		last := a.Releases[len(a.Releases)-1]
		version = last.Version
		if d, ok := plain(last.Definition).(map[string]any); ok {
			definition = d
		}
	}
	return graphql.Object{Type: "App", Fields: map[string]any{
		"id": a.Name, "internalId": a.Name, "internalNumericId": a.Number, "name": a.Name, "createdAt": a.Created,
		"appUrl": "https://" + a.Name + ".fly.dev", "hostname": a.Name + ".fly.dev", "cnameTarget": a.Name + ".fly.dev",
		"network": a.networkName(), "networkId": nil, "status": status, "state": state, "deployed": status == "deployed",
		"version": version, "platformVersion": "machines", "runtime": "FIRECRACKER", "role": role,
		"imageUpgradeAvailable": false, "imageVersionTrackingEnabled": false, "imageDetails": nil, "latestImageDetails": nil,
		"services": []graphql.Object{},
		"config": graphql.Object{Type: "AppConfig", Fields: map[string]any{
			"definition": definition, "errors": []string{}, "services": []graphql.Object{}, "valid": true,
		}},
		"organization":              graphql.Resolver(func(map[string]any) (any, error) { return g.org(g.e.state.Orgs[a.Org]), nil }),
		"regions":                   []graphql.Object{regionObject(nearest)},
		"currentRelease":            g.release(current, "Release"),
		"currentReleaseUnprocessed": g.release(current, "ReleaseUnprocessed"),
		"releases":                  g.releases(a, "Release"),
		"releasesUnprocessed":       g.releases(a, "ReleaseUnprocessed"),
		"hostIssues":                connection("Issue", nil),
		"addOns":                    g.addOns(func(o *addOn) bool { return o.App == a.Name }),
		"limitedAccessTokens":       connection("LimitedAccessToken", g.tokensFor(func(t *Token) bool { return t.App == a.Name })),
		"secrets":                   graphql.Resolver(func(map[string]any) (any, error) { return g.secrets(a), nil }),
		"sharedIpAddress":           a.sharedIP(),
		"ipAddresses":               g.ips(a),
		"ipAddress":                 graphql.With(func(in struct{ Address string }) (any, error) { return g.ipOf(a, in.Address) }),
		"certificates":              g.certificates(a),
		"certificate":               graphql.With(func(in struct{ Hostname string }) (any, error) { return g.certificateOf(a, in.Hostname) }),
		"machines":                  g.machines(a),
		"machine":                   graphql.With(func(in struct{ ID string }) (any, error) { return g.machineOf(a, in.ID) }),
		"volumes":                   g.volumes(a),
		"volume":                    graphql.With(func(in struct{ InternalID string }) (any, error) { return g.volumeOf(a, in.InternalID) }),
		"image":                     graphql.With(func(in struct{ Ref string }) (any, error) { return g.image(in.Ref) }),
	}}
}

func (a *app) networkName() string {
	if a.Network == "" {
		return "default"
	}
	return a.Network
}

// appStatus is what the console says of an app.
func (e *Emulator) appStatus(a *app) string {
	if len(a.Machines) == 0 {
		return "pending"
	}
	return "deployed"
}

func (g *graph) secrets(a *app) []graphql.Object {
	out := []graphql.Object{}
	for _, s := range a.Secrets.view() {
		out = append(out, graphql.Object{Type: "Secret", Fields: map[string]any{
			"id": a.Name + "/" + s.Name, "name": s.Name, "digest": s.Digest, "createdAt": s.Created, "user": nil,
		}})
	}
	return out
}

// machineShown is what GraphQL takes from the Machines API's answer.
type machineShown struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	State      string          `json:"state"`
	Region     string          `json:"region"`
	InstanceID string          `json:"instance_id"`
	PrivateIP  string          `json:"private_ip"`
	Created    time.Time       `json:"created_at"`
	Updated    time.Time       `json:"updated_at"`
	Config     json.RawMessage `json:"config"`
}

func (g *graph) machine(a *app, m machineShown) graphql.Object {
	config := plain(m.Config)
	if config == nil {
		config = map[string]any{}
	}
	address := graphql.Object{Type: "MachineIP", Fields: map[string]any{
		"id": m.ID + "-6pn", "family": "v6", "kind": "privatenet", "ip": m.PrivateIP, "maskSize": 112,
	}}
	return graphql.Object{Type: "Machine", Fields: map[string]any{
		"id": m.ID, "name": m.Name, "state": m.State, "region": m.Region, "instanceId": m.InstanceID, "config": config,
		"createdAt": m.Created, "updatedAt": m.Updated, "host": hostObject(m.ID),
		"ips": connection("MachineIP", []graphql.Object{address}),
		"app": graphql.Resolver(func(map[string]any) (any, error) { return g.app(a), nil }),
	}}
}

func hostObject(of string) graphql.Object {
	return graphql.Object{Type: "Host", Fields: map[string]any{"id": "host-" + of}}
}

// machines are those that the Machines API lists. active leaves out those that
// rest.
func (g *graph) machines(a *app) graphql.Resolver {
	return graphql.With(func(in struct {
		window
		Active bool
	},
	) (any, error) {
		var all []machineShown
		if err := g.call.read("/v1/apps/"+a.Name+"/machines", &all); err != nil {
			return nil, err
		}
		var out []graphql.Object
		for _, m := range all {
			if !in.Active || m.State == "started" {
				out = append(out, g.machine(a, m))
			}
		}
		return paged("Machine", out, in.window)
	})
}

func (g *graph) machineOf(a *app, id string) (any, error) {
	var m machineShown
	if a.Machines[id] == nil || g.call.read("/v1/apps/"+a.Name+"/machines/"+id, &m) != nil {
		return nil, couldNotFind("Machine")
	}
	return g.machine(a, m), nil
}

func (g *graph) volume(a *app, v *volume) graphql.Object {
	return graphql.Object{Type: "Volume", Fields: map[string]any{
		"id": v.ID, "internalId": strings.TrimPrefix(v.ID, "vol_"), "name": v.Name, "region": v.Region, "sizeGb": v.SizeGB,
		"encrypted": v.Encrypted, "state": v.State, "status": v.State, "createdAt": v.Created, "snapshotRetentionDays": nil,
		"host": hostObject(v.ID),
		"app":  graphql.Resolver(func(map[string]any) (any, error) { return g.app(a), nil }),
		"attachedMachine": graphql.Resolver(func(map[string]any) (any, error) {
			if v.Machine == "" {
				return nil, nil
			}
			return g.machineOf(a, v.Machine)
		}),
	}}
}

func (g *graph) volumes(a *app) graphql.Resolver {
	return graphql.With(func(p window) (any, error) {
		var out []graphql.Object
		for _, id := range slices.Sorted(maps.Keys(a.Volumes)) {
			if v := a.Volumes[id]; v.State != "destroyed" {
				out = append(out, g.volume(a, v))
			}
		}
		return paged("Volume", out, p)
	})
}

func (g *graph) volumeOf(a *app, internalID string) (any, error) {
	if v := a.Volumes["vol_"+strings.TrimPrefix(internalID, "vol_")]; v != nil {
		return g.volume(a, v), nil
	}
	return nil, nil
}
