package flyemulator

import (
	"testing"
	"time"
)

// TestGraphQLKnowsWhatFlyctlAsks has the queries of flyctl's source that no
// command of TestFlyctl sends.
func TestGraphQLKnowsWhatFlyctlAsks(t *testing.T) {
	const (
		orgData = ` fragment OrganizationData on Organization { id slug rawSlug paidPlan addOnSsoLink provisionsBetaExtensions }`
		appData = ` fragment AppData on App { id name deployed platformVersion organization { ...OrganizationData } }`
		addOn   = ` fragment AddOnData on AddOn { id name primaryRegion status errorMessage }`
	)
	in(t, Options{}, func(w *world) {
		org := w.orgID("acme")
		w.want(200, "POST", "/v1/apps/web/machines", `{"region":"iad","config":{"image":"nginx"}}`)
		pass(10 * time.Second)
		for name, c := range map[string]struct {
			query string
			vars  []any
		}{
			"an app": {`query ($appName: String!) { app(name: $appName) { id internalNumericId name hostname deployed status version appUrl platformVersion
				currentRelease { evaluationId status inProgress version } config { definition } organization { id slug paidPlan }
				services { description protocol internalPort ports { port handlers } } ipAddresses { nodes { id address type createdAt } }
				imageDetails { registry repository tag digest version }
				machines { nodes { id name config state region createdAt app { name } ips { nodes { family kind ip maskSize } } host { id } } }
				postgresAppRole: role { name } limitedAccessTokens { nodes { id name expiresAt } } } }`, []any{"appName", "web"}},
			"the network of an app": {`query ($appName: String!) { app(name: $appName) { network } }`, []any{"appName", "web"}},
			"trouble with hosts":    {`query($appName: String!) { apphostissues:app(name: $appName) { hostIssues { nodes { internalId message createdAt updatedAt } } } }`, []any{"appName", "web"}},
			"the current release": {`query ($appName: String!) { app(name: $appName) { currentRelease: currentReleaseUnprocessed { id version description reason status imageRef stable
				user { id email name } createdAt } } }`, []any{"appName", "web"}},
			"an organization": {`query($slug: String!) { organization(slug: $slug) { id internalNumericId slug name type billable
				limitedAccessTokens { nodes { id name expiresAt user { email } } } } }`, []any{"slug", "acme"}},
			"an organization with its members": {`query($slug: String!) { organizationdetails: organization(slug: $slug) { id slug name type viewerRole internalNumericId remoteBuilderImage
				remoteBuilderApp { name } members { edges { cursor node { id name email } joinedAt role } } } }`, []any{"slug", "acme"}},
			"tokens of an app":              {`query ($appName: String!) { appLimitedAccessTokens: app(name: $appName) { limitedAccessTokens { nodes { id name token expiresAt revokedAt user { email } } } } }`, []any{"appName", "web"}},
			"tokens of an organization":     {`query ($slug: String!) { orgLimitedAccessTokens: organization(slug: $slug) { limitedAccessTokens { nodes { id name expiresAt revokedAt user { email } } } } }`, []any{"slug", "acme"}},
			"who asks":                      {`query { viewer { ... on User { id email enablePaidHobby } ... on Macaroon { email } } }`, nil},
			"peers":                         {`query($slug: String!) { organization(slug: $slug) { wireGuardPeers { nodes { id name pubkey region peerip } } } }`, []any{"slug", "acme"}},
			"the nearest gateway":           {`query { nearestRegion(wireguardGateway: true) { code name gatewayAvailable deprecated } }`, nil},
			"an app with its add-ons":       {`query GetAppWithAddons ($name: String!, $addOnType: AddOnType!) { app(name: $name) { ...AppData addOns(type: $addOnType) { nodes { ...AddOnData } } } }` + appData + orgData + addOn, []any{"name", "web", "addOnType", "tigris"}},
			"apps of a role":                {`query GetAppsByRole ($role: String!, $organizationId: ID!) { apps(role: $role, organizationId: $organizationId) { nodes { ...AppData } } }` + appData + orgData, []any{"role", "postgres_cluster", "organizationId", org}},
			"whether terms are agreed to":   {`query AgreedToProviderTos ($addOnProviderName: String!, $organizationId: ID!) { organization(id: $organizationId) { agreedToProviderTos(providerName: $addOnProviderName) } }`, []any{"addOnProviderName", "tigris", "organizationId", org}},
			"the newest image of Postgres":  {`query($repository: String!, $snapshotId: ID) { latestImageTag(repository: $repository, snapshotId: $snapshotId) }`, []any{"repository", "flyio/postgres-flex", "snapshotId", nil}},
			"what an image of theirs is":    {`query($image: String!, $flyVersion: String) { latestImageDetails(image: $image, flyVersion: $flyVersion) { registry repository tag version digest } }`, []any{"image", "flyio/postgres-flex:17", "flyVersion", ""}},
			"whether a name is free":        {`query ($appName: String!) { appNameAvailable(name: $appName) }`, []any{"appName", "free"}},
			"secrets":                       {`query ($appName: String!) { app(name: $appName) { secrets { name digest createdAt } } }`, []any{"appName", "web"}},
			"a variable nobody declared":    {`query($appName: String!, $limit: Int!) { app(name: $appName) { releases: releasesUnprocessed(first: $limit) { nodes { id } } } }`, []any{"appName", "web", "limit", 1, "status", "x"}},
			"an update of a Redis database": {`mutation UpdateAddOn ($addOnId: ID!, $planId: ID!, $readRegions: [String!]!, $options: JSON!, $metadata: JSON!) { updateAddOn(input: {addOnId: $addOnId, planId: $planId, readRegions: $readRegions, options: $options, metadata: $metadata}) { addOn { id } } }`, []any{"addOnId", w.graphOK(createRedis, "i", redis(org, "cache")).at("data.createAddOn.addOn.id"), "planId", "ekQ85Yjkw155ohQ5ALYq0M", "readRegions", []string{}, "options", map[string]any{"eviction": true}, "metadata", map[string]any{}}},
		} {
			if v := w.graph(c.query, c.vars...); v.at("errors") != nil {
				w.Errorf("%s: %v", name, v.at("errors"))
			}
		}
	})
}
