package fks

// services are what these rules are about: those of Kubernetes, not of others
// that call a kind so.
var services = []string{"Service"}

// serviceRules are about ports, exposure and annotations of Services.
func serviceRules() []Rule {
	return []Rule{
		{
			ID: "FKS401", Name: "node-port", Kinds: services, Path: "spec.type", When: When{OneOf: []string{"NodePort"}},
			Action: Rewrite, change: becomes("ClusterIP"),
			Message: "NodePort is not supported: there are no nodes.",
			Hint:    "write LoadBalancer for what the world is to reach",
			Doc:     docServices,
		},
		{
			ID: "FKS402", Name: "node-port-number", Kinds: services, Path: "spec.(ports[*].nodePort|allocateLoadBalancerNodePorts|healthCheckNodePort)", Action: Drop,
			Message: "There are no nodes that have a port.",
			Doc:     docServices,
		},
		{
			ID: "FKS403", Name: "external-name", Kinds: services, Path: "spec.type", When: When{OneOf: []string{"ExternalName"}}, Action: Warn,
			Message: "Nothing is said of names for what is outside.",
			Hint:    "let programs use the name itself",
			Doc:     Undocumented,
		},
		{
			ID: "FKS404", Name: "headless", Kinds: services, Path: "spec.clusterIP", When: When{OneOf: []string{"None"}}, Action: Warn,
			Message: "Nothing is said of Services without an address.",
			Hint:    "leave clusterIP out",
			Doc:     Undocumented,
		},
		{
			ID: "FKS405", Name: "protocol", Kinds: services, Path: "spec.ports[*].protocol", When: When{OneOf: []string{"UDP", "SCTP"}}, Action: Error,
			Message: "Services carry TCP only.",
			Hint:    "switch the port off in the values of the chart, or run it as a Fly app",
			Doc:     docServices,
		},
		{
			ID: "FKS406", Name: "target-port-number", Kinds: services, Path: "spec.ports[*].targetPort",
			When:   When{Words: "it is a name that the pods of the same chart have for one port"},
			Action: Rewrite, holds: portKnown, change: portNumber,
			Message: "The ports of a container are not read, nor are their names: the number is written.",
			Doc:     docPods,
		},
		{
			ID: "FKS407", Name: "target-port", Kinds: services, Path: "spec.ports[*].targetPort",
			When:   When{Words: "it is a name that no pods of the chart have, or have for several"},
			Action: Warn, holds: portNamed,
			Message: "The ports of a container are not read, nor are their names, and the number is not known.",
			Hint:    "write the number",
			Doc:     docPods,
		},
		{
			ID: "FKS408", Name: "raw-port", Kinds: services, Path: "spec.ports[*].port", When: When{OneOf: []string{"80", "443"}, Words: "the type is LoadBalancer, and no annotation names handlers of the port"},
			Action: Warn, holds: raw,
			Message: "Without handlers the port is passed on as plain TCP: Fly's proxy neither ends TLS nor says who asks.",
			Hint:    `annotate the Service: service.fly.io/443-handlers: "http,tls", service.fly.io/80-handlers: "http"`,
			Doc:     docServices,
		},
		{
			ID: "FKS409", Name: "source-ranges", Kinds: services, Path: "spec.loadBalancerSourceRanges", Action: Error,
			Message: "Fly's proxy lets everybody in: what is to be reached from some addresses only would be public.",
			Hint:    "leave the Service inside, with type ClusterIP, or have the program look at Fly-Client-IP",
			Doc:     Undocumented,
		},
		{
			ID: "FKS410", Name: "load-balancing", Kinds: services,
			Path: "spec.(sessionAffinity|sessionAffinityConfig|externalTrafficPolicy|internalTrafficPolicy|trafficDistribution|loadBalancerIP|loadBalancerClass|externalIPs)",
			When: When{NoneOf: []string{"None", "Cluster"}}, Action: Drop,
			Message: "Fly's proxy balances, in its own way, at addresses that Fly gives.",
			Hint:    "keep sessions where every pod finds them",
			Doc:     Undocumented,
		},
		{
			ID: "FKS411", Name: "ip-families", Kinds: services, Path: "spec.(ipFamilies|ipFamilyPolicy)", Action: Drop,
			Message: "Addresses in the cluster are IPv6, and those of a LoadBalancer are both.",
			Hint:    "let programs listen on [::]",
			Doc:     docServices,
		},
		{
			ID: "FKS412", Name: "cluster-ip", Kinds: services, Path: "spec.(clusterIP|clusterIPs)", When: When{NoneOf: []string{"None"}}, Action: Drop,
			Message: "Fly gives the addresses of Services.",
			Hint:    "use its name",
			Doc:     docServices,
		},
		{
			ID: "FKS413", Name: "cloud-annotation", Kinds: services,
			Path: `metadata.annotations(["service.beta.kubernetes.io/*"]|["service.kubernetes.io/*"]|["cloud.google.com/*"]|["networking.gke.io/*"]|["metallb.io/*"]|["metallb.universe.tf/*"]` +
				`|["kubernetes.digitalocean.com/*"]|["load-balancer.hetzner.cloud/*"]|["oci.oraclecloud.com/*"])`,
			Action:  Drop,
			Message: "It is for the load balancer of another cloud.",
			Doc:     Undocumented,
		},
		{
			ID: "FKS414", Name: "annotation-number", Kinds: services, Path: `metadata.annotations["service.fly.io/*"]`, When: When{Words: "it is a number or a truth value"},
			Action: Rewrite, holds: isNoText, change: becomesText,
			Message: "Values of annotations are text; Fly's examples leave out the quotes.",
			Hint:    "quote it",
			Doc:     docServices,
		},
		{
			ID: "FKS415", Name: "annotation-unknown", Kinds: services, Path: `metadata.annotations["service.fly.io/*"]`,
			When:   When{Words: "it is none that is documented, or names no port of the Service"},
			Action: Warn, holds: strange,
			Message: "No such annotation is documented, or the Service has no such port.",
			Hint:    "it is service.fly.io/PORT-handlers, -tls-alpn, -tls-versions or -tls-default-self-signed, where PORT is a name or a number, or service.fly.io/concurrency-kind, -limit-soft or -limit-hard",
			Doc:     docServices,
		},
		{
			ID: "FKS416", Name: "app-annotation", Kinds: services, Path: `metadata.annotations(["fly.io/app"]|["fly.io/domains"])`, Action: Note,
			Message: "Nothing is said of this annotation on a Service, and nothing relies on it.",
			Hint:    "certificates and DNS of a domain are those of the cluster's app",
			Doc:     Undocumented,
		},
		{
			// When Services no more go by their names.
			ID: "FKS417", Name: "container-ports", Kinds: podKinds, Path: "{container}.ports", Action: Rewrite, change: leftOut,
			Message: "The ports of a container are not supported, and not needed: Services say which are used, by number.",
			Doc:     docPods,
		},
	}
}
