package flyemulator

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func newClient(e *Emulator) *http.Client { return &http.Client{Transport: e.Transport()} }

func TestGraphQLSecretsAreThoseOfTheMachinesAPI(t *testing.T) {
	in(t, Options{}, func(w *world) {
		set := `mutation($i:SetSecretsInput!){setSecrets(input:$i){app{secrets{name digest}} release{id}}}`
		secrets := func(more ...string) map[string]any {
			all := []map[string]any{}
			for i := 0; i < len(more); i += 2 {
				all = append(all, map[string]any{"key": more[i], "value": more[i+1]})
			}
			return map[string]any{"appId": "web", "secrets": all}
		}
		v := w.graphOK(set, "i", secrets("A", "1", "B", "2"))
		rest := w.want(200, "GET", "/v1/apps/web/secrets", "")
		w.says(rest, "secrets.0.digest", v.at("data.setSecrets.app.secrets.0.digest"))
		w.says(rest, "secrets.1.name", "B")
		w.want(200, "POST", "/v1/apps/web/secrets", `{"values":{"C":"3"}}`)
		w.says(w.graphOK(`{app(name:"web"){secrets{name digest createdAt}}}`), "data.app.secrets.2.name", "C")
		w.graphFails(codeInvalid, "No change detected to secrets", set, "i", secrets("A", "1"))

		// Without the others.
		only := secrets("A", "1")
		only["replaceAll"] = true
		v = w.graphOK(set, "i", only)
		w.says(v, "data.setSecrets.app.secrets.1", nil)
		v = w.graphOK(`mutation{unsetSecrets(input:{appId:"web",keys:["A"]}){app{secrets{name}} release{id}}}`)
		w.says(v, "data.unsetSecrets.app.secrets.0", nil)
		w.graphFails(codeInvalid, "letters, digits and underscores", set, "i", secrets("no-hyphens", "1"))
		w.graphFails(codeNotFound, "Could not find App", `mutation{unsetSecrets(input:{appId:"nobody",keys:["A"]}){app{name}}}`)
	})
}

func TestGraphQLAddresses(t *testing.T) {
	in(t, Options{}, func(w *world) {
		allocate := func(kind string) value {
			w.Helper()
			return w.graphOK(`mutation($i:AllocateIPAddressInput!){allocateIpAddress(input:$i){ipAddress{id address type region} app{sharedIpAddress}}}`,
				"i", map[string]any{"appId": "web", "type": kind})
		}
		v := allocate("v6")
		w.says(v, "data.allocateIpAddress.ipAddress.type", "v6")
		w.says(v, "data.allocateIpAddress.ipAddress.region", "global")
		v6 := v.at("data.allocateIpAddress.ipAddress.address")
		shared := allocate("shared_v4")
		w.says(shared, "data.allocateIpAddress.ipAddress", nil)
		w.says(w.want(200, "GET", "/v1/apps/web/ip_assignments", ""), "ips.0.ip", v6)
		w.graphFails(codeInvalid, "already has a shared", `mutation{allocateIpAddress(input:{appId:"web",type:shared_v4}){app{name}}}`)
		w.graphFails("", "v5", `mutation{allocateIpAddress(input:{appId:"web",type:v5}){app{name}}}`)
	})
}

func TestGraphQLAddressesAreReleased(t *testing.T) {
	in(t, Options{}, func(w *world) {
		release := `mutation($i:ReleaseIPAddressInput!){releaseIpAddress(input:$i){app{ipAddresses{totalCount} sharedIpAddress}}}`
		v := w.graphOK(`mutation{a:allocateIpAddress(input:{appId:"web",type:v6}){ipAddress{id address}} b:allocateIpAddress(input:{appId:"web",type:v4}){ipAddress{id address}}
			c:allocateIpAddress(input:{appId:"web",type:shared_v4}){app{sharedIpAddress}}}`)
		w.says(w.graphOK(release, "i", map[string]any{"appId": "web", "ip": v.at("data.a.ipAddress.address")}), "data.releaseIpAddress.app.ipAddresses.totalCount", 1)
		w.says(w.graphOK(release, "i", map[string]any{"ipAddressId": v.at("data.b.ipAddress.id")}), "data.releaseIpAddress.app.ipAddresses.totalCount", 0)
		w.says(w.graphOK(release, "i", map[string]any{"appId": "web", "ip": v.at("data.c.app.sharedIpAddress")}), "data.releaseIpAddress.app.sharedIpAddress", nil)
		w.graphFails(codeNotFound, "Could not find IPAddress", release, "i", map[string]any{"appId": "web", "ip": "1.2.3.4"})
		w.graphFails(codeNotFound, "Could not find IPAddress", release, "i", map[string]any{"appId": "web"})
	})
}

