package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

const (
	classALB = "alb" // IngressClass of the AWS Load Balancer Controller
	maxHost  = 253   // characters of a host name: RFC 1035, 2.3.4
	maxPort  = 65535
)

func (l *loader) checkExpose(p path, e *wireEnv) {
	x := e.Expose
	at := p.with("expose")
	switch needs := x.Kind == forge.ExposeIngress || x.Kind == forge.ExposeGateway; {
	case needs && len(e.Domains) == 0:
		what := "an ingress"
		if x.Kind == forge.ExposeGateway {
			what = "a route"
		}
		l.ruleAt(at, "domain-needed", what+" needs a domain: without one it takes the requests of everybody",
			`write domains: ["api.example.com"] in this environment`)
	case !needs && len(e.Domains) > 0 && (e.Platform.Kind == forge.PlatformMinikube || e.Platform.Kind == forge.PlatformKubernetes):
		l.ruleAt(p.with("domains"), "unread-key", fmt.Sprintf("domains are read only by an ingress or a gateway, and expose.kind is %q", x.Kind),
			`write expose: kind: "ingress", or leave domains out`)
	case x.Kind == forge.ExposeNone && len(e.Domains) > 0:
		l.ruleAt(p.with("domains"), "unread-key", `domains are not read, because expose.kind is "none"`, "leave domains or expose out")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Annotations)) {
		l.checkText(at.with("annotations", name), name, x.Annotations[name])
	}
	tls := at.with("tls")
	l.between(tls.with("validity"), x.TLS.Validity, 24*time.Hour, 10*365*24*time.Hour)
	if x.TLS.Mode == forge.TLSSecret {
		switch {
		case x.TLS.Name != "" && x.TLS.SecretName != "":
			l.ruleAt(tls.with("name"), "set-twice", "it is the old name of secretName, which is written too", "leave name out")
		case x.TLS.Name != "":
			l.ruleAt(tls.with("name"), "deprecated-key", "it is called secretName now", "write secretName")
		case x.TLS.SecretName == "":
			l.ruleAt(tls, "missing-key", "secretName has to be written", "Secret of type kubernetes.io/tls in the same namespace.")
		}
	}
	if x.Kind == forge.ExposeIngress && x.ClassName == classALB && (x.TLS.Mode == forge.TLSSecret || x.TLS.Mode == forge.TLSCertManager) {
		l.rule(tls.with("mode"), "tls-class", "a load balancer of AWS reads certificates from AWS Certificate Manager only", `write mode: "acm", or className: "nginx" where that controller runs`)
	}
	if x.Kind == forge.ExposeIngress && x.RedirectHTTP != nil && *x.RedirectHTTP && x.TLS.Mode == forge.TLSNone {
		l.rule(at.with("redirectHTTP"), "redirect", "there is no HTTPS to send requests to, because tls.mode is none", "choose a tls.mode, or leave redirectHTTP out")
	}
	for i, d := range e.Domains {
		where := p.with("domains", strconv.Itoa(i))
		switch {
		case len(d) > maxHost:
			l.rule(where, "bound", fmt.Sprintf("a host name has at most %d characters", maxHost), "")
		case slices.Contains(e.Domains[:i], d):
			l.rule(where, "same-domain", d+" is there twice", "leave it out")
		case (e.Platform.Kind == forge.PlatformFKS || e.onFly()) && strings.HasSuffix(d, flyNames):
			l.rule(where, "tls-domain", "names below fly.dev are those that Fly gives out: no certificate can be asked for",
				"leave it out: forged status shows the name that there is")
		}
		if !strings.HasPrefix(d, "*.") {
			continue
		}
		why := ""
		switch {
		case x.TLS.Mode == forge.TLSGKEManaged:
			why = "certificates that Google manages have no wildcards"
		case x.TLS.Issuer.Create != nil:
			why = "the issuer that forged makes proves a name over HTTP, which no wildcard has"
		}
		if why != "" {
			l.rule(where, "tls-domain", why, "name each host, or bring a certificate of your own")
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(x.Certificates)) {
		if !slices.Contains(e.Domains, domain) {
			l.rule(at.with("certificates", domain), "tls-domain", domain+" is not one of domains, so that nobody sees this certificate", "add it to domains, or leave it out")
		}
	}
}
