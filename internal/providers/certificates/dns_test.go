package certificates

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// zone is a name server in this process.
type zone struct {
	mu      sync.Mutex
	records map[string][]netip.Addr
	silent  bool
	asked   int
}

// newZone serves records, and returns how to ask it.
func newZone(t *testing.T) (*zone, Resolver) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{records: map[string][]netip.Addr{}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		z.serve(socket)
	}()
	t.Cleanup(func() {
		socket.Close()
		<-served
	})
	return z, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
}

func (z *zone) set(host string, addresses ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[host+"."] = nil
	for _, a := range addresses {
		z.records[host+"."] = append(z.records[host+"."], netip.MustParseAddr(a))
	}
}

func (z *zone) silence(is bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.silent = is
}

// lookups are those since the last call.
func (z *zone) lookups() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	n := z.asked
	z.asked = 0
	return n
}

func (z *zone) serve(socket net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := socket.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if answer := z.reply(buf[:n]); answer != nil {
			_, _ = socket.WriteTo(answer, from)
		}
	}
}

func (z *zone) reply(request []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(request) != nil || len(m.Questions) != 1 {
		return nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if z.silent {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	addresses, known := z.records[q.Name.String()]
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	for _, a := range addresses {
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func newNamedRig(t *testing.T) (*rig, *zone) {
	z, resolver := newZone(t)
	r := newRig(t)
	r.names = resolver
	r.restart()
	return r, z
}

// told waits for notices that have a text; empty: for none.
func (r *rig) told(req reconcile.Request, text string) reconcile.Observed {
	r.t.Helper()
	return r.await(req, "a notice with "+text, func(o reconcile.Observed, steps []reconcile.Step, err error) bool {
		if err != nil || len(steps) > 0 || o.Health.Status != reconcile.Ready {
			r.t.Fatalf("an environment is failed by DNS: %v, %v, %+v", err, steps, o.Health)
		}
		var all []string
		for _, n := range o.Notices {
			if n.Code != noticeDNS {
				r.t.Errorf("notice %+v", n)
			}
			all = append(all, n.Object+": "+n.Message)
		}
		if text == "" {
			return len(all) == 0
		}
		return strings.Contains(strings.Join(all, "\n"), text)
	})
}

func dnsSpec(namespace, kind string, hosts ...string) forge.DNSSpec {
	return forge.DNSSpec{Namespace: namespace, Hosts: hosts, From: forge.ObjectRef{Kind: kind, Namespace: namespace, Name: "shop"}}
}

func TestRecordsWantedAreTold(t *testing.T) {
	t.Parallel()
	r, z := newNamedRig(t)
	req := r.request(forge.KindDNS, dnsSpec(r.Namespace, "Ingress", "shop.acme.test", "www.acme.test"))
	r.told(req, "Ingress "+r.Namespace+"/shop: it does not exist, so where shop.acme.test, www.acme.test must lead is not known")
	if n := z.lookups(); n > 0 {
		t.Errorf("%d lookups before it is known where names must lead", n)
	}
	ingresses := networkingv1.SchemeGroupVersion.WithResource("ingresses")
	r.make(ingresses, map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta(r.Namespace, "shop"),
		"spec": map[string]any{"ingressClassName": "nobody-serves-it", "defaultBackend": map[string]any{"service": map[string]any{"name": "x", "port": map[string]any{"number": 80}}}},
	})
	r.told(req, "it has no address yet")
	at := func(entries ...map[string]any) {
		var list []any
		for _, e := range entries {
			list = append(list, e)
		}
		r.status(ingresses, r.Namespace, "shop", map[string]any{"loadBalancer": map[string]any{"ingress": list}})
	}
	z.set("www.acme.test", "198.51.100.7")
	at(map[string]any{"ip": "203.0.113.9"}, map[string]any{"ip": "2001:db8::9"})
	r.told(req, "shop.acme.test does not resolve; wanted: shop.acme.test A 203.0.113.9, shop.acme.test AAAA 2001:db8::9")
	r.told(req, "www.acme.test leads to 198.51.100.7, which is right only if something stands in between")

	// Nobody is asked again at once, however often it is looked.
	z.lookups()
	for range 5 {
		r.plan(req)
	}
	if n := z.lookups(); n > 0 {
		t.Errorf("%d lookups in a steady state", n)
	}

	// Somebody makes the records: that is found out when the time has come.
	z.set("shop.acme.test", "203.0.113.9")
	z.set("www.acme.test", "203.0.113.9")
	r.later(11 * time.Second)
	o := r.told(req, "")
	if want := "shop.acme.test, www.acme.test lead to 203.0.113.9, 2001:db8::9"; o.Health.Message != want {
		t.Errorf("message %q, want %q", o.Health.Message, want)
	}

	// The load balancer moves: names are looked up again because of that. One
	// with a name is wanted as an alias.
	z.set("lb.cloud.test", "192.0.2.44")
	at(map[string]any{"hostname": "lb.cloud.test"})
	r.told(req, "wanted: shop.acme.test CNAME lb.cloud.test")
	z.set("shop.acme.test", "192.0.2.44")
	z.set("www.acme.test", "192.0.2.44")
	r.later(11 * time.Second)
	r.told(req, "")
}

// Looking up is bounded, and asks less and less often.
func TestSilentNameServerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	r, z := newNamedRig(t)
	z.silence(true)
	req := r.request(forge.KindDNS, dnsSpec(r.Namespace, "Service", "shop.acme.test"))
	services := corev1.SchemeGroupVersion.WithResource("services")
	r.make(services, map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": meta(r.Namespace, "shop"),
		"spec": map[string]any{"type": "LoadBalancer", "ports": []any{map[string]any{"port": int64(80)}}},
	})
	began := time.Now()
	r.told(req, "shop.acme.test could not be looked up: no name server has answered in time; wanted: shop.acme.test A ")
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %s", took)
	}
}

