package schema

var keyRules = []Rule{
	{
		ID: "F101", Name: "unknown-key", Severity: SeverityError,
		Title: "Every key is part of the language.",
		Why: "A key that nobody reads is a slip, and its value would have no effect without anybody noticing. " +
			"Fields whose name begins with _ are yours.",
		Wrong: `app: prot: 8000
`,
		Right: `app: port: 8000
`,
	},
	{
		ID: "F102", Name: "unread-key", Severity: SeverityError,
		Title: "Every key is read: it does not depend on something that is not chosen.",
		Why: "Some keys belong to one choice, such as the class of an Ingress. With another choice they would have no effect. " +
			"Either the choice is wrong, or the key is left over.",
		Wrong: `environments: dev: {
	platform: kind: "minikube"
	expose: {kind: "none", className: "nginx"}
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	expose: {kind: "ingress", className: "nginx"}
	domains: ["shop.local"]
}
`,
	},
	{
		ID: "F103", Name: "not-on-platform", Severity: SeverityError,
		Title: "Every key and value is one that the platform of the environment can do.",
		Why: "Platforms differ: Docker Compose has no Ingress, Fly Machines have no namespace. A platform offers only what it can really run, " +
			"so that a forge which is valid does not fail there.",
		Wrong: `environments: dev: {
	platform: kind: "compose"
	expose: kind:   "ingress"
}
`,
		Right: `environments: dev: {
	platform: kind: "compose"
	expose: {kind: "port", port: 8080}
}
`,
	},
	{
		ID: "F104", Name: "missing-key", Severity: SeverityError,
		Title: "Keys without a default are written.",
		Why:   "Where a default would be a guess there is none: which cluster is meant, or who provides a certificate, only you can say.",
		Wrong: `environments: prod: platform: kind: "kubernetes"
`,
		Right: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod"}
`,
	},
	{
		ID: "F105", Name: "closed", Severity: SeverityError,
		Title: "A definition of the file allows what is added to it.",
		Why: "In CUE a name that begins with # is a definition, and closed: nothing can be added to it, not even the defaults of the language. " +
			"What several environments share is written under a name that begins with _.",
		Wrong: `#minikube: kind: "minikube"
environments: dev: platform: #minikube
`,
		Right: `_minikube: kind: "minikube"
environments: dev: platform: _minikube
`,
	},
	{
		ID: "F106", Name: "name", Severity: SeverityError,
		Title: "Names that are free to choose are well formed.",
		Why: "The names of environments, workers and volumes become parts of names in clusters and at Fly, and the names of variables are read by shells. " +
			"They keep to what all of them accept.",
		Wrong: `environments: Prod: platform: {kind: "kubernetes", context: "acme-prod"}
`,
		Right: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod"}
`,
	},
	{
		ID: "F107", Name: "value", Severity: SeverityError,
		Title: "A value is one of those its key accepts, and there is just one.",
		Why: "The reference of the language says for each key what it accepts. A value that is written twice must be the same twice: " +
			"CUE puts everything together that is written about a field, and does not let one place win.",
		Wrong: `app: port: "8000"
`,
		Right: `app: port: 8000
`,
	},
	{
		ID: "F108", Name: "version", Severity: SeverityError,
		Title: "The version of the language is one that this build reads.",
		Why:   "Every forge begins with the version of the language it is written in, so that a later forged knows how to read it.",
		Wrong: `forge: "v2"
`,
		Right: `forge: "v1"
`,
	},
	{
		ID: "F109", Name: "deprecated-key", Severity: SeverityWarning,
		Title: "No key is written that a later version will not read.",
		Why:   "The key still works. Its replacement does the same or more, and the next version of the language has only that.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	domains: ["api.example.com"]
	expose: {kind: "ingress", tls: {mode: "secret", name: "shop-tls"}}
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	domains: ["api.example.com"]
	expose: {kind: "ingress", tls: {mode: "secret", secretName: "shop-tls"}}
}
`,
	},
}