func TestGraphQLCertificates(t *testing.T) {
	in(t, Options{}, func(w *world) {
		fields := `certificate{hostname clientStatus configured acmeDnsConfigured dnsValidationHostname dnsValidationTarget isApex isWildcard issued{nodes{type expiresAt}} validationErrors{errorCode message}} check{aRecords resolvedAddresses dnsConfigured}`
		v := w.graphOK(`mutation{addCertificate(appId:"web",hostname:"www.example.com"){` + fields + `}}`)
		w.says(v, "data.addCertificate.certificate.clientStatus", "Awaiting configuration")
		w.says(v, "data.addCertificate.certificate.isApex", false)
		w.says(v, "data.addCertificate.certificate.dnsValidationHostname", "_acme-challenge.www.example.com")
		w.graphFails(codeInvalid, "Hostname already exists on app", `mutation{addCertificate(appId:"web",hostname:"www.example.com"){app{name}}}`)
		w.says(w.want(200, "GET", "/v1/apps/web/certificates", ""), "certificates.0.hostname", "www.example.com")

		target := fmt.Sprint(v.at("data.addCertificate.certificate.dnsValidationTarget"))
		w.e.SetDNS("_acme-challenge.www.example.com", &DNS{CNAME: target})
		check := `mutation{checkCertificate(input:{appId:"web",hostname:"www.example.com"}){` + fields + `}}`
		v = w.graphOK(check)
		w.says(v, "data.checkCertificate.certificate.acmeDnsConfigured", true)
		w.says(v, "data.checkCertificate.certificate.clientStatus", "Awaiting certificates")
		pass(11 * time.Second)
		v = w.graphOK(check)
		w.says(v, "data.checkCertificate.certificate.clientStatus", "Ready")
		w.says(v, "data.checkCertificate.certificate.issued.nodes.1.type", "ecdsa")
		w.says(w.graphOK(`{app(name:"web"){certificates(filter:"www"){nodes{hostname}} certificate(hostname:"www.example.com"){configured}}}`), "data.app.certificates.nodes.0.hostname", "www.example.com")
		w.says(w.graphOK(`mutation{deleteCertificate(appId:"web",hostname:"www.example.com"){app{name} certificate{hostname}}}`), "data.deleteCertificate.certificate.hostname", "www.example.com")
		for _, q := range []string{
			`mutation{deleteCertificate(appId:"web",hostname:"www.example.com"){app{name}}}`,
			check, `{app(name:"web"){certificate(hostname:"www.example.com"){id}}}`,
		} {
			w.graphFails(codeNotFound, "Could not find Certificate", q)
		}
	})
}