func TestLookupsBackOff(t *testing.T) {
	t.Parallel()
	now := noon
	n := newNames(nobodyKnows{}, func() time.Time { return now })
	var waits []time.Duration
	for range 9 {
		next := n.judged("shop.acme.test", false)
		if again := n.judged("shop.acme.test", false); !again.Equal(next) {
			t.Errorf("a look before its time moves it from %s to %s", next, again)
		}
		waits = append(waits, next.Sub(now))
		now = next
	}
	if waits[0] != 10*time.Second || waits[3] != 80*time.Second || waits[8] != 10*time.Minute {
		t.Errorf("asks after %v", waits)
	}
	if next := n.judged("shop.acme.test", true); next.Sub(now) != time.Hour {
		t.Errorf("what is fine is asked again after %s", next.Sub(now))
	}
	n.hurry([]string{"shop.acme.test"})
	if next := n.judged("shop.acme.test", false); next.Sub(now) != 10*time.Second {
		t.Errorf("what is new is asked again after %s", next.Sub(now))
	}
}

func TestNamesBehindAGateway(t *testing.T) {
	t.Parallel()
	r, z := newNamedRig(t)
	r.uninstall("gateway") // no other test of this package has these kinds
	spec := dnsSpec(r.Namespace, "Gateway", "*.acme.test")
	req := r.request(forge.KindDNS, spec)
	r.told(req, "the cluster does not know Gateways")
	r.install("gateway")
	r.told(req, "it does not exist")
	r.make(gatewaysGVR, map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": meta(r.Namespace, "shop"), "spec": map[string]any{},
		"status": map[string]any{"addresses": []any{map[string]any{"type": "IPAddress", "value": "203.0.113.20"}}},
	})
	r.told(req, "*.acme.test does not resolve; wanted: *.acme.test A 203.0.113.20")
	z.set("forged-asks.acme.test", "203.0.113.20")
	r.later(11 * time.Second)
	r.told(req, "")

	// On one's own machine a line in a file does.
	spec.Local, spec.Hosts = true, []string{"shop.local.test"}
	req.Resource.Spec = spec
	r.told(req, `wanted: the line "203.0.113.20 shop.local.test" in /etc/hosts`)
}

// A name of an environment in two clusters may lead to either.
func TestNameOfTwoClusters(t *testing.T) {
	t.Parallel()
	p := &dns{names: newNames(nobodyKnows{}, time.Now), leading: map[forge.ID]lead{}}
	a := forge.ID{Environment: "prod", Kind: forge.KindDNS, Name: "eu"}
	b := forge.ID{Environment: "prod", Kind: forge.KindDNS, Name: "us"}
	p.lead(a, lead{[]string{"shop.acme.test"}, []string{"203.0.113.1"}})
	p.lead(b, lead{[]string{"shop.acme.test"}, []string{"203.0.113.2"}})
	p.lead(forge.ID{Environment: "staging", Kind: forge.KindDNS, Name: "eu"}, lead{[]string{"shop.acme.test"}, []string{"203.0.113.3"}})
	for address, fine := range map[string]bool{"203.0.113.1": true, "203.0.113.2": true, "203.0.113.3": false} {
		said := p.verdict("prod", "shop.acme.test", answer{addresses: []netip.Addr{netip.MustParseAddr(address)}})
		if (said == "") != fine {
			t.Errorf("%s: %q", address, said)
		}
	}
}

// A load balancer that has a name and addresses, as that of Fly Kubernetes does.
func TestRecordsForANameAndAddresses(t *testing.T) {
	t.Parallel()
	to := []string{"192.0.2.1", "2001:db8::1", "lb.cloud.test"}
	for _, tt := range []struct {
		to    []string
		local bool
		want  string
	}{
		{to, false, "shop.test CNAME lb.cloud.test, or, where a zone allows none: shop.test A 192.0.2.1, shop.test AAAA 2001:db8::1"},
		{to[:2], false, "shop.test A 192.0.2.1, shop.test AAAA 2001:db8::1"},
		{to[2:], false, "shop.test CNAME lb.cloud.test"},
		{to[:1], true, `the line "192.0.2.1 shop.test" in /etc/hosts`},
		{nil, false, ""},
	} {
		if got := records("shop.test", tt.to, tt.local); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
