package schema

var environmentRules = []Rule{
	{
		ID: "F301", Name: "namespace", Severity: SeverityError,
		Title: "The namespace is not one of the cluster's own, and not too long.",
		Why: "Everything of an environment is in one namespace. Those that begin with kube- belong to the cluster itself, " +
			"and Kubernetes accepts 63 characters.",
		Wrong: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod", namespace: "kube-system"}
`,
		Right: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod", namespace: "shop"}
`,
	},
	{
		ID: "F302", Name: "object-name", Severity: SeverityError,
		Title: "The names that forged gives to objects are not too long, and each is of one thing.",
		Why: "forged makes names from that of the app and that of the worker, service or volume. " +
			"Kubernetes accepts 63 characters, and shortening a name in silence could make two of them the same.",
		Wrong: `app: name: "shop-with-a-name-that-says-what-it-does"
environments: dev: {
	platform: kind: "minikube"
	workers: "mail-and-reports-and-invoices": args: ["work"]
}
`,
		Right: `app: name: "shop"
environments: dev: {
	platform: kind: "minikube"
	workers: "mail-and-reports-and-invoices": args: ["work"]
}
`,
	},
	{
		ID: "F303", Name: "domain-needed", Severity: SeverityError,
		Title: "What is reached by name has a domain.",
		Why: "An Ingress without a host takes the requests for every other app of the cluster, " +
			"and a certificate is made out to names.",
		Wrong: `environments: dev: {
	platform: kind: "minikube"
	expose: kind:   "ingress"
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	expose: kind:   "ingress"
	domains: ["shop.local"]
}
`,
	},
	{
		ID: "F304", Name: "scaling", Severity: SeverityError,
		Title: "max is at least min; a range has a target, and a target has a range.",
		Why: "Between min and max an autoscaler decides, and it needs something to decide by: the use of CPU or of memory. " +
			"Without a range there is no autoscaler, and nothing would read the target.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	scaling: {min: 2, max: 6}
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	scaling: {min: 2, max: 6, cpuTarget: 70}
}
`,
	},
	{
		ID: "F305", Name: "autoscaler-fixed", Severity: SeverityWarning,
		Title: "An autoscaler has room to move.",
		Why: "When min and max are the same the number of replicas is fixed, and a target or a window beside them suggests something else. " +
			"Leave max out to say that the number is fixed.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	scaling: {min: 3, max: 3}
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	scaling: min: 3
}
`,
	},
	{
		ID: "F306", Name: "limit", Severity: SeverityError,
		Title: "A limit is at least the request.",
		Why:   "A replica is promised what it requests and stopped at its limit. Kubernetes refuses a limit below the request.",
		Wrong: `app: resources: {memory: "2Gi", memoryLimit: "1Gi"}
`,
		Right: `app: resources: {memory: "1Gi", memoryLimit: "2Gi"}
`,
	},
	{
		ID: "F307", Name: "bound", Severity: SeverityError,
		Title: "Durations and numbers are within their bounds.",
		Why:   "An interval of a second would ask clusters and clouds more often than they answer, and one of a year would never end. The bounds leave room for everything between.",
		Wrong: `environments: dev: {
	platform: kind:   "minikube"
	policy: interval: "1s"
}
`,
		Right: `environments: dev: {
	platform: kind:   "minikube"
	policy: interval: "1m"
}
`,
	},
	{
		ID: "F308", Name: "window", Severity: SeverityError,
		Title: "Windows for changes have a length, know their time zone and do not overlap.",
		Why:   "Two windows that overlap are one window that nobody has written. A window from a time to the same time would be either nothing or a whole day.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: windows: [
		{from: "09:00", to: "12:00"},
		{from: "11:00", to: "16:00"},
	]
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: windows: [{from: "09:00", to: "16:00"}]
}
`,
	},
	{
		ID: "F309", Name: "ignore-field", Severity: SeverityError,
		Title: "A rule that ignores fields leaves something to keep.",
		Why: "Fields that somebody else owns can be left alone, one by one. Ignoring an object's identity, or all of its spec, " +
			"would switch the keeping of it off without saying so.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: ignore: [{kind: "Deployment", fields: ["metadata.name"]}]
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: ignore: [{kind: "Deployment", fields: ["spec.replicas"]}]
}
`,
	},
	{
		ID: "F310", Name: "volume-shared", Severity: SeverityError,
		Title: "A volume that one node may mount is not mounted by several.",
		Why: "A ReadWriteOnce volume is attached to one node. The second replica, or the replica in the second region, would wait for it for ever. " +
			"A volume that several may mount is ReadWriteMany, where the cluster has one.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	scaling: min: 2
	volumes: uploads: mount: "/app/data"
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	scaling: min: 2
	volumes: uploads: {mount: "/app/data", access: "ReadWriteMany", storageClass: "cephfs"}
}
`,
	},
	{
		ID: "F311", Name: "unknown-need", Severity: SeverityError,
		Title: "What is needed is part of the environment.",
		Why:   "needs lists what must be ready first. Something that the environment does not have will never be ready.",
		Wrong: `environments: dev: {
	platform: kind: "minikube"
	charts: search: {kind: "path", path: "charts/search", needs: ["postgrs"]}
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	charts: search: {kind: "path", path: "charts/search", needs: ["postgres"]}
}
`,
	},
	{
		ID: "F312", Name: "need-cycle", Severity: SeverityError,
		Title: "Needs do not run in a circle.",
		Why:   "In a circle everything waits for something else, and nothing ever starts.",
		Wrong: `environments: dev: {
	platform: kind: "minikube"
	charts: {
		index: {kind: "path", path: "charts/index", needs: ["search"]}
		search: {kind: "path", path: "charts/search", needs: ["index"]}
	}
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	charts: {
		index: {kind: "path", path: "charts/index"}
		search: {kind: "path", path: "charts/search", needs: ["index"]}
	}
}
`,
	},
	{
		ID: "F313", Name: "cloud-auth", Severity: SeverityError,
		Title: "Temporal Cloud is entered with an API key or with a certificate, and with one of them.",
		Why:   "Temporal Cloud lets nobody in without either, and a client shows just one.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	services: temporal: {mode: "cloud", address: "acme.a1b2c.tmprl.cloud:7233", namespace: "acme.a1b2c"}
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	services: temporal: {
		mode:      "cloud"
		address:   "acme.a1b2c.tmprl.cloud:7233"
		namespace: "acme.a1b2c"
		apiKey: env: "TEMPORAL_API_KEY"
	}
}
`,
	},
	{
		ID: "F314", Name: "data-in-two-clusters", Severity: SeverityError,
		Title: "An environment in several clusters keeps its data outside of them.",
		Why: "A database in a cluster can be reached there and nowhere else. In two clusters there would be two databases with different data. " +
			"Several clusters share a service that somebody else runs.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-us"}
	regions: {
		us: context: "acme-us"
		eu: context: "acme-eu"
	}
	services: redis: mode: "off"
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-us"}
	regions: {
		us: context: "acme-us"
		eu: context: "acme-eu"
	}
	services: {
		postgres: {mode: "external", url: env: "SHOP_DATABASE"}
		redis: mode: "off"
	}
}
`,
	},
	{
		ID: "F315", Name: "region-twice", Severity: SeverityError,
		Title: "Each region of an environment is another cluster or namespace.",
		Why:   "Two regions in the same namespace of the same cluster would write the same objects, each over the other.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-us"}
	regions: {
		us: context: "acme-us"
		eu: context: "acme-us"
	}
	services: {
		postgres: mode: "off"
		redis: mode:    "off"
	}
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-us"}
	regions: {
		us: context: "acme-us"
		eu: context: "acme-eu"
	}
	services: {
		postgres: mode: "off"
		redis: mode:    "off"
	}
}
`,
	},
	{
		ID: "F316", Name: "chart-source", Severity: SeverityError,
		Title: "A chart can be found: in its directory, or at its address in the version that is named.",
		Why:   "A chart of your own takes the place of the one in forged. One that is not there, or is not a chart, would be noticed only when it is needed.",
	},
	{
		ID: "F317", Name: "chart-impure", Severity: SeverityWarning,
		Title: "A chart renders the same from the same values.",
		Why: "Templates that use the time, random values or what the cluster holds render differently each time. " +
			"forged renders such a chart only when its version or its values change, and compares the cluster with what it rendered then.",
	},
	{
		ID: "F318", Name: "compile", Severity: SeverityError,
		Title: "Every environment can be turned into resources.",
		Why: "No forge.cue should break this rule: what does not fit together is found by other rules, with a line. " +
			"It is kept for what none of them has noticed, so that nothing is done then. That is a mistake in forged: please report it, with the message.",
	},
	{
		ID: "F319", Name: "temporal-database", Severity: SeverityError,
		Title: "A Temporal that forged runs has a PostgreSQL.",
		Why:   "Temporal keeps its workflows in the PostgreSQL of the environment. Without one it cannot start.",
		Wrong: `environments: dev: {
	platform: kind: "minikube"
	services: {
		postgres: mode: "off"
		temporal: mode: "in-cluster"
	}
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	services: temporal: mode: "in-cluster"
}
`,
	},
	{
		ID: "F320", Name: "redirect", Severity: SeverityError,
		Title: "Requests are sent to HTTPS only where there is a certificate.",
		Why:   "A redirect to a port on which nobody answers makes the app unreachable.",
		Wrong: `environments: dev: {
	platform: kind: "minikube"
	domains: ["shop.local"]
	expose: {kind: "ingress", redirectHTTP: true}
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	domains: ["shop.local"]
	expose: {kind: "ingress", redirectHTTP: true, tls: mode: "self-signed"}
}
`,
	},
	{
		ID: "F321", Name: "tls-domain", Severity: SeverityError,
		Title: "The certificate that is asked for can be had for the domain.",
		Why: "Certificates that Google manages have no wildcards, and an issuer that proves a name over HTTP cannot prove one. " +
			"One of your own for a host that is not among the domains would be shown to nobody. " +
			"Names below fly.dev are those that Fly gives out: they are not yours to ask for.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	domains: ["*.example.com"]
	expose: {
		kind: "ingress"
		tls: {mode: "cert-manager", issuer: create: email: "ops@example.com"}
	}
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	domains: ["shop.example.com"]
	expose: {
		kind: "ingress"
		tls: {mode: "cert-manager", issuer: create: email: "ops@example.com"}
	}
}
`,
	},
	{
		ID: "F322", Name: "home-region", Severity: SeverityError,
		Title: "The cluster of the platform is one of the regions.",
		Why:   "Migrations run once, in the cluster of the platform. Where the app does not run, they would change a database that it does not use.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-ci"}
	regions: us: context: "acme-us"
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-us"}
	regions: us: context: "acme-us"
}
`,
	},
	{
		ID: "F323", Name: "tls-class", Severity: SeverityError,
		Title: "The controller of the Ingress can read the certificate.",
		Why:   "The load balancer that the class alb makes takes certificates from AWS Certificate Manager. It reads no Secret, and cert-manager writes one.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", distribution: "eks", context: "acme-prod"}
	domains: ["shop.example.com"]
	expose: {
		kind: "ingress"
		tls: {mode: "secret", secretName: "shop-tls"}
	}
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", distribution: "eks", context: "acme-prod"}
	domains: ["shop.example.com"]
	expose: {
		kind: "ingress"
		tls: {mode: "acm", arn: "arn:aws:acm:us-east-1:123456789012:certificate/0f1e2d3c"}
	}
}
`,
	},
	{
		ID: "F324", Name: "strict-field", Severity: SeverityError,
		Title: "A strict rule names fields that forged writes.",
		Why: "The API server completes a spec with defaults, and others write the status and the identity of an object. " +
			"Taking all of that away again would never end, so a rule names the list or the map that nobody may add to.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: strict: [{kind: "Deployment", fields: ["spec"]}]
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: strict: [{kind: "Deployment", fields: ["spec.template.spec.containers[*].env"]}]
}
`,
	},
	{
		ID: "F325", Name: "chart-render", Severity: SeverityWarning,
		Title: "What a chart renders to can be applied in its environment.",
		Why: "A chart of your own is rendered with the values it will have, without a cluster. An object that cannot be read, is there twice, or is meant for " +
			"another namespace would be refused at the rollout. What depends on the cluster may be another matter there, so this is a warning.",
	},
	{
		ID: "F326", Name: "chart-replicas", Severity: SeverityWarning,
		Title: "A chart that scales a workload leaves its number of pods to the autoscaler.",
		Why:   "A template that sets replicas says how many there are, and so does the autoscaler. Whoever applies the template sets back what the autoscaler has decided.",
	},
	{
		ID: "F327", Name: "moved-from", Severity: SeverityError,
		Title: "An environment has moved from somewhere else.",
		Why: "What stands where the environment was before is kept, or removed when all is ready in the new place. Where both are the same, that would be one thing " +
			"with two names. A kubeconfig or a namespace that is not written is the usual one, or the one that the environment has now.",
		Wrong: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod", movedFrom: context: "acme-prod"}
`,
		Right: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod", movedFrom: context: "acme-old"}
`,
	},
}
