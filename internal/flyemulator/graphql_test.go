package flyemulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

// graph asks GraphQL; vars are pairs of name and value.
func (w *world) graph(query string, vars ...any) value {
	w.Helper()
	all := map[string]any{}
	for i := 0; i < len(vars); i += 2 {
		all[vars[i].(string)] = vars[i+1]
	}
	body, err := json.Marshal(map[string]any{"query": query, "variables": all})
	if err != nil {
		w.Fatal(err)
	}
	return w.want(http.StatusOK, http.MethodPost, "/graphql", string(body))
}

// graphOK wants an answer without errors.
func (w *world) graphOK(query string, vars ...any) value {
	w.Helper()
	v := w.graph(query, vars...)
	if v.at("errors") != nil {
		w.Fatalf("%s: %s", query, v.raw)
	}
	return v
}

// graphFails wants an error whose text contains text, with a code.
func (w *world) graphFails(code, text, query string, vars ...any) value {
	w.Helper()
	v := w.graph(query, vars...)
	got, _ := v.at("errors.0.message").(string)
	if !strings.Contains(got, text) || text == "" || code != "" && v.at("errors.0.extensions.code") != code {
		w.Fatalf("%s: want %s %q: %s", query, code, text, v.raw)
	}
	return v
}

// orgID is the identity of an organization.
func (w *world) orgID(slug string) string {
	w.Helper()
	id, _ := w.graphOK(`query($s:String!){organization(slug:$s){id}}`, "s", slug).at("data.organization.id").(string)
	return id
}

// everything asks for every field of a type, down to a depth, that needs no
// argument.
func everything(s *ast.Schema, kind string, depth int, above ...string) string {
	def := s.Types[kind]
	var b strings.Builder
	if def.Kind == ast.Interface || def.Kind == ast.Union {
		for _, one := range s.PossibleTypes[kind] {
			fmt.Fprintf(&b, " ... on %s {%s}", one.Name, everything(s, one.Name, depth, above...))
		}
		return b.String()
	}
	b.WriteString(" __typename")
	for _, f := range def.Fields {
		asks := false
		for _, a := range f.Arguments {
			asks = asks || a.Type.NonNull && a.DefaultValue == nil
		}
		if asks || strings.HasPrefix(f.Name, "__") {
			continue
		}
		of := s.Types[f.Type.Name()]
		if of.Kind == ast.Scalar || of.Kind == ast.Enum {
			b.WriteString(" " + f.Name)
			continue
		}
		// A chain that comes back to a type it has been at says nothing new.
		again := false
		for _, a := range above {
			again = again || a == of.Name
		}
		if inner := ""; depth > 0 && !again {
			if inner = everything(s, of.Name, depth-1, append(above, kind)...); inner != "" {
				fmt.Fprintf(&b, " %s {%s}", f.Name, inner)
			}
		}
	}
	return b.String()
}

func TestGraphQLAnswersEveryFieldOfItsSchema(t *testing.T) {
	s, err := gqlparser.LoadSchema(&ast.Source{Input: graphqlSchema()})
	if err != nil {
		t.Fatal(err)
	}
	in(t, Options{}, func(w *world) {
		org := w.orgID("acme")
		w.want(200, "POST", "/v1/apps/web/secrets", `{"values":{"A":"1"}}`)
		w.want(200, "POST", "/v1/apps/web/ip_assignments", `{"type":"v6"}`)
		w.want(200, "POST", "/v1/apps/web/ip_assignments", `{"type":"private_v6"}`)
		w.want(200, "POST", "/v1/apps/web/ip_assignments", `{"type":"shared_v4"}`)
		w.want(201, "POST", "/v1/apps/web/certificates/acme", `{"hostname":"www.example.com"}`)
		w.want(201, "POST", "/v1/apps/web/volumes", `{"name":"data","region":"iad","size_gb":1}`)
		w.want(201, "POST", "/api/v1/releases", `{"app_name":"web","image":"nginx","strategy":"ROLLING","definition":{"app":"web"}}`)
		w.graphOK(`mutation($o:ID!){a:createAddOn(input:{type:upstash_redis,organizationId:$o,name:"r",primaryRegion:"iad"}){addOn{id}}
			b:createAddOn(input:{type:kubernetes,organizationId:$o,name:"k",primaryRegion:"iad"}){addOn{id}}
			c:createLimitedAccessToken(input:{name:"t",organizationId:$o,profile:"deploy",profileParams:{app_id:"web"}}){limitedAccessToken{id}}
			d:addWireGuardPeer(input:{organizationId:$o,name:"p",pubkey:"k"}){peerip}
			e:attachPostgresCluster(input:{appId:"web",postgresClusterAppId:"web"}){connectionString}}`, "o", org)
		pass(time.Minute)
		for field, of := range map[string]string{
			`app(name:"web")`:           "App",
			`apps`:                      "AppConnection",
			`organization(slug:"acme")`: "Organization",
			`organizations`:             "OrganizationConnection",
			`personalOrganization`:      "Organization",
			`addOn(name:"r",provider:"upstash_redis")`:           "AddOn",
			`addOns(type:kubernetes)`:                            "AddOnConnection",
			`addOnPlans(type:upstash_redis)`:                     "AddOnPlanConnection",
			`addOnProvider(name:"upstash_redis")`:                "AddOnProvider",
			`viewer`:                                             "Principal",
			`platform`:                                           "FlyPlatform",
			`nearestRegion`:                                      "Region",
			`postgresAttachments(postgresAppName:"web")`:         "PostgresClusterAttachmentConnection",
			`latestImageDetails(image:"flyio/postgres-flex:16")`: "ImageVersion",
		} {
			v := w.graph("{" + field + " {" + everything(s, of, 4) + "}}")
			if v.at("errors") != nil {
				w.Errorf("%s: %v", field, v.at("errors"))
			}
		}
		v := w.graphOK(`{app(name:"web"){image(ref:"nginx:1.27"){` + everything(s, "Image", 1) + `} certificate(hostname:"www.example.com"){hostname}
			ipAddresses{nodes{id address type region}} sharedIpAddress}}`)
		w.says(v, "data.app.image.registry", "docker-hub-mirror.fly.io")
		w.says(v, "data.app.ipAddresses.nodes.0.type", "v6")
		if v.at("data.app.ipAddresses.nodes.2") != nil || !strings.HasPrefix(fmt.Sprint(v.at("data.app.sharedIpAddress")), "66.241.124.") {
			w.Errorf("a shared address is not among those of the app: %s", v.raw)
		}
	})
}