func TestLimitedTokensAreLimited(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.app("api")
		org := w.orgID("acme")
		create := `mutation($i:CreateLimitedAccessTokenInput!){createLimitedAccessToken(input:$i){limitedAccessToken{id tokenHeader}}}`
		ask := func(profile, expiry string, params any) (id, header string) {
			w.Helper()
			in := map[string]any{"name": "t", "organizationId": org, "profile": profile, "expiry": expiry, "profileParams": params}
			v := w.graphOK(create, "i", in)
			id, _ = v.at("data.createLimitedAccessToken.limitedAccessToken.id").(string)
			header, _ = v.at("data.createLimitedAccessToken.limitedAccessToken.tokenHeader").(string)
			if !strings.HasPrefix(header, "FlyV1 fm2_") || !strings.Contains(header, ",fm2_") {
				w.Fatalf("the header is %q", header)
			}
			return id, strings.TrimPrefix(header, "FlyV1 ")
		}
		hour, hourly := ask("deploy_organization", "1h0m0s", map[string]any{})
		_, forApp := ask("deploy", "", map[string]any{"app_id": "web"})
		w.graphFails(codeNotFound, "Could not find App", create, "i", map[string]any{"name": "t", "organizationId": org, "profile": "deploy"})
		w.graphFails(codeInvalid, "Profile", create, "i", map[string]any{"name": "t", "organizationId": org, "profile": "god"})
		w.graphFails(codeInvalid, "Expiry", create, "i", map[string]any{"name": "t", "organizationId": org, "profile": "deploy_organization", "expiry": "soon"})

		w.token = hourly
		w.graphOK(`{apps{nodes{name}}}`)
		w.token = forApp
		w.graphOK(`{app(name:"web"){name}}`)
		w.graphFails(codeNotFound, "Could not find App", `{app(name:"api"){name}}`)
		w.want(http.StatusForbidden, "GET", "/v1/apps/api/secrets", "")
		w.want(200, "GET", "/v1/apps/web/secrets", "")

		w.token = DefaultToken
		v := w.graphOK(`{organization(slug:"acme"){limitedAccessTokens{nodes{id name profile expiresAt revokedAt token tokenHeader}}} app(name:"web"){limitedAccessTokens{totalCount}}}`)
		w.says(v, "data.organization.limitedAccessTokens.nodes.0.id", hour)
		w.says(v, "data.organization.limitedAccessTokens.nodes.0.tokenHeader", nil)
		w.says(v, "data.app.limitedAccessTokens.totalCount", 1)
		if strings.Contains(v.raw, strings.Split(hourly, ",")[0]) {
			w.Error("a list shows a token's value")
		}

		// Its time is the emulator's.
		w.token = hourly
		pass(59 * time.Minute)
		w.graphOK(`{viewer{email}}`)
		w.e.Advance(2 * time.Minute)
		w.want(http.StatusUnauthorized, "POST", "/graphql", `{"query":"{viewer{email}}"}`)

		// A token is taken back by its identity, or by itself.
		w.token = DefaultToken
		id, second := ask("deploy_organization", "720h", nil)
		_, third := ask("deploy_organization", "720h", nil)
		w.graphOK(`mutation($i:DeleteLimitedAccessTokenInput!){deleteLimitedAccessToken(input:$i){token}}`, "i", map[string]any{"id": id})
		w.graphOK(`mutation($i:DeleteLimitedAccessTokenInput!){deleteLimitedAccessToken(input:$i){token}}`, "i", map[string]any{"token": "FlyV1 " + third})
		for _, token := range []string{second, third} {
			w.token = token
			w.want(http.StatusUnauthorized, "GET", "/v1/apps/web/secrets", "")
		}
		w.token = DefaultToken
		w.graphFails(codeNotFound, "Could not find LimitedAccessToken", `mutation{deleteLimitedAccessToken(input:{id:"nothing"}){token}}`)
		w.graphFails(codeNotFound, "Could not find LimitedAccessToken", `mutation{deleteLimitedAccessToken(input:{token:"`+DefaultToken+`"}){token}}`)
	})
}

func TestGraphQLApps(t *testing.T) {
	in(t, Options{Foreign: []string{"theirs"}}, func(w *world) {
		org := w.orgID("acme")
		create := `mutation($i:CreateAppInput!){createApp(input:$i){app{id name status organization{slug} config{definition} regions{code}}}}`
		v := w.graphOK(create, "i", map[string]any{"name": "new", "organizationId": org, "network": "apart"})
		w.says(v, "data.createApp.app.id", "new")
		w.says(v, "data.createApp.app.status", "pending")
		w.says(w.graphOK(`{app(name:"new"){network platformVersion}}`), "data.app.network", "apart")
		w.graphFails(codeInvalid, "Name has already been taken", create, "i", map[string]any{"name": "new", "organizationId": org})
		w.graphFails(codeInvalid, "Name has already been taken", create, "i", map[string]any{"name": "theirs", "organizationId": org})
		w.graphFails(codeInvalid, "Name under 63 chars", create, "i", map[string]any{"name": "No!", "organizationId": org})
		if v := w.graphOK(create, "i", map[string]any{"organizationId": org}); v.at("data.createApp.app.name") == "" {
			w.Error("an app without a name")
		}
		v = w.graphOK(`{apps(role:"postgres_cluster",organizationId:"` + org + `"){totalCount} all:apps(ids:["new"]){nodes{name}} node(id:"new"){...on App{name}}}`)
		w.says(v, "data.apps.totalCount", 0)
		w.says(v, "data.all.nodes.0.name", "new")
		w.says(v, "data.node.name", "new")
		w.graphOK(`mutation{deleteApp(appId:"new"){organization{id}}}`)
		pass(time.Minute)
		w.graphFails(codeNotFound, "Could not find App", `{app(name:"new"){name}}`)
		w.says(w.graphOK(`{canPerformBluegreenDeployment(name:"web")}`), "data.canPerformBluegreenDeployment", true)
		w.graphFails(codeNotFound, "Could not find App", `{canPerformBluegreenDeployment(name:"new")}`)
	})
}

