package flyemulator

import (
	"strings"
	"testing"
)

const ipsPath = "/v1/apps/web/ip_assignments"

func TestAddresses(t *testing.T) {
	in(t, Options{}, func(w *world) {
		for _, r := range []struct{ kind, prefix, region string }{
			{"v4", "137.66.", "global"},
			{"v6", "2a09:8280:1::", "global"},
			{"shared_v4", "66.241.124.", "global"},
			{"private_v6", "fdaa:", ""},
		} {
			v := w.want(200, "POST", ipsPath, `{"type":"`+r.kind+`"}`)
			if ip, _ := v.at("ip").(string); !strings.HasPrefix(ip, r.prefix) {
				t.Errorf("%s: %s", r.kind, v.raw)
			}
			w.says(v, "shared", r.kind == "shared_v4")
			w.says(v, "region", r.region)
			if (v.at("network") != nil) != (r.kind == "private_v6") {
				t.Errorf("%s: network %v", r.kind, v.at("network"))
			}
			w.says(v, "type", nil)
		}
		w.refuses([]refused{
			{"a second shared one", "POST", ipsPath, `{"type":"shared_v4"}`, 422, "already has"},
			{"a second private one", "POST", ipsPath, `{"type":"private_v6"}`, 422, "already has"},
			{"network", "POST", ipsPath, `{"type":"private_v6","network":"none"}`, 400, "network not found"},
			{"organization", "POST", ipsPath, `{"type":"private_v6","org_slug":"none"}`, 404, "not found"},
			{"kind", "POST", ipsPath, `{"type":"v5"}`, 422, "v5"},
			{"region", "POST", ipsPath, `{"type":"v6","region":"xxx"}`, 400, "target region 'xxx' not found"},
			{"no address", "DELETE", ipsPath + "/1.2.3.4", "", 404, "not found"},
			{"not an address", "DELETE", ipsPath + "/v6", "", 404, "not found"},
		})
		first := w.want(200, "GET", ipsPath, "").at("ips.1.ip")
		second := w.want(200, "POST", ipsPath, `{"type":"v6","region":"fra"}`)
		w.says(second, "region", "fra")
		if second.at("ip") == first {
			t.Error("the second v6 is the first")
		}
		w.want(204, "DELETE", ipsPath+"/"+strings.ToUpper(first.(string)), "")
		w.want(404, "DELETE", ipsPath+"/"+first.(string), "")
		if n := len(w.want(200, "GET", ipsPath, "").at("ips").([]any)); n != 4 {
			t.Errorf("%d addresses, want 4", n)
		}
		w.e.SetMode(ModeAlreadyThere, "409")
		w.refuses([]refused{{"a second shared one", "POST", ipsPath, `{"type":"shared_v4"}`, 409, "already has"}})
		w.e.SetMode(ModeDedicatedIPv4, "exhausted")
		w.refuses([]refused{{"quota", "POST", ipsPath, `{"type":"v4"}`, 400, "limit"}})
	})
}

func TestPrivateAddressInANetwork(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.app("inside").Network = "lab"
		v := w.want(200, "POST", ipsPath, `{"type":"private_v6","network":"lab","service_name":"s"}`)
		w.says(v, "network.name", "lab")
		w.says(v, "network.org_slug", "acme")
		w.says(v, "service_name", "s")
		w.want(200, "POST", ipsPath, `{"type":"private_v6"}`) // another network
	})
}

const policiesPath = "/v1/apps/web/network_policies"

func TestNetworkPolicies(t *testing.T) {
	in(t, Options{}, func(w *world) {
		const rules = `"rules":[{"action":"allow","direction":"egress","ports":[{"protocol":"tcp","port":443}]}]`
		id := w.want(201, "POST", policiesPath, `{"name":"web","selector":{"all":true},`+rules+`}`).at("id").(string)
		w.says(w.want(200, "POST", policiesPath, `{"id":"`+id+`","name":"web2","selector":{"metadata":{"role":"web"}},`+rules+`}`), "id", id)
		for _, path := range []string{policiesPath, policiesPath + "/"} {
			v := w.want(200, "GET", path, "")
			w.says(v, "0.name", "web2")
			w.says(v, "0.rules.0.ports.0.port", 443)
			w.says(v, "1", nil)
		}
		w.refuses([]refused{
			{"name", "POST", policiesPath, `{"selector":{"all":true}}`, 422, "Name"},
			{"selector", "POST", policiesPath, `{"name":"x"}`, 422, "Selector"},
			{"action", "POST", policiesPath, `{"name":"x","selector":{"all":true},"rules":[{"action":"deny","direction":"egress"}]}`, 422, "deny"},
			{"direction", "POST", policiesPath, `{"name":"x","selector":{"all":true},"rules":[{"action":"allow","direction":"up"}]}`, 422, "up"},
			{"port", "POST", policiesPath, `{"name":"x","selector":{"all":true},"rules":[{"action":"allow","direction":"egress","ports":[{"protocol":"icmp","port":1}]}]}`, 422, "icmp"},
			{"unknown id", "POST", policiesPath, `{"id":"none","name":"x","selector":{"all":true}}`, 404, "not found"},
			{"delete unknown", "DELETE", policiesPath + "/none", "", 404, "not found"},
		})
		w.want(204, "DELETE", policiesPath+"/"+id, "")
		if v := w.want(200, "GET", policiesPath, ""); v.raw != "[]\n" {
			t.Errorf("left: %s", v.raw)
		}
	})
}
