package flyemulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/flyemulator/graphql"
)

func (g *graph) mutations() map[string]any {
	return map[string]any{
		"createApp":                   graphql.With(g.createApp),
		"deleteApp":                   graphql.With(g.deleteApp),
		"moveApp":                     graphql.With(g.moveApp),
		"setSecrets":                  graphql.With(g.setSecrets),
		"unsetSecrets":                graphql.With(g.unsetSecrets),
		"allocateIpAddress":           graphql.With(g.allocateIP),
		"releaseIpAddress":            graphql.With(g.releaseIP),
		"addCertificate":              graphql.With(g.addCertificate),
		"deleteCertificate":           graphql.With(g.deleteCertificate),
		"checkCertificate":            graphql.With(g.checkCertificate),
		"createAddOn":                 graphql.With(g.createAddOn),
		"updateAddOn":                 graphql.With(g.updateAddOn),
		"deleteAddOn":                 graphql.With(g.removeAddOn),
		"resetAddOnPassword":          graphql.With(g.resetAddOnPassword),
		"createExtensionTosAgreement": graphql.With(g.agreeToTos),
		"createLimitedAccessToken":    graphql.With(g.createToken),
		"deleteLimitedAccessToken":    graphql.With(g.deleteToken),
		"createRelease":               graphql.With(g.createRelease),
		"updateRelease":               graphql.With(g.updateRelease),
		"createBuild":                 graphql.With(g.createBuild),
		"finishBuild":                 graphql.With(g.finishBuild),
		"attachPostgresCluster":       graphql.With(g.attachPostgres),
		"detachPostgresCluster":       graphql.With(g.detachPostgres),
		"enablePostgresConsul":        graphql.With(g.enableConsul),
		"issueCertificate":            graphql.With(g.issueSSH),
		"addWireGuardPeer":            graphql.With(g.addPeer),
		"removeWireGuardPeer":         graphql.With(g.removePeer),
		"validateWireGuardPeers":      graphql.With(g.validatePeers),
	}
}

// refusal is one of the Machines API as GraphQL tells it.
func refusal(f *failure) error {
	if f == nil {
		return nil
	}
	code := codeInvalid
	switch f.status {
	case http.StatusNotFound:
		code = codeNotFound
	case http.StatusForbidden:
		code = codeUnauthorized
	}
	return graphql.Fail(code, "%s", f.text)
}

// asked is what an inner request was answered.
func asked(rep reply) error {
	if rep.status < http.StatusBadRequest {
		return nil
	}
	raw, _ := rep.bytes()
	var body errorBody
	if json.Unmarshal(raw, &body) != nil || body.Error == "" {
		body.Error = http.StatusText(rep.status)
	}
	return refusal(&failure{status: rep.status, text: body.Error})
}

func (g *graph) createApp(in struct {
	Input struct{ Name, OrganizationID, Network, AppRoleID string }
},
) (any, error) {
	o, err := g.orgByID(in.Input.OrganizationID)
	if err != nil {
		return nil, err
	}
	name := in.Input.Name
	if name == "" {
		name = g.e.newID("quiet-meadow", 10)
	}
	a, f := g.e.newApp(o, appRequest{Name: name, Network: in.Input.Network, Role: in.Input.AppRoleID})
	if f != nil {
		return nil, refusal(f)
	}
	a.Visible = g.e.now().Add(g.e.o.Times.AppVisible) // the Machines API hears of it later
	return g.payload("CreateAppPayload", "app", g.app(a)), nil
}

func (g *graph) deleteApp(in struct{ AppID string }) (any, error) {
	a, err := g.findApp(in.AppID)
	if err != nil {
		return nil, err
	}
	o := g.e.state.Orgs[a.Org]
	if err := asked(g.inner(http.MethodDelete, "/v1/apps/"+a.Name+"?force=true", nil)); err != nil {
		return nil, err
	}
	return graphql.Object{Type: "DeleteAppPayload", Fields: map[string]any{"organization": g.org(o)}}, nil
}

// moveApp gives an app to another organization of the same owner. Its name
// stays.
func (g *graph) moveApp(in struct {
	Input struct{ AppID, OrganizationID string }
},
) (any, error) {
	a, err := g.findApp(in.Input.AppID)
	if err != nil {
		return nil, err
	}
	if _, f := g.orgFor(a.Org, true); f != nil {
		return nil, notAuthorized("organization")
	}
	o, err := g.orgByID(in.Input.OrganizationID)
	if err != nil {
		return nil, err
	}
	a.Org = o.Slug
	return g.ofApp("MoveAppPayload", a, nil), nil
}

