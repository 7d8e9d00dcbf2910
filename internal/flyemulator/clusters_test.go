package flyemulator

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const createCluster = `mutation($o:ID!,$n:String!){createAddOn(input:{type:kubernetes,organizationId:$o,name:$n,primaryRegion:"iad"}){addOn{id}}}`

// clusters takes note of what it is asked for.
type clusters struct {
	mu            sync.Mutex
	made, deleted []Cluster
}

func (c *clusters) Make(one Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, one)
}

func (c *clusters) Delete(one Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deleted = append(c.deleted, one)
}

func (c *clusters) asked() (made, deleted []Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.made), slices.Clone(c.deleted)
}

// A cluster is ready when who makes it says so, and not before.
func TestClustersAreMade(t *testing.T) {
	behind := &clusters{}
	in(t, Options{Clusters: behind}, func(w *world) {
		w.graphOK(createCluster, "o", w.orgID("acme"), "n", "good")
		w.graphOK(createCluster, "o", w.orgID("acme"), "n", "bad")
		pass(time.Second)
		if made, _ := behind.asked(); len(made) != 0 {
			w.Errorf("made before their time: %v", made)
		}
		pass(time.Hour)
		made, _ := behind.asked()
		if len(made) != 2 {
			w.Fatalf("made: %v", made)
		}
		w.says(w.graphOK(addOnStatus, "n", "good"), "data.addOn.status", "provisioning")
		good, bad := made[0], made[1]
		if good.Name != "fks-acme-good" || good.Org != "acme" || good.Region != "iad" || w.e.state.Apps[good.App] == nil {
			w.Errorf("%+v", good)
		}
		w.e.ClusterReady(good.ID, ClusterWay{CA: []byte("PEM"), Proxy: "http://127.0.0.1:1"})
		w.e.ClusterFailed(bad.ID, "no room")
		v := w.graphOK(addOnStatus, "n", "good")
		w.says(v, "data.addOn.status", "ready")
		kubeconfig, _ := v.at("data.addOn.metadata.kubeconfig").(string)
		for _, want := range []string{"server: https://fks-acme-good.flycast:6443", "certificate-authority-data: UEVN\n", "proxy-url: http://127.0.0.1:1\n", "kubectl-token"} {
			if !strings.Contains(kubeconfig, want) {
				w.Errorf("the kubeconfig lacks %q: %s", want, kubeconfig)
			}
		}
		v = w.graphOK(addOnStatus, "n", "bad")
		w.says(v, "data.addOn.status", "error")
		w.says(v, "data.addOn.errorMessage", "no room")
		w.says(v, "data.addOn.metadata.kubeconfig", nil)
		if w.e.state.Apps[bad.App] != nil {
			w.Error("the app of a cluster that failed is there")
		}
		if all := w.e.Clusters(); len(all) != 1 || all[0] != good {
			w.Errorf("clusters: %v", all)
		}
		w.graphOK(`mutation{deleteAddOn(input:{name:"good",provider:"kubernetes"}){deletedAddOnName}}`)
		if _, deleted := behind.asked(); len(deleted) != 1 || deleted[0] != good || len(w.e.Clusters()) != 0 {
			w.Errorf("deleted: %v", deleted)
		}
	})
}

// A cluster is opened by tokens for its whole organization that are limited,
// for as long as they last.
func TestTokensOpenClusters(t *testing.T) {
	in(t, Options{Orgs: []Org{{Slug: "acme"}, {Slug: "other"}}, Tokens: []Token{
		{Value: DefaultToken, Kind: OrgToken, Org: "acme"},
		{Value: "reads", Kind: ReadOnlyToken, Org: "acme", Profile: profileOrganization},
	}}, func(w *world) {
		v := w.graphOK(`mutation($o:ID!){createLimitedAccessToken(input:{name:"t",organizationId:$o,profile:"deploy_organization",expiry:"1h"}){limitedAccessToken{tokenHeader}}}`, "o", w.orgID("acme"))
		header, _ := v.at("data.createLimitedAccessToken.limitedAccessToken.tokenHeader").(string)
		token := strings.TrimPrefix(header, "FlyV1 ")
		if owner, ok := w.e.OpensClusters(token, "acme"); !ok || owner == "" {
			w.Errorf("got %q, %v", owner, ok)
		}
		for name, values := range map[string][2]string{
			"another organization": {token, "other"}, "with the scheme": {header, "acme"}, "no token": {"", "acme"},
			"not limited": {DefaultToken, "acme"}, "one that reads": {"reads", "acme"}, "unknown": {"fm2_x", "acme"},
		} {
			if _, ok := w.e.OpensClusters(values[0], values[1]); ok {
				w.Errorf("%s opens it", name)
			}
		}
		pass(time.Hour)
		if _, ok := w.e.OpensClusters(token, "acme"); ok {
			w.Error("one that has expired opens it")
		}
	})
}

// A name of a service leads to its own addresses, whoever else is in the app.
func TestServicesResolve(t *testing.T) {
	in(t, Options{}, func(w *world) {
		address := func(service string) string {
			v := w.want(200, "POST", "/v1/apps/web/ip_assignments", `{"type":"v6","service_name":"`+service+`"}`)
			got, _ := v.at("ip").(string)
			return got
		}
		one, two := address("one"), address("two")
		w.e.SetDNS("www.example.org", &DNS{CNAME: "one.svc.web.fly.dev"})
		for name, want := range map[string][]string{
			"one.svc.web.fly.dev": {one}, "two.svc.web.fly.dev": {two}, "WWW.example.org.": {one}, "three.svc.web.fly.dev": nil,
		} {
			if got := w.e.Resolve(name); !slices.Equal(got, want) {
				w.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		if all := w.e.Resolve("web.fly.dev"); len(all) != 2 {
			w.Errorf("the app: %v", all)
		}
		w.e.SetDNS("web.example.org", &DNS{CNAME: "web.fly.dev"})
		if w.e.CertificateServed("web", "www.example.org") {
			w.Error("a certificate that nobody asked for is served")
		}
		w.want(201, "POST", "/v1/apps/web/certificates/acme", `{"hostname":"www.example.org"}`)
		pass(time.Hour)
		if !w.e.CertificateServed("web", "WWW.example.org.") || w.e.CertificateServed("web", "other.example.org") || w.e.CertificateServed("other", "www.example.org") {
			w.Error("the certificate is not served where it was asked for, or elsewhere")
		}
	})
}
