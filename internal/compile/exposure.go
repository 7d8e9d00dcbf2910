package compile

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// servicePort is where the app's Service listens, whatever the app's own port;
// servicePortTLS where a load balancer in front of it ends the encryption.
const (
	servicePort    = 80
	servicePortTLS = 443
)

// serviceCertificate is how long certificates between services are valid. They
// are renewed when a third is left.
const serviceCertificate = 365 * 24 * time.Hour

// partImage is a part that nobody can name in a need.
const partImage = ".image"

func (b builder) serviceValues() map[string]any {
	kind, port, annotations := "ClusterIP", servicePort, map[string]string(nil)
	if b.env.Expose.Kind == forge.ExposeLoadBalancer {
		kind = "LoadBalancer"
		annotations = with(b.loadBalancerAnnotations(), b.env.Expose.Annotations)
		if mode := b.at.tls.Mode; mode == forge.TLSACM || mode == forge.TLSFly {
			port = servicePortTLS
		}
	}
	return map[string]any{"type": kind, "port": int64(port), "annotations": textMap(annotations)}
}

// loadBalancerAnnotations are what the cloud has to be told.
func (b builder) loadBalancerAnnotations() map[string]string {
	annotations := map[string]string{}
	if b.env.Platform.Kind == forge.PlatformFKS {
		return b.edgeAnnotations()
	}
	switch b.at.tls.Mode {
	case forge.TLSACM:
		annotations["service.beta.kubernetes.io/aws-load-balancer-ssl-cert"] = b.at.tls.ARN
		annotations["service.beta.kubernetes.io/aws-load-balancer-ssl-ports"] = "443"
	}
	return annotations
}

// edgeAnnotations are what Fly's proxy has to be told: Fly docs, Kubernetes,
// Services. Values are text, also where they are numbers.
func (b builder) edgeAnnotations() map[string]string {
	// Nothing relies on these two: they are not documented, and do no harm.
	annotations := map[string]string{"fly.io/app": b.env.App.Name}
	if len(b.at.domains) > 0 {
		annotations["fly.io/domains"] = strings.Join(b.at.domains, ",")
	}
	add := func(name, value string) {
		if value != "" && value != "0" {
			annotations["service.fly.io/"+name] = value
		}
	}
	edge := b.env.Expose.Edge
	if b.at.tls.Mode == forge.TLSFly {
		add("443-handlers", "http,tls")
		add("443-tls-alpn", strings.Join(edge.ALPN, ","))
		add("443-tls-versions", strings.Join(edge.TLSVersions, ","))
		if edge.SelfSigned {
			add("443-tls-default-self-signed", "true")
		}
	} else {
		add("80-handlers", "http")
	}
	add("concurrency-kind", edge.Concurrency)
	add("concurrency-limit-soft", strconv.Itoa(edge.SoftLimit))
	add("concurrency-limit-hard", strconv.Itoa(edge.HardLimit))
	return annotations
}

// endpoint adds that the app answers at Fly's edge: no probe tells whether it
// serves.
func (c *clusterBuilder) endpoint() {
	if c.env.Platform.Kind != forge.PlatformFKS || c.env.Expose.Kind != forge.ExposeLoadBalancer || c.env.App.Chart != nil {
		return
	}
	health := c.env.App.Health
	tls := c.at.tls.Mode == forge.TLSFly
	port := servicePort
	if tls {
		port = servicePortTLS
	}
	c.add(partApp, c.resource(forge.KindEndpoint, partApp, forge.EndpointSpec{
		Namespace: c.at.namespace, Service: c.env.App.Name, Port: port, TLS: tls, Path: health.Ready,
		Hosts: append([]string(nil), c.at.domains...), Timeout: health.Timeout, Interval: health.Interval, Failures: health.Failures,
		Startup: health.Startup,
	}, c.namespace, c.id(forge.KindRelease, partApp)))
}

