package flyemulator

import (
	"strings"
	"time"
)

func addOnCommands() []command {
	get := func(f *flyctl, name, kind string) string {
		var v struct {
			AddOn struct {
				ID, Name, Status, PrimaryRegion, PublicURL string
				Metadata                                   any
			}
		}
		f.graph(`query GetAddOn ($name: String, $provider: String) { addOn(name: $name, provider: $provider) { ... AddOnData publicUrl privateIp password status primaryRegion readRegions
			options metadata ssoLink organization { slug paidPlan } addOnProvider { ... ExtensionProviderData } app { ... AppData } addOnPlan { id name displayName description } } }
			fragment AddOnData on AddOn { id name primaryRegion status errorMessage metadata options }
			fragment ExtensionProviderData on AddOnProvider { id name displayName tosUrl asyncProvisioning autoProvision selectName selectRegion selectReplicaRegions detectPlatform
				resourceName nameSuffix beta tosAgreement internal provisioningInstructions excludedRegions { code } }
			fragment AppData on App { id name deployed platformVersion secrets { name } organization { ... OrganizationData } }
			fragment OrganizationData on Organization { id slug rawSlug paidPlan addOnSsoLink provisionsBetaExtensions }`, &v, "name", name, "provider", kind)
		return v.AddOn.Status
	}
	const list = `query ListAddOns ($addOnType: AddOnType) { addOns(type: $addOnType) { nodes { id name addOnPlan { displayName description } privateIp primaryRegion readRegions options
		metadata organization { id slug } } } }`
	has := func(kind string, want bool) func(*flyctl) {
		return func(f *flyctl) {
			f.e.mu.Lock()
			defer f.e.mu.Unlock()
			got := false
			for _, a := range f.e.state.AddOns {
				got = got || a.Type == kind && a.Region == "iad"
			}
			if got != want {
				f.Errorf("there is %s: %t", kind, got)
			}
		}
	}
	return []command{
		{"redis create --org acme --name cache --region iad --no-replicas --disable-eviction", func(f *flyctl) {
			f.orgs()
			f.graph(`query GetAddOnProvider ($name: String!) { addOnProvider(name: $name) { id name excludedRegions { code } } }`, nil, "name", "upstash_redis")
			f.graph(list, nil, "addOnType", "upstash_redis")
			var plans struct {
				AddOnPlans struct {
					Nodes []struct {
						ID, DisplayName, MaxDataSize string
						PricePerMonth                int
					}
				}
			}
			f.graph(`query ListAddOnPlans ($addOnType: AddOnType!) { addOnPlans(type: $addOnType) { nodes { id name displayName description maxDataSize pricePerMonth } } }`, &plans, "addOnType", "upstash_redis")
			if plans.AddOnPlans.Nodes[0].ID != "ekQ85Yjkw155ohQ5ALYq0M" {
				f.Errorf("the plans are %+v", plans)
			}
			f.graph(`mutation CreateAddOn ($input: CreateAddOnInput!) { createAddOn(input: $input) { addOn { name publicUrl ssoLink environment primaryRegion } } }`, nil, "input", map[string]any{
				"clientMutationId": "", "organizationId": f.org, "appId": nil, "planId": plans.AddOnPlans.Nodes[0].ID, "name": "cache", "primaryRegion": "iad", "readRegions": []string{},
				"type": "upstash_redis", "options": map[string]any{"eviction": false},
			})
		}, has(addOnRedis, true)},
		{"redis list", func(f *flyctl) { f.graph(list, nil, "addOnType", "upstash_redis") }, func(*flyctl) {}},
		{"redis status cache", func(f *flyctl) { get(f, "cache", "upstash_redis") }, func(*flyctl) {}},
		{"redis destroy cache --yes", func(f *flyctl) {
			f.graph(`mutation DeleteAddOn ($name: String, $provider: String) { deleteAddOn(input: {name: $name, provider: $provider}) { deletedAddOnName } }`, nil, "name", "cache", "provider", "upstash_redis")
		}, has(addOnRedis, false)},
		{"ext k8s create --org acme --name k --region iad", func(f *flyctl) {
			f.orgs()
			f.graph(`mutation CreateExtension ($input: CreateAddOnInput!) { createAddOn(input: $input) { addOn { name ssoLink environment primaryRegion } } }`, nil,
				"input", map[string]any{"organizationId": f.org, "name": "k", "primaryRegion": "iad", "type": "kubernetes"})
			for range 30 {
				if get(f, "k", "kubernetes") == "ready" {
					break
				}
				f.e.Advance(2 * time.Second)
			}
		}, func(f *flyctl) {
			f.e.mu.Lock()
			defer f.e.mu.Unlock()
			for _, a := range f.e.state.AddOns {
				if a.Type == addOnKubernetes && a.Kubeconfig == "" {
					f.Error("the cluster has no kubeconfig")
				}
			}
		}},
		{"ext k8s list", func(f *flyctl) { f.graph(list, nil, "addOnType", "kubernetes") }, has(addOnKubernetes, true)},
		{"ext k8s destroy k --yes", func(f *flyctl) {
			f.graph(`mutation DeleteAddOn ($name: String, $provider: String) { deleteAddOn(input: {name: $name, provider: $provider}) { deletedAddOnName } }`, nil, "name", "k", "provider", "kubernetes")
		}, has(addOnKubernetes, false)},
	}
}