func TestGraphQLRefusesWhatFlyRefuses(t *testing.T) {
	in(t, Options{Foreign: []string{"theirs"}}, func(w *world) {
		w.graphFails("argumentNotAccepted", "Field 'addCertificate' doesn't accept argument 'appName'", `mutation{addCertificate(appName:"web",hostname:"a.example.com"){app{name}}}`)
		w.graphFails("undefinedField", "Field 'labels' doesn't exist on type 'App'", `{app(name:"web"){labels}}`)
		w.graphFails("", "Field is not defined on CreateAddOnInput", `mutation($i:CreateAddOnInput!){createAddOn(input:$i){addOn{id}}}`, "i", map[string]any{"type": "upstash_redis", "region": "iad"})
		v := w.graphFails(codeNotFound, "Could not find App", `{a:app(name:"web"){name} b:app(name:"nobody"){name}}`)
		w.says(v, "data.a.name", "web")
		w.says(v, "data.b", nil)
		w.graphFails(codeNotFound, "Could not find App", `{app(name:"theirs"){name}}`)
		w.graphFails(codeNotFound, "Could not find Organization", `{organization(slug:"strangers"){id}}`)
		w.says(w.graphOK(`{a:appNameAvailable(name:"theirs") b:appNameAvailable(name:"free")}`), "data.a", false)
		w.token = "nonsense"
		w.want(http.StatusUnauthorized, "POST", "/graphql", `{"query":"{viewer{email}}"}`)
	})
}

func TestGraphQLTokensReachWhatTheyAreFor(t *testing.T) {
	o := Options{
		Orgs: []Org{{Slug: "acme"}, {Slug: "other"}},
		Tokens: []Token{
			{Value: DefaultToken, Kind: OrgToken, Org: "acme"},
			{Value: "fm2_app", Kind: AppToken, Org: "acme", App: "web"},
			{Value: "fm2_read", Kind: ReadOnlyToken, Org: "acme"},
			{Value: "person", Kind: OrgToken, Org: "other", User: "jo@example.com"},
		},
	}
	in(t, o, func(w *world) {
		w.app("api")
		org := w.orgID("acme")
		create := `mutation($o:ID!){createAddOn(input:{type:upstash_redis,organizationId:$o,primaryRegion:"iad"}){addOn{id}}}`

		w.token = "fm2_app"
		w.graphOK(`{app(name:"web"){name secrets{name}}}`)
		w.graphFails(codeNotFound, "Could not find App", `{app(name:"api"){name}}`)
		w.graphFails(codeUnauthorized, "Not authorized", `{apps{nodes{name}}}`)
		w.graphFails(codeUnauthorized, "Not authorized", `{addOns{nodes{name}}}`)
		w.graphFails(codeUnauthorized, "Not authorized", `{app(name:"web"){organization{apps{nodes{name}}}}}`)
		w.graphFails(codeUnauthorized, "Not authorized", create, "o", org)
		w.graphFails(codeUnauthorized, "Not authorized", `mutation{createAddOn(input:{type:upstash_redis,appId:"web",primaryRegion:"iad"}){addOn{id}}}`)
		w.graphOK(`mutation{setSecrets(input:{appId:"web",secrets:[{key:"A",value:"1"}]}){app{name}}}`)

		w.token = "fm2_read"
		w.graphOK(`{apps{nodes{name}}}`)
		w.graphFails(codeUnauthorized, "Not authorized", create, "o", org)
		w.graphFails(codeUnauthorized, "Not authorized", `mutation{setSecrets(input:{appId:"web",secrets:[{key:"A",value:"2"}]}){app{name}}}`)
		w.graphFails(codeUnauthorized, "Not authorized", `mutation{deleteApp(appId:"web"){organization{slug}}}`)

		w.token = "person"
		w.graphFails(codeNotFound, "Could not find App", `{app(name:"web"){name}}`)
		w.graphFails(codeUnauthorized, "Not authorized", create, "o", org)
		v := w.graphOK(`{viewer{__typename ...on User{id email}...on Macaroon{email}} userOnlyToken organizations{nodes{slug}}}`)
		w.says(v, "data.viewer.__typename", "User")
		w.says(v, "data.viewer.email", "jo@example.com")
		w.says(v, "data.userOnlyToken", true)
		w.says(v, "data.organizations.nodes.0.slug", "other")
		if v.at("data.organizations.nodes.1") != nil {
			w.Errorf("an organization of others: %s", v.raw)
		}
		w.token = DefaultToken
		w.says(w.graphOK(`{viewer{__typename}}`), "data.viewer.__typename", "Macaroon")
	})
}

