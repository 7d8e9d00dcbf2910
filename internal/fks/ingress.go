package fks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// route is what an Ingress leads to a Service.
type route struct {
	host, path string
	service    string
	port       any // name or number
}

// routes are what an Ingress says; not ok: it says what a Service cannot.
func routes(o *object) (all []route, ok bool) {
	add := func(host, path string, backend map[string]any) bool {
		service := below(backend, "service")
		r := route{host, path, text(service, "name"), cmp.Or[any](below(service, "port")["name"], below(service, "port")["number"])}
		all = append(all, r)
		return r.service != "" && r.port != nil
	}
	spec := below(o.fields, "spec")
	if backend := below(spec, "defaultBackend"); backend != nil && !add("", "/", backend) {
		return all, false
	}
	for _, rule := range items(spec, "rules") {
		paths := items(below(rule, "http"), "paths")
		for _, p := range paths {
			if !add(text(rule, "host"), text(p, "path"), below(p, "backend")) {
				return all, false
			}
		}
		if len(paths) == 0 {
			return all, false
		}
	}
	return all, len(all) > 0
}

// steers tells whether an annotation of an Ingress has its controller do what a
// Service cannot: ask who it is, let some in only, rewrite what is asked for.
func steers(o *object) bool {
	for key := range below(o.fields, "metadata", "annotations") {
		for _, word := range []string{
			"auth", "whitelist", "allowlist", "denylist", "inbound-cidrs", "rewrite", "backend-protocol", "app-root", "permanent-redirect",
			"temporal-redirect", "canary", "snippet", "middlewares", "limit-", "cors", "security-groups", "waf", "scheme", "passthrough", "proxy-ssl",
		} {
			if domain, name, ok := strings.Cut(key, "/"); ok && strings.Contains(domain, "ingress") && strings.Contains(name, word) {
				return true
			}
		}
	}
	return false
}

// becomesService tells whether Services of type LoadBalancer can do all that an
// Ingress asks for.
func becomesService(f *fitting, m match) bool {
	mine, ok := routes(m.of)
	if !ok || steers(m.of) {
		return false
	}
	var all []route // in the namespace, those of this one among them
	for _, o := range f.objects {
		if !o.gone && o.is([]string{"Ingress.networking.k8s.io"}) && f.namespace(o) == f.namespace(m.of) {
			more, _ := routes(o)
			all = append(all, more...)
		}
	}
	return !slices.ContainsFunc(mine, func(r route) bool {
		same := 0
		for _, other := range all {
			if other.service == r.service || other.host == r.host {
				same++
			}
		}
		return same != 1 || !slices.Contains([]string{"", "/", "/*"}, r.path) || f.backend(m.of, r) == nil
	})
}

// backend is the Service that a route leads to, if all that it has may be
// reached from outside: the one port of the route.
func (f *fitting) backend(ingress *object, r route) *object {
	for _, o := range f.objects {
		if o.gone || !o.is(services) || o.name() != r.service || f.namespace(o) != f.namespace(ingress) {
			continue
		}
		spec := below(o.fields, "spec")
		ports := items(spec, "ports")
		annotated := below(o.fields, "metadata")["annotations"]
		if _, ok := annotated.(map[string]any); annotated != nil && !ok || len(ports) != 1 {
			return nil
		}
		port := ports[0]
		named := text(port, "name") == fmt.Sprint(r.port) || fmt.Sprint(port["port"]) == fmt.Sprint(r.port)
		plain := slices.Contains([]string{"", "ClusterIP", "NodePort", "LoadBalancer"}, text(spec, "type")) && text(spec, "clusterIP") != "None"
		if named && plain && cmp.Or(text(port, "protocol"), "TCP") == "TCP" && port["port"] != nil {
			return o
		}
		return nil
	}
	return nil
}

// becomeService exposes the Services that an Ingress leads to, and drops it.
func becomeService(f *fitting, m match) string {
	mine, _ := routes(m.of)
	var said []string
	for _, r := range mine {
		o := f.backend(m.of, r)
		f.expose(o)
		o.rules["FKS101"] = true
		said = append(said, fmt.Sprintf("%s: LoadBalancer %s", cmp.Or(r.host, "every host"), r.service))
	}
	m.of.gone = true
	slices.Sort(said)
	return strings.Join(said, "\n")
}

// expose makes a Service what an Ingress was: it answers on port 80, and on 443
// behind TLS.
func (f *fitting) expose(o *object) {
	spec := below(o.fields, "spec")
	spec["type"] = "LoadBalancer"
	metadata := o.fields["metadata"].(map[string]any)
	annotations := below(metadata, "annotations")
	if annotations == nil {
		annotations = map[string]any{}
		metadata["annotations"] = annotations
	}
	list := spec["ports"].([]any)
	var port map[string]any
	for _, item := range list {
		if fields, ok := item.(map[string]any); ok {
			port = fields
		}
	}
	target := port["targetPort"]
	if target == nil {
		target = port["port"]
	}
	if name, ok := target.(string); ok {
		if number := f.numberOf(o, name); number != nil {
			target = number
		}
	}
	for number, handlers := range map[string]string{"80": "http", "443": "http,tls"} {
		name := text(port, "name")
		if fmt.Sprint(port["port"]) == number && (annotations[handlersOf(name)] != nil || annotations[handlersOf(number)] != nil) {
			continue
		}
		annotations[handlersOf(number)] = handlers
	}
	if text(port, "name") == "" {
		port["name"] = "service"
	}
	for _, more := range []struct {
		name   string
		number int64
	}{{"http", 80}, {"https", 443}} {
		if fmt.Sprint(port["port"]) == fmt.Sprint(more.number) {
			continue
		}
		if text(port, "name") == more.name {
			more.name = "fly-" + more.name
		}
		list = append(list, map[string]any{"name": more.name, "port": more.number, "protocol": "TCP", "targetPort": copied(target)})
	}
	spec["ports"] = list
}