func TestGraphQLMachinesAndVolumes(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.want(201, "POST", "/v1/apps/web/volumes", `{"name":"data","region":"iad","size_gb":2}`)
		volume := fmt.Sprint(v.at("id"))
		v = w.want(200, "POST", "/v1/apps/web/machines", `{"name":"one","region":"iad","config":{"image":"nginx","guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256},"mounts":[{"volume":"`+volume+`","path":"/data"}]}}`)
		id := fmt.Sprint(v.at("id"))
		pass(10 * time.Second)
		v = w.graphOK(`query($m:String!,$v:ID!){machine(machineId:$m){id name app{name organization{slug}}}
			app(name:"web"){status deployed machines(active:true){nodes{id name state region config ips{nodes{family kind ip maskSize}} host{id}}} machine(id:$m){instanceId}
				volumes{nodes{id name sizeGb attachedMachine{id}}}}
			volume:node(id:$v){...on Volume{app{name} state}}}`, "m", id, "v", volume)
		w.says(v, "data.machine.app.name", "web")
		w.says(v, "data.app.status", "deployed")
		w.says(v, "data.app.machines.nodes.0.state", "started")
		w.says(v, "data.app.machines.nodes.0.config.image", "nginx")
		w.says(v, "data.app.machines.nodes.0.ips.nodes.0.kind", "privatenet")
		w.says(v, "data.app.volumes.nodes.0.attachedMachine.id", id)
		w.says(v, "data.volume.app.name", "web")
		w.graphFails(codeNotFound, "Could not find Machine", `{machine(machineId:"nothing"){id}}`)
		w.graphFails(codeNotFound, "Could not find Volume", `{volume(id:"vol_nothing"){id}}`)
	})
}

func TestGraphQLPostgresFlex(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.app("db")
		v := w.graphOK(`{a:latestImageTag(repository:"flyio/postgres-flex") b:latestImageDetails(image:"flyio/postgres-flex:15"){repository tag digest}}`)
		if tag := fmt.Sprint(v.at("data.a")); !strings.HasPrefix(tag, "flyio/postgres-flex:17.2@sha256:") {
			w.Errorf("the image is %s", tag)
		}
		w.graphFails(codeNotFound, "Could not find Image", `{latestImageTag(repository:"nobody/nothing")}`)

		attach := `mutation{attachPostgresCluster(input:{appId:"web",postgresClusterAppId:"db",manualEntry:true}){app{name} postgresClusterApp{name} connectionString environmentVariableName}}`
		v = w.graphOK(attach)
		w.says(v, "data.attachPostgresCluster.environmentVariableName", "DATABASE_URL")
		w.says(v, "data.attachPostgresCluster.connectionString", "postgres://web@db.flycast:5432/web?sslmode=disable")
		w.graphFails(codeInvalid, "already attached", attach)
		v = w.graphOK(`{postgresAttachments(appName:"web",postgresAppName:"db"){nodes{id databaseName databaseUser environmentVariableName}}}`)
		w.says(v, "data.postgresAttachments.nodes.0.databaseUser", "web")
		detach := `mutation($i:ID){detachPostgresCluster(input:{appId:"web",postgresClusterAppId:"db",postgresClusterAttachmentId:$i}){clientMutationId}}`
		w.graphOK(detach, "i", v.at("data.postgresAttachments.nodes.0.id"))
		w.graphFails(codeNotFound, "Could not find PostgresClusterAttachment", detach)

		consul := `mutation($a:ID!){enablePostgresConsul(input:{appId:$a}){consulUrl}}`
		url := w.graphOK(consul, "a", "db").at("data.enablePostgresConsul.consulUrl")
		if !strings.HasPrefix(fmt.Sprint(url), "https://:") {
			w.Errorf("the address is %v", url)
		}
		w.says(w.graphOK(consul, "a", "db"), "data.enablePostgresConsul.consulUrl", url)

		v = w.graphOK(`mutation($o:ID!){issueCertificate(input:{organizationId:$o,principals:["root"],appNames:["db"],publicKey:"ssh-ed25519 AAAA"}){certificate key}}`, "o", w.orgID("acme"))
		w.says(v, "data.issueCertificate.key", nil)
		w.graphFails(codeNotFound, "Could not find App", `mutation($o:ID!){issueCertificate(input:{organizationId:$o,appNames:["nobody"]}){certificate}}`, "o", w.orgID("acme"))
	})
}