func postgresCommands() []command {
	const clusters = "/api/v1/organizations/acme/postgres"
	type cluster struct {
		Data struct {
			ID, Name, Status, Plan string
			Disk                   int
			AttachedApps           []struct {
				Name string
				ID   int64
			} `json:"attached_apps"`
		}
		Credentials struct {
			Status        string
			ConnectionURI string `json:"pgbouncer_uri"`
		}
	}
	return []command{
		{"mpg create --org acme --name main --region iad --plan basic --volume-size 10", func(f *flyctl) {
			f.orgs()
			f.send("GET", clusters+"v2/regions", "", &struct {
				Data []struct {
					Code      string
					Available bool
				}
			}{})
			var v struct {
				OK   bool
				Data struct {
					ID     string
					Status *string
				}
			}
			f.send("POST", clusters+"v2", `{"name":"main","region":"iad","org_slug":"acme","plan":"basic","pg_major_version":"17","storage_in_gb":10,"postgis_enabled":false}`, &v)
			for range 60 {
				var c cluster
				if f.send("GET", "/api/v1/postgresv2/"+v.Data.ID, "", &c); c.Data.Status == "ready" {
					if c.Credentials.ConnectionURI == "" {
						f.Error("the cluster is ready without an address")
					}
					return
				}
				f.e.Advance(5 * time.Second)
			}
			f.Error("the cluster is not ready")
		}, func(f *flyctl) {
			f.e.mu.Lock()
			defer f.e.mu.Unlock()
			if cl := f.e.state.Postgres[f.cluster]; cl == nil || cl.Status != clusterReady || cl.DiskGB != 10 {
				f.Errorf("the cluster is %+v", cl)
			}
		}},
		{"mpg list --org acme", func(f *flyctl) {
			f.send("GET", "/v1/postgres?org_slug=acme", "", &struct{ Data []struct{ ID string } }{})
			f.send("GET", clusters, "", &struct{ Data []struct{ ID, Status string } }{})
		}, func(*flyctl) {}},
		{"mpg status {cluster}", func(f *flyctl) { f.send("GET", "/api/v1/postgresv2/"+f.cluster, "", &cluster{}) }, func(*flyctl) {}},
		{"mpg destroy {cluster} --yes", func(f *flyctl) { f.send("DELETE", clusters+"v2/"+f.cluster, "", nil) }, func(f *flyctl) {
			f.e.mu.Lock()
			defer f.e.mu.Unlock()
			for _, cl := range f.e.state.Postgres {
				if cl.Status == clusterReady {
					f.Error("the cluster is still there")
				}
			}
		}},
	}
}

func lastCommands() []command {
	return []command{
		{"tokens create deploy -a shop --expiry 1h", func(f *flyctl) {
			app := f.compact()
			var v struct {
				CreateLimitedAccessToken struct{ LimitedAccessToken struct{ TokenHeader string } }
			}
			f.graph(`mutation CreateLimitedAccessToken ($name: String!, $organizationId: ID!, $profile: String!, $profileParams: JSON, $expiry: String!) {
				createLimitedAccessToken(input: {name: $name, organizationId: $organizationId, profile: $profile, profileParams: $profileParams, expiry: $expiry}) { limitedAccessToken { tokenHeader } } }`, &v,
				"name", "flyctl deploy token", "organizationId", app.Organization.ID, "profile", "deploy", "profileParams", map[string]any{"app_id": app.ID}, "expiry", "1h0m0s")
			if !strings.HasPrefix(v.CreateLimitedAccessToken.LimitedAccessToken.TokenHeader, "FlyV1 fm2_") {
				f.Errorf("the token is %+v", v)
			}
		}, func(f *flyctl) {
			f.e.mu.Lock()
			defer f.e.mu.Unlock()
			if last := f.e.state.Tokens[len(f.e.state.Tokens)-1]; last.App != "shop" || !last.Expires.After(f.e.now()) {
				f.Errorf("the token is %+v", last)
			}
		}},
		{"apps destroy shop --yes", func(f *flyctl) {
			f.compact()
			f.send("DELETE", "/v1/apps/shop?force=true", "", nil)
			f.e.Advance(time.Minute)
		}, func(f *flyctl) {
			for range 60 {
				f.e.mu.Lock()
				gone := f.e.state.Apps["shop"] == nil
				f.e.mu.Unlock()
				if gone {
					return
				}
				f.e.Advance(time.Second)
			}
			f.Error("the app is still there")
		}},
	}
}