func TestGraphQLFieldsCanBeRemoved(t *testing.T) {
	in(t, Options{}, func(w *world) {
		const query = `{app(name:"web"){name secrets{name digest}}}`
		w.graphOK(query)
		if err := w.e.RemoveFields("Secret.digest", "Mutations.addCertificate.appId"); err != nil {
			w.Fatal(err)
		}
		v := w.graphFails("undefinedField", "Field 'digest' doesn't exist on type 'Secret'", query)
		if strings.Contains(v.raw, `"data"`) {
			w.Errorf("a query that is not valid has data: %s", v.raw)
		}
		w.graphFails("argumentNotAccepted", "doesn't accept argument 'appId'", `mutation{addCertificate(appId:"web",hostname:"a.example.com"){app{name}}}`)
		w.graphOK(`{app(name:"web"){name}}`)
		if err := w.e.RemoveFields("App.nothing"); err == nil {
			w.Error("a field that is not there was removed")
		}
		w.want(http.StatusOK, "POST", "/_emulator/graphql/removed", `[]`)
		w.graphOK(query)
		w.want(http.StatusBadRequest, "POST", "/_emulator/graphql/removed", `["App.nothing"]`)

		// What was removed is kept.
		if err := w.e.RemoveFields("Secret.digest"); err != nil {
			w.Fatal(err)
		}
		var saved strings.Builder
		if err := w.e.Save(&saved); err != nil {
			w.Fatal(err)
		}
		if err := w.e.RemoveFields(); err != nil {
			w.Fatal(err)
		}
		if err := w.e.Load(strings.NewReader(saved.String())); err != nil {
			w.Fatal(err)
		}
		w.graphFails("undefinedField", "'digest'", query)
	})
}

func TestGraphQLPages(t *testing.T) {
	in(t, Options{}, func(w *world) {
		for i := range 60 {
			w.app(fmt.Sprintf("app-%02d", i))
		}
		var names []string
		after := any(nil)
		for {
			v := w.graphOK(`query($a:String){apps(first:25,after:$a){totalCount nodes{name} edges{cursor node{name}} pageInfo{hasNextPage hasPreviousPage endCursor startCursor}}}`, "a", after)
			w.says(v, "data.apps.totalCount", 61)
			for i := 0; v.at(fmt.Sprintf("data.apps.nodes.%d.name", i)) != nil; i++ {
				name := v.at(fmt.Sprintf("data.apps.nodes.%d.name", i))
				w.says(v, fmt.Sprintf("data.apps.edges.%d.node.name", i), name)
				names = append(names, fmt.Sprint(name))
			}
			w.says(v, "data.apps.pageInfo.hasPreviousPage", after != nil)
			after = v.at("data.apps.pageInfo.endCursor")
			if v.at("data.apps.pageInfo.hasNextPage") == false {
				break
			}
		}
		if len(names) != 61 || names[0] != "app-00" || names[60] != "web" {
			w.Errorf("pages gave %d apps: %v", len(names), names)
		}
		v := w.graphOK(`{apps{nodes{name}} last:apps(last:2){nodes{name}} none:apps(first:0){nodes{name} pageInfo{endCursor hasNextPage}}}`)
		if v.at("data.apps.nodes.49.name") == nil || v.at("data.apps.nodes.50") != nil {
			w.Error("a list that is not told how many has not 50")
		}
		w.says(v, "data.last.nodes.1.name", "web")
		w.says(v, "data.none.pageInfo.endCursor", nil)
		w.graphFails("", "Invalid cursor", `{apps(after:"!"){nodes{name}}}`)
	})
}
