package flyemulator

import (
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/flyemulator/graphql"
)

// flexAttachment is a note that an app uses a database of postgres-flex. Nothing
// is made by it: flyctl makes the role and the database itself.
type flexAttachment struct {
	ID, App, Postgres, Database, User, Variable string
}

type attachInput struct {
	AppID, PostgresClusterAppID, DatabaseName, DatabaseUser, VariableName string
	ManualEntry                                                           bool
	PostgresClusterAttachmentID                                           string
}

func (g *graph) attached(in attachInput) (a, postgres *app, err error) {
	if a, err = g.findApp(in.AppID); err == nil {
		postgres, err = g.findApp(in.PostgresClusterAppID)
	}
	return a, postgres, err
}

func (g *graph) attachPostgres(in struct{ Input attachInput }) (any, error) {
	r := in.Input
	a, postgres, err := g.attached(r)
	if err != nil {
		return nil, err
	}
	usual := strings.ReplaceAll(strings.ToLower(a.Name), "-", "_")
	one := flexAttachment{
		ID: g.e.newID("attachment", 16), App: a.Name, Postgres: postgres.Name, Database: r.DatabaseName, User: r.DatabaseUser, Variable: r.VariableName,
	}
	for field, value := range map[*string]string{&one.Database: usual, &one.User: usual, &one.Variable: "DATABASE_URL"} {
		if *field == "" {
			*field = value
		}
	}
	k := &g.e.state.Console
	if slices.ContainsFunc(k.Attachments, func(o flexAttachment) bool {
		return o.App == one.App && o.Postgres == one.Postgres && o.Variable == one.Variable
	}) {
		return nil, unprocessable(fmt.Errorf("Postgres cluster %q is already attached to app %q", one.Postgres, one.App)) //nolint:staticcheck // Fly's words
	}
	k.Attachments = append(k.Attachments, one)
	return g.ofApp("AttachPostgresClusterPayload", a, map[string]any{
		"postgresClusterApp": g.app(postgres), "environmentVariableName": one.Variable,
		"connectionString": fmt.Sprintf("postgres://%s@%s.flycast:5432/%s?sslmode=disable", one.User, one.Postgres, one.Database),
	}), nil
}

func (g *graph) detachPostgres(in struct{ Input attachInput }) (any, error) {
	a, postgres, err := g.attached(in.Input)
	if err != nil {
		return nil, err
	}
	k := &g.e.state.Console
	before := len(k.Attachments)
	k.Attachments = slices.DeleteFunc(k.Attachments, func(o flexAttachment) bool {
		id := in.Input.PostgresClusterAttachmentID
		return o.App == a.Name && o.Postgres == postgres.Name && (id == "" || o.ID == id)
	})
	if len(k.Attachments) == before {
		return nil, couldNotFind("PostgresClusterAttachment")
	}
	return g.ofApp("DetachPostgresClusterPayload", a, map[string]any{"postgresClusterApp": g.app(postgres)}), nil
}

// enableConsul gives the same address each time: the cluster's members must
// find each other.
func (g *graph) enableConsul(in struct {
	Input struct{ AppID, Region string }
},
) (any, error) {
	a, err := g.findApp(in.Input.AppID)
	if err != nil {
		return nil, err
	}
	k := &g.e.state.Console
	if k.Consul == nil {
		k.Consul = map[string]string{}
	}
	if k.Consul[a.Name] == "" {
		k.Consul[a.Name] = fmt.Sprintf("https://:%s@consul-%s-9.fly-shared.net/%s-%s/", g.e.newHex("consul", 32), nearest, a.Name, g.e.newID("consul", 10))
	}
	return g.payload("EnablePostgresConsulPayload", "consulUrl", k.Consul[a.Name]), nil
}

func (g *graph) issueSSH(in struct {
	Input struct {
		OrganizationID, PublicKey string
		AppNames                  []string
	}
},
) (any, error) {
	o, err := g.orgByID(in.Input.OrganizationID)
	if err != nil {
		return nil, err
	}
	for _, name := range in.Input.AppNames {
		if a, err := g.findApp(name); err != nil || a.Org != o.Slug {
			return nil, couldNotFind("App")
		}
	}
	var key any
	if in.Input.PublicKey == "" {
		key = g.e.newHex("ssh key", 64)
	}
	return graphql.Object{Type: "IssueCertificatePayload", Fields: map[string]any{
		"clientMutationId": nil, "key": key, "certificate": "ssh-ed25519-cert-v01@openssh.com " + g.e.newHex("ssh certificate", 64),
	}}, nil
}

func (g *graph) addPeer(in struct {
	Input struct{ OrganizationID, Name, Pubkey, Region, Network string }
},
) (any, error) {
	r := in.Input
	o, err := g.orgByID(r.OrganizationID)
	if err != nil {
		return nil, err
	}
	k := &g.e.state.Console
	if slices.ContainsFunc(k.Peers, func(p *peer) bool { return p.Org == o.Slug && p.Name == r.Name }) {
		return nil, unprocessable(fmt.Errorf("Validation failed: Name has already been taken")) //nolint:staticcheck // Fly's words
	}
	if r.Region == "" {
		r.Region = nearest
	}
	n := g.e.next()
	p := &peer{Org: o.Slug, Name: r.Name, Key: r.Pubkey, Region: r.Region, Network: r.Network, IP: fmt.Sprintf("fdaa:%x:0:a7b:%x:0:a:2", hash32(o.ID)&0xffff, n)}
	k.Peers = append(k.Peers, p)
	out := g.payload("AddWireGuardPeerPayload", "peerip", p.IP)
	out.Fields["endpointip"], out.Fields["network"] = r.Region+"1.gateway.6pn.dev", orNil(r.Network)
	out.Fields["pubkey"] = "EmulatedGatewayKey" + strings.Repeat("A", 25) + "="
	return out, nil
}

func (g *graph) removePeer(in struct {
	Input struct{ OrganizationID, Name string }
},
) (any, error) {
	o, err := g.orgByID(in.Input.OrganizationID)
	if err != nil {
		return nil, err
	}
	k := &g.e.state.Console
	before := len(k.Peers)
	k.Peers = slices.DeleteFunc(k.Peers, func(p *peer) bool { return p.Org == o.Slug && p.Name == in.Input.Name })
	if len(k.Peers) == before {
		return nil, couldNotFind("WireGuardPeer")
	}
	return g.payload("RemoveWireGuardPeerPayload", "organization", g.org(o)), nil
}

func (g *graph) validatePeers(in struct{ Input struct{ PeerIps []string } }) (any, error) {
	valid, wrong := []string{}, []string{}
	for _, address := range in.Input.PeerIps {
		if slices.ContainsFunc(g.e.state.Console.Peers, func(p *peer) bool { return p.IP == address }) {
			valid = append(valid, address)
		} else {
			wrong = append(wrong, address)
		}
	}
	out := g.payload("ValidateWireGuardPeersPayload", "validPeerIps", valid)
	out.Fields["invalidPeerIps"] = wrong
	return out, nil
}