// ofApp is the answer of a mutation of an app, with more fields.
func (g *graph) ofApp(kind string, a *app, more map[string]any) graphql.Object {
	g.e.remember(a.Name)
	out := g.payload(kind, "app", g.app(a))
	maps.Copy(out.Fields, more)
	return out
}

func (g *graph) setSecrets(in struct {
	Input struct {
		AppID      string
		ReplaceAll bool
		Secrets    []struct{ Key, Value string }
	}
},
) (any, error) {
	a, err := g.findApp(in.Input.AppID)
	if err != nil {
		return nil, err
	}
	values := map[string]*string{}
	for _, s := range in.Input.Secrets {
		values[s.Key] = &s.Value
	}
	same := len(values) == len(a.Secrets.Values) || !in.Input.ReplaceAll
	for name, v := range values {
		was, ok := a.Secrets.Values[name]
		same = same && ok && was.Value == *v
	}
	if same {
		return nil, graphql.Fail(codeInvalid, "No change detected to secrets. Skipping release.")
	}
	if f := g.e.writeSecrets(a, values, in.Input.ReplaceAll); f != nil {
		return nil, refusal(f)
	}
	return g.ofApp("SetSecretsPayload", a, map[string]any{"release": nil}), nil
}

func (g *graph) unsetSecrets(in struct {
	Input struct {
		AppID string
		Keys  []string
	}
},
) (any, error) {
	a, err := g.findApp(in.Input.AppID)
	if err != nil {
		return nil, err
	}
	values := map[string]*string{}
	for _, k := range in.Input.Keys {
		values[k] = nil
	}
	if f := g.e.writeSecrets(a, values, false); f != nil {
		return nil, refusal(f)
	}
	return g.ofApp("UnsetSecretsPayload", a, map[string]any{"release": nil}), nil
}

func (g *graph) allocateIP(in struct {
	Input struct{ AppID, Type, Region, Network, OrganizationID, ServiceName string }
},
) (any, error) {
	a, err := g.findApp(in.Input.AppID)
	if err != nil {
		return nil, err
	}
	r := ipRequest{Type: in.Input.Type, Region: in.Input.Region, Network: in.Input.Network, Service: in.Input.ServiceName}
	if in.Input.OrganizationID != "" {
		o, err := g.orgByID(in.Input.OrganizationID)
		if err != nil {
			return nil, err
		}
		r.OrgSlug = o.Slug
	}
	one, f := g.e.assignIP(a, r)
	if f != nil {
		return nil, refusal(f)
	}
	var shown any // a shared one is not of the app
	if one.Type != "shared_v4" {
		shown = g.ip(a, one)
	}
	return g.ofApp("AllocateIPAddressPayload", a, map[string]any{"ipAddress": shown}), nil
}

func (g *graph) releaseIP(in struct {
	Input struct{ AppID, IP, IPAddressID string }
},
) (any, error) {
	address := in.Input.IP
	if address == "" {
		address = in.Input.IPAddressID
	}
	for _, a := range g.reachable() {
		if in.Input.AppID != "" && a.Name != in.Input.AppID || address == "" {
			continue
		}
		if _, err := g.findApp(a.Name); err != nil {
			return nil, err
		}
		if a.releaseIP(address) {
			return g.ofApp("ReleaseIPAddressPayload", a, nil), nil
		}
	}
	return nil, couldNotFind("IPAddress")
}

func (g *graph) addCertificate(in struct{ AppID, Hostname string }) (any, error) {
	a, err := g.findApp(in.AppID)
	if err != nil {
		return nil, err
	}
	cert, f := g.e.requestCertificate(a, in.Hostname)
	if f != nil {
		f.text = strings.TrimPrefix(f.text, "Validation failed: ")
		return nil, refusal(f)
	}
	return g.certificatePayload("AddCertificatePayload", a, cert), nil
}

func (g *graph) certificatePayload(kind string, a *app, cert *certificate) graphql.Object {
	out := g.ofApp(kind, a, map[string]any{"certificate": g.certificate(a, cert), "check": g.check(a, cert), "errors": nil})
	return out
}

