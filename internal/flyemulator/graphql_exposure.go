package flyemulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"forged.dev/forged/internal/flyemulator/graphql"
)

// sharedIP is the address that the app shares with others: GraphQL does not
// list it with those of its own.
func (a *app) sharedIP() any {
	for _, one := range a.IPs {
		if one.Type == "shared_v4" {
			return one.Address
		}
	}
	return nil
}

func (g *graph) ip(a *app, one *ip) graphql.Object {
	var network, service, region any
	if one.Type == "private_v6" {
		name := one.Network
		if name == "" {
			name = "default"
		}
		network = graphql.Object{Type: "Network", Fields: map[string]any{
			"id": "network-" + a.Org + "-" + name, "name": name, "createdAt": one.Created,
			"organization": graphql.Resolver(func(map[string]any) (any, error) { return g.org(g.e.state.Orgs[a.Org]), nil }),
		}}
	}
	if one.Service != "" {
		service = one.Service
	}
	if one.Region != "" {
		region = one.Region
	}
	return graphql.Object{Type: "IPAddress", Fields: map[string]any{
		"id": one.ID, "address": one.Address, "type": one.Type, "region": region, "serviceName": service, "network": network,
		"createdAt": one.Created,
	}}
}

func (g *graph) ips(a *app) graphql.Resolver {
	return graphql.With(func(p window) (any, error) {
		var out []graphql.Object
		for _, one := range a.IPs {
			if one.Type != "shared_v4" {
				out = append(out, g.ip(a, one))
			}
		}
		return paged("IPAddress", out, p)
	})
}

func (g *graph) ipOf(a *app, address string) (any, error) {
	for _, one := range a.IPs {
		if one.Type != "shared_v4" && sameAddress(one.Address, address) {
			return g.ip(a, one), nil
		}
	}
	return nil, couldNotFind("IPAddress")
}

// certificate is a host name with what Fly serves there. The words of the
// status are the console's.
func (g *graph) certificate(a *app, cert *certificate) graphql.Object {
	detail := g.e.certificateDetail(a, cert)
	status, source := "Awaiting configuration", "fly"
	switch {
	case cert.Fly != nil || cert.Custom != nil:
		status = "Ready"
	case cert.configured():
		status = "Awaiting certificates"
	}
	if cert.Custom != nil {
		source = "custom"
	}
	var issued []graphql.Object
	for _, file := range detail.Certificates {
		for _, one := range file.Issued {
			issued = append(issued, graphql.Object{Type: "Certificate", Fields: map[string]any{
				"id": cert.Host + "-" + one.Type, "hostname": cert.Host, "type": one.Type, "expiresAt": one.Expires,
			}})
		}
	}
	var limited any
	if !cert.LimitedUntil.IsZero() {
		limited = cert.LimitedUntil
	}
	problems := []graphql.Object{}
	for _, p := range cert.Errors {
		problems = append(problems, graphql.Object{Type: "AppCertificateValidationError", Fields: map[string]any{
			"errorCode": knownProblem(p.Code), "message": p.Message, "remediation": p.Remediation, "timestamp": p.Timestamp,
		}})
	}
	base := strings.TrimPrefix(cert.Host, "*.")
	challenge := detail.Requirements.Challenge
	return graphql.Object{Type: "AppCertificate", Fields: map[string]any{
		"id": "cert-" + cert.Hash, "hostname": cert.Host, "domain": domain(cert.Host), "source": source, "createdAt": cert.CreatedAt,
		"certificateRequestedAt": cert.CreatedAt, "certificateAuthority": "lets_encrypt", "clientStatus": status, "check": true,
		"dnsProvider": orNil(detail.Provider), "dnsValidationHostname": challenge.Name, "dnsValidationTarget": challenge.Target,
		"dnsValidationInstructions": "CNAME " + challenge.Name + " => " + challenge.Target,
		"configured":                cert.configured(), "isConfigured": cert.configured(),
		"acmeDnsConfigured": cert.DNS, "isAcmeDnsConfigured": cert.DNS, "acmeAlpnConfigured": cert.ALPN, "isAcmeAlpnConfigured": cert.ALPN,
		"isAcmeHttpConfigured": cert.HTTP, "isApex": domain(cert.Host) == base, "isWildcard": base != cert.Host,
		"rateLimitedUntil": limited, "validationErrors": problems, "issued": connection("Certificate", issued),
	}}
}

// knownProblem is the code of a problem, if GraphQL has a word for it.
func knownProblem(code string) any {
	if code == "DNS_NOT_CONFIGURED" || code == "RATE_LIMITED" {
		return code
	}
	return "DNS_VALIDATION_FAILED"
}

// domain is the registered part of a host name, as far as can be told without
// the list of public suffixes.
func domain(host string) string {
	parts := strings.Split(strings.TrimPrefix(host, "*."), ".")
	return strings.Join(parts[max(0, len(parts)-2):], ".")
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (g *graph) certificates(a *app) graphql.Resolver {
	return graphql.With(func(in struct {
		window
		Filter string
		ID     string
	},
	) (any, error) {
		var out []graphql.Object
		for _, name := range slices.Sorted(maps.Keys(a.Certificates)) {
			cert := a.Certificates[name]
			if strings.Contains(name, in.Filter) && (in.ID == "" || in.ID == "cert-"+cert.Hash) {
				out = append(out, g.certificate(a, cert))
			}
		}
		return paged("AppCertificate", out, in.window)
	})
}

func (g *graph) certificateOf(a *app, host string) (any, error) {
	if cert := a.Certificates[dnsName(host)]; cert != nil {
		return g.certificate(a, cert), nil
	}
	return nil, couldNotFind("Certificate")
}

// check is what DNS says about a host name now.
func (g *graph) check(a *app, cert *certificate) graphql.Object {
	r := g.e.certificateCheck(a, cert).Records
	return graphql.Object{Type: "HostnameCheck", Fields: map[string]any{
		"id": "check-" + cert.Hash, "aRecords": some(r.A), "aaaaRecords": some(r.AAAA), "cnameRecords": some(r.CNAME),
		"caaRecords": []string{}, "resolvedAddresses": some(r.Resolved), "soa": orNil(r.SOA), "dnsProvider": orNil(r.SOA),
		"dnsVerificationRecord": orNil(r.Challenge), "acmeDnsConfigured": cert.DNS, "dnsConfigured": cert.configured(),
		"isProxied": false, "errors": []string{},
	}}
}

func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// image is what a reference leads to. Nothing is fetched: every image that is
// named is there, except those that never are.
func (g *graph) image(ref string) (any, error) {
	if strings.Contains(ref, "unpullable") {
		return nil, couldNotFind("Image")
	}
	of := g.e.imageOf(ref)
	digest := fmt.Sprint(of["digest"])
	return graphql.Object{Type: "Image", Fields: map[string]any{
		"id": "img_" + strings.TrimPrefix(digest, "sha256:")[:16], "ref": ref, "digest": digest,
		"absoluteRef": fmt.Sprintf("%s/%s@%s", of["registry"], of["repository"], digest),
		"registry":    of["registry"], "repository": of["repository"], "tag": of["tag"], "label": of["repository"],
		"compressedSize": 10 << 20, "compressedSizeFull": int64(10 << 20), "createdAt": g.e.state.Founded,
	}}, nil
}

// imageOf are the parts of an image's reference, as Fly fetches it.
func (e *Emulator) imageOf(ref string) map[string]any {
	return (&machine{Config: machineConfig{Image: ref}, Digest: e.digestOf(ref)}).imageRef()
}
