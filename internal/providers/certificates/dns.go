package certificates

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/providers/sights"
	"forged.dev/forged/internal/reconcile"
)

const noticeDNS = "dns"

var gatewaysGVR = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}

// dns tells which records are wanted, and whether names lead where they have
// to. It makes nothing, nothing waits for it and nothing fails by it: a name
// belongs to whoever has it.
type dns struct {
	all   *sights.Sights
	names *names

	mu      sync.Mutex
	leading map[forge.ID]lead
}

// lead is where the names of one resource have to lead.
type lead struct {
	hosts []string
	to    []string // addresses and names of load balancers, in order
}

func newDNS(o Options, all *sights.Sights) reconcile.Provider {
	p := &dns{all: all, names: newNames(o.Resolver, o.Now), leading: map[forge.ID]lead{}}
	return objects.New(o.Clusters, objects.Kind{
		Name: forge.KindDNS,
		Namespace: func(s forge.Spec) (string, bool) {
			spec, ok := s.(forge.DNSSpec)
			return spec.Namespace, ok
		},
		Gone: func(namespace string) forge.Spec { return forge.DNSSpec{Namespace: namespace} },
		Want: func(context.Context, *objects.Look) ([]objects.Object, error) { return nil, nil },
		Tell: p.tell,
		Watch: func(ctx context.Context, notify func(reconcile.Event)) error {
			all.Watch(ctx, forge.KindDNS, notify)
			return nil
		},
		Forget: func(r forge.Resource) { p.forget(r.ID) },
	})
}

func (p *dns) forget(id forge.ID) {
	p.all.Forget(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.leading, id)
}

func (p *dns) tell(ctx context.Context, l *objects.Look, o *reconcile.Observed) error {
	spec := l.Request.Resource.Spec.(forge.DNSSpec)
	g := look(p.all, l.Cluster, l.ID())
	o.Exists = true
	from := spec.From.Kind + " " + spec.From.Namespace + "/" + spec.From.Name
	to, why := addresses(ctx, g, spec.From)
	g.Done()
	slices.SortFunc(to, byKind)
	p.lead(l.ID(), lead{spec.Hosts, to})
	if why != "" {
		notice(o, noticeDNS, from, fmt.Sprintf("%s, so where %s must lead is not known", why, strings.Join(spec.Hosts, ", ")))
		return nil
	}
	p.names.look(ctx, spec.Hosts, to)
	var next time.Time
	var fine []string
	for _, host := range spec.Hosts {
		said := p.verdict(l.ID().Environment, host, p.names.answer(host))
		if again := p.names.judged(host, said == ""); next.IsZero() || again.Before(next) {
			next = again
		}
		if said == "" {
			fine = append(fine, host)
			continue
		}
		notice(o, noticeDNS, from, fmt.Sprintf("%s %s; wanted: %s", host, said, records(host, to, spec.Local)))
	}
	p.all.Alarm(l.ID(), next)
	if len(fine) > 0 {
		o.Health.Message = strings.Join(fine, ", ") + " " + leads(len(fine)) + " to " + strings.Join(to, ", ")
	}
	return nil
}

func leads(n int) string {
	if n == 1 {
		return "leads"
	}
	return "lead"
}

// byKind orders addresses: those of four bytes, those of sixteen, names.
func byKind(a, b string) int {
	first, errA := netip.ParseAddr(a)
	second, errB := netip.ParseAddr(b)
	switch {
	case errA != nil && errB != nil:
		return strings.Compare(a, b)
	case errA != nil:
		return 1
	case errB != nil:
		return -1
	}
	return first.Unmap().Compare(second.Unmap())
}

// lead notes where names have to lead. A change of that is a reason to ask.
func (p *dns) lead(id forge.ID, now lead) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.leading[id].to, now.to) {
		p.names.hurry(now.hosts)
	}
	p.leading[id] = now
}

// everywhere is where a name may lead: to any of the clusters that an
// environment is in.
func (p *dns) everywhere(environment, host string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for id, l := range p.leading {
		if id.Environment == environment && slices.Contains(l.hosts, host) {
			all = append(all, l.to...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// verdict says what is wrong with where a name leads; empty: nothing.
func (p *dns) verdict(environment, host string, a answer) string {
	switch {
	case a.trouble != "":
		return "could not be looked up: " + a.trouble
	case len(a.addresses) == 0:
		return "does not resolve"
	}
	for _, to := range p.everywhere(environment, host) {
		if ip, err := netip.ParseAddr(to); err == nil {
			if slices.Contains(a.addresses, ip.Unmap()) {
				return ""
			}
			continue
		}
		for _, ip := range p.names.answer(to).addresses {
			if slices.Contains(a.addresses, ip) {
				return ""
			}
		}
	}
	const most = 3
	var is []string
	for _, ip := range a.addresses[:min(len(a.addresses), most)] {
		is = append(is, ip.String())
	}
	return "leads to " + strings.Join(is, ", ") + ", which is right only if something stands in between that passes requests on"
}

// records are what has to be in DNS for a name, or in a file. Where there are
// both a name and addresses to lead to, either will do; at the top of a zone
// there can be no CNAME.
func records(host string, to []string, local bool) string {
	var names, numbers []string
	for _, target := range to {
		ip, err := netip.ParseAddr(target)
		switch {
		case err != nil:
			names = append(names, host+" CNAME "+target)
		case local:
			numbers = append(numbers, fmt.Sprintf("the line %q in /etc/hosts", target+" "+host))
		case ip.Unmap().Is4():
			numbers = append(numbers, host+" A "+target)
		default:
			numbers = append(numbers, host+" AAAA "+target)
		}
	}
	if len(names) > 0 && len(numbers) > 0 {
		return strings.Join(names, ", ") + ", or, where a zone allows none: " + strings.Join(numbers, ", ")
	}
	return strings.Join(append(names, numbers...), ", ")
}

// addresses are those in the status of the way in; or why there are none.
func addresses(ctx context.Context, g *glance, from forge.ObjectRef) (all []string, why string) {
	gvr, path, field := corev1.SchemeGroupVersion.WithResource("services"), []string{"status", "loadBalancer", "ingress"}, ""
	switch from.Kind {
	case "Ingress":
		gvr = networkingv1.SchemeGroupVersion.WithResource("ingresses")
	case "Gateway":
		gvr, path, field = gatewaysGVR, []string{"status", "addresses"}, "value"
		if is, err := g.served(ctx, gvr); err == nil && !is {
			return nil, "the cluster does not know Gateways"
		}
	}
	live, err := g.One(ctx, gvr, from.Namespace, from.Name)
	if err != nil {
		return nil, "it cannot be read: " + sentence(err.Error())
	}
	if live == nil {
		return nil, "it does not exist"
	}
	list, _, _ := unstructured.NestedSlice(live.Object, path...)
	for _, item := range list {
		entry, _ := item.(map[string]any)
		for _, name := range []string{field, "ip", "hostname"} {
			if address, _ := entry[name].(string); name != "" && address != "" {
				all = append(all, address)
				break
			}
		}
	}
	if len(all) == 0 {
		return nil, "it has no address yet"
	}
	return all, ""
}