func (b builder) ingressValues() map[string]any {
	if b.env.Expose.Kind != forge.ExposeIngress {
		return map[string]any{"enabled": false, "className": "", "annotations": map[string]any{}, "hosts": []any{}, "tlsSecret": ""}
	}
	className := b.env.Expose.ClassName
	if ofGoogle(className) {
		className = "" // in the annotation; the field keeps Google's controller away
	}
	values := map[string]any{
		"enabled":     true,
		"className":   className,
		"annotations": textMap(with(b.ingressAnnotations(), b.env.Expose.Annotations)),
		"hosts":       texts(b.at.domains),
		"tlsSecret":   b.ingressSecret(),
	}
	if b.redirects() { // the objects that annotations name
		switch b.env.Expose.ClassName {
		case classGCE:
			values["frontendConfig"] = true
		case classTraefik:
			values["middleware"] = true
		}
	}
	return values
}

// Ingress classes that are told of a certificate or a redirect by annotations.
const (
	classNginx   = "nginx"
	classRouting = "webapprouting.kubernetes.azure.com" // nginx, run by Azure
	classALB     = "alb"
	classGCE     = "gce"
	classTraefik = "traefik"
)

// ofGoogle tells the classes of GKE's own controller.
func ofGoogle(class string) bool { return class == classGCE || class == classGCE+"-internal" }

func (b builder) redirects() bool {
	return b.env.Expose.RedirectHTTP && b.at.tls.Mode != forge.TLSNone && b.at.tls.Mode != ""
}

// ingressAnnotations are what the controller has to be told.
func (b builder) ingressAnnotations() map[string]string {
	annotations := map[string]string{}
	tls := b.at.tls
	encrypted := tls.Mode != forge.TLSNone && tls.Mode != ""
	switch class := b.env.Expose.ClassName; {
	case class == classNginx, class == classRouting:
		if encrypted && !b.redirects() { // it redirects by itself
			annotations["nginx.ingress.kubernetes.io/ssl-redirect"] = "false"
		}
	case class == classALB:
		annotations["alb.ingress.kubernetes.io/scheme"] = "internet-facing"
		annotations["alb.ingress.kubernetes.io/target-type"] = "ip"
		if encrypted {
			annotations["alb.ingress.kubernetes.io/listen-ports"] = `[{"HTTP":80},{"HTTPS":443}]`
		}
		if b.redirects() {
			annotations["alb.ingress.kubernetes.io/ssl-redirect"] = "443"
		}
	case ofGoogle(class):
		annotations["kubernetes.io/ingress.class"] = class
		if class == classGCE && b.redirects() {
			annotations["networking.gke.io/v1beta1.FrontendConfig"] = b.env.App.Name
		}
	case class == classTraefik:
		if b.redirects() { // its name there: namespace and name of the object
			annotations["traefik.ingress.kubernetes.io/router.middlewares"] = b.at.namespace + "-" + b.env.App.Name + "@kubernetescrd"
		}
	case strings.HasPrefix(class, "azure"):
		if b.redirects() {
			annotations["appgw.ingress.kubernetes.io/ssl-redirect"] = "true"
		}
	}
	switch tls.Mode {
	case forge.TLSACM:
		annotations["alb.ingress.kubernetes.io/certificate-arn"] = tls.ARN
	case forge.TLSGKEManaged:
		annotations["networking.gke.io/managed-certificates"] = tls.Certificate
		if tls.StaticIP != "" {
			annotations["kubernetes.io/ingress.global-static-ip-name"] = tls.StaticIP
		}
	}
	return annotations
}

// ingressSecret is where the controller finds the certificate; empty where it
// is somewhere else.
func (b builder) ingressSecret() string {
	switch b.at.tls.Mode {
	case forge.TLSSecret, forge.TLSSelfSigned, forge.TLSCertManager:
		return b.at.tls.Secret
	default:
		return ""
	}
}

func (b builder) routeValues() map[string]any {
	gateway := b.env.Expose.Gateway
	namespace := gateway.Namespace
	if namespace == "" {
		namespace = b.at.namespace
	}
	return map[string]any{
		"gateway":     map[string]any{"name": gateway.Name, "namespace": namespace},
		"hosts":       texts(b.at.domains),
		"annotations": textMap(b.env.Expose.Annotations),
	}
}