func (g *graph) deleteCertificate(in struct{ AppID, Hostname string }) (any, error) {
	a, err := g.findApp(in.AppID)
	if err != nil {
		return nil, err
	}
	cert := a.Certificates[dnsName(in.Hostname)]
	if cert == nil {
		return nil, couldNotFind("Certificate")
	}
	shown := g.certificate(a, cert)
	delete(a.Certificates, cert.Host)
	return g.ofApp("DeleteCertificatePayload", a, map[string]any{"certificate": shown, "errors": nil}), nil
}

func (g *graph) checkCertificate(in struct {
	Input struct{ AppID, Hostname string }
},
) (any, error) {
	a, err := g.findApp(in.Input.AppID)
	if err != nil {
		return nil, err
	}
	cert := a.Certificates[dnsName(in.Input.Hostname)]
	if cert == nil {
		return nil, couldNotFind("Certificate")
	}
	g.e.look(a, cert)
	return g.certificatePayload("CheckCertificatePayload", a, cert), nil
}

// tokenLasts is how long a limited token is good if nobody says how long.
const tokenLasts = 175200 * time.Hour

// profileOrganization is that of a token that deploys whatever an organization has.
const profileOrganization = "deploy_organization"

// createToken makes a token that may less than the one that asks. Its value is
// a list of two macaroons: the right, and what proves that it may be used.
func (g *graph) createToken(in struct {
	Input struct {
		Name, OrganizationID, Profile, Expiry string
		ProfileParams                         json.RawMessage
	}
},
) (any, error) {
	r := in.Input
	o, err := g.orgByID(r.OrganizationID)
	if err != nil {
		return nil, err
	}
	t := &Token{ID: g.e.newID("limited", 22), Name: r.Name, Org: o.Slug, Profile: r.Profile, Value: g.e.newMacaroon(givesRight)}
	lasts := tokenLasts
	if r.Expiry != "" {
		if lasts, err = time.ParseDuration(r.Expiry); err != nil || lasts <= 0 {
			return nil, unprocessable(fmt.Errorf("Validation failed: Expiry %q is no duration", r.Expiry)) //nolint:staticcheck // Fly's words
		}
	}
	t.Expires = g.e.now().Add(lasts)
	switch r.Profile {
	case profileOrganization:
		t.Kind = OrgToken
	case "deploy":
		var params struct {
			AppID string `json:"app_id"`
		}
		_ = json.Unmarshal(r.ProfileParams, &params) // without an app there is none to find
		a, err := g.findApp(params.AppID)
		if err != nil {
			return nil, err
		}
		t.Kind, t.App = AppToken, a.Name
	default:
		return nil, unprocessable(fmt.Errorf("Validation failed: Profile %q is not included in the list", r.Profile)) //nolint:staticcheck // Fly's words
	}
	g.e.state.Tokens = append(g.e.state.Tokens, t)
	k := &g.e.state.Console
	if k.Limited == nil {
		k.Limited = map[string]*limited{}
	}
	k.Limited[t.ID] = &limited{Created: g.e.now(), Params: r.ProfileParams}
	header := "FlyV1 " + t.Value + "," + g.e.newMacaroon(provesUser)
	return g.payload("CreateLimitedAccessTokenPayload", "limitedAccessToken", g.limitedToken(t, header)), nil
}

func (g *graph) deleteToken(in struct {
	Input struct{ ID, Token string }
},
) (any, error) {
	value, _, _ := strings.Cut(strings.TrimPrefix(in.Input.Token, "FlyV1 "), ",")
	i := slices.IndexFunc(g.e.state.Tokens, func(t *Token) bool {
		return in.Input.ID != "" && t.ID == in.Input.ID || value != "" && t.Value == value
	})
	if i < 0 || g.e.state.Console.Limited[g.e.state.Tokens[i].ID] == nil {
		return nil, couldNotFind("LimitedAccessToken")
	}
	t := g.e.state.Tokens[i]
	if _, f := g.orgFor(t.Org, true); f != nil {
		return nil, notAuthorized("limitedaccesstoken")
	}
	t.Revoked = true
	g.e.state.Console.Limited[t.ID].Revoked = g.e.now()
	return g.payload("DeleteLimitedAccessTokenPayload", "token", orNil(in.Input.Token)), nil
}

var errFinished = errors.New("release is already finished")