func TestGraphQLWireGuard(t *testing.T) {
	in(t, Options{}, func(w *world) {
		org := w.orgID("acme")
		add := `mutation($o:ID!){addWireGuardPeer(input:{organizationId:$o,name:"laptop",pubkey:"key",nats:false}){peerip endpointip pubkey}}`
		v := w.graphOK(add, "o", org)
		ip := fmt.Sprint(v.at("data.addWireGuardPeer.peerip"))
		w.says(v, "data.addWireGuardPeer.endpointip", "iad1.gateway.6pn.dev")
		w.graphFails(codeInvalid, "already been taken", add, "o", org)
		v = w.graphOK(`query($s:String!){organization(slug:$s){wireGuardPeers{nodes{name peerip}} wireGuardPeer(name:"laptop"){pubkey region}}}`, "s", "acme")
		w.says(v, "data.organization.wireGuardPeers.nodes.0.peerip", ip)
		w.says(v, "data.organization.wireGuardPeer.region", "iad")
		v = w.graphOK(`mutation($i:[String!]!){validateWireGuardPeers(input:{peerIps:$i}){invalidPeerIps validPeerIps}}`, "i", []string{ip, "fdaa::1"})
		w.says(v, "data.validateWireGuardPeers.invalidPeerIps.0", "fdaa::1")
		remove := `mutation($o:ID!){removeWireGuardPeer(input:{organizationId:$o,name:"laptop"}){organization{id}}}`
		w.graphOK(remove, "o", org)
		w.graphFails(codeNotFound, "Could not find WireGuardPeer", remove, "o", org)
	})
}

func TestGraphQLMovesApps(t *testing.T) {
	o := Options{Orgs: []Org{{Slug: "acme"}, {Slug: "other"}}, Tokens: []Token{
		{Value: DefaultToken, Kind: OrgToken, Org: "acme"}, {Value: "fm2_other", Kind: OrgToken, Org: "other"},
	}}
	in(t, o, func(w *world) {
		move := `mutation($o:ID!){moveApp(input:{appId:"web",organizationId:$o}){app{id networkId organization{slug}}}}`
		w.token = "fm2_other"
		other := w.orgID("other")
		w.token = DefaultToken
		w.graphFails(codeUnauthorized, "Not authorized", move, "o", other)
		w.token = DefaultToken + ",fm2_other"
		w.says(w.graphOK(move, "o", other), "data.moveApp.app.organization.slug", "other")
		w.token = DefaultToken
		w.graphFails(codeNotFound, "Could not find App", `{app(name:"web"){name}}`)
	})
}

func TestGraphQLAnswersGetLost(t *testing.T) {
	in(t, Options{}, func(w *world) {
		org := w.orgID("acme")
		w.e.Fault(Fault{Action: "graphql", Body: "createAddOn", Drop: DropAfter, Count: 1})
		body := `{"query":"mutation{createAddOn(input:{type:upstash_redis,organizationId:\"` + org + `\",name:\"cache\",primaryRegion:\"iad\"}){addOn{id}}}"}`
		r, err := http.NewRequestWithContext(w.Context(), "POST", "https://api.fly.io/graphql", strings.NewReader(body))
		if err != nil {
			w.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+DefaultToken)
		answer, err := w.client.Do(r)
		if err == nil {
			answer.Body.Close()
			w.Fatal("the answer came")
		}
		// It was made all the same: whoever asks again is told so.
		w.graphOK(`{addOn(name:"cache"){id}}`)
		w.graphFails(codeInvalid, "already been taken", createRedis, "i", redis(org, "cache"))
	})
}