// certificates adds who signs and what is signed. Nothing waits for what the
// outside world takes part in: a certificate that DNS does not lead to yet
// must not hold up a rollout. One that forged signs is there before the app.
// What is somebody else's is looked at only.
func (c *clusterBuilder) certificates() {
	tls := c.at.tls
	if c.env.App.Chart != nil {
		return // whatever its chart makes of it is not known here
	}
	spec := forge.CertificateSpec{
		Namespace: c.at.namespace, Mode: tls.Mode, Labels: c.labels(), Hosts: append([]string(nil), c.at.domains...), Secret: tls.Secret,
	}
	ingress := c.env.Expose.Kind == forge.ExposeIngress
	app := c.id(forge.KindRelease, partApp)
	switch {
	case tls.Mode == forge.TLSACM && (ingress || c.env.Expose.Kind == forge.ExposeLoadBalancer):
		spec.Labels, spec.Secret, spec.Name = nil, "", tls.ARN
		c.add("", c.resource(forge.KindCertificate, partApp, spec, c.namespace))
	case !ingress:
	case tls.Mode == forge.TLSSecret:
		spec.Labels = nil
		c.add("", c.resource(forge.KindCertificate, partApp, spec, c.namespace))
	case tls.Mode == forge.TLSSelfSigned: // the app waits for it
		spec.Valid = tls.Valid
		c.add("", c.resource(forge.KindCertificate, partApp, spec, c.namespace))
	case tls.Mode == forge.TLSCertManager:
		issuer := c.add("", c.resource(forge.KindIssuer, tls.Issuer.Name, forge.IssuerSpec{
			Kind: tls.Issuer.Kind, Name: tls.Issuer.Name, Namespace: c.at.namespace, Create: tls.Issuer.Create, Labels: c.labels(),
			Email: tls.Issuer.Email, Server: tls.Issuer.Server, IngressClass: c.env.Expose.ClassName,
		}, c.namespace))
		spec.Name, spec.Issuer = tls.Secret, forge.ObjectRef{Kind: tls.Issuer.Kind, Name: tls.Issuer.Name}
		c.add("", c.resource(forge.KindCertificate, partApp, spec, c.namespace, issuer, app))
	case tls.Mode == forge.TLSGKEManaged:
		spec.Name, spec.Secret = tls.Certificate, ""
		c.add("", c.resource(forge.KindCertificate, partApp, spec, c.namespace, app))
	}
	c.dns()
}

// dns adds what the names of the app have to lead to.
func (c *clusterBuilder) dns() {
	from := forge.ObjectRef{Namespace: c.at.namespace, Name: c.env.App.Name}
	switch c.env.Expose.Kind {
	case forge.ExposeIngress:
		from.Kind = "Ingress"
	case forge.ExposeLoadBalancer:
		from.Kind = "Service"
	case forge.ExposeGateway:
		from.Kind, from.Name = "Gateway", c.env.Expose.Gateway.Name
		if c.env.Expose.Gateway.Namespace != "" {
			from.Namespace = c.env.Expose.Gateway.Namespace
		}
	}
	if from.Kind == "" || len(c.at.domains) == 0 {
		return
	}
	c.add("", c.resource(forge.KindDNS, partApp, forge.DNSSpec{
		Namespace: c.at.namespace, Hosts: append([]string(nil), c.at.domains...), From: from,
		Local: c.env.Platform.Kind == forge.PlatformMinikube,
	}, c.namespace))
}

// selfSigned tells whether forged signs the certificate of the way in.
func (c *clusterBuilder) selfSigned() bool {
	return c.env.Expose.Kind == forge.ExposeIngress && c.at.tls.Mode == forge.TLSSelfSigned
}

// with is what forged knows with what the user says laid over it.
func with(ours, theirs map[string]string) map[string]string {
	all := maps.Clone(ours)
	maps.Copy(all, theirs)
	return all
}
