package schema

var neighbourRules = []Rule{
	{
		ID: "F501", Name: "no-environment", Severity: SeverityError,
		Title: "There is an environment.",
		Why:   "A forge without one asks for nothing. That is hardly ever meant, and everything that ran before would be left over.",
		Wrong: `environments: {}
`,
		Right: `environments: dev: platform: kind: "minikube"
`,
	},
	{
		ID: "F502", Name: "same-namespace", Severity: SeverityError,
		Title: "Two environments do not share a namespace.",
		Why:   "Both would write the same objects, each over the other, without an end.",
		Wrong: `environments: {
	blue: platform: {kind: "kubernetes", context: "acme-prod", namespace: "shop"}
	green: platform: {kind: "kubernetes", context: "acme-prod", namespace: "shop"}
}
`,
		Right: `environments: {
	blue: platform: {kind: "kubernetes", context: "acme-prod", namespace: "shop-blue"}
	green: platform: {kind: "kubernetes", context: "acme-prod", namespace: "shop-green"}
}
`,
	},
	{
		ID: "F503", Name: "same-domain", Severity: SeverityError,
		Title: "A domain is written once for each cluster.",
		Why:   "Which of two environments on one cluster answers to a name would be a matter of luck.",
		Wrong: `environments: {
	blue: {
		platform: kind: "minikube"
		domains: ["shop.local"]
		expose: kind: "ingress"
	}
	green: {
		platform: kind: "minikube"
		domains: ["shop.local"]
		expose: kind: "ingress"
	}
}
`,
		Right: `environments: {
	blue: {
		platform: kind: "minikube"
		domains: ["blue.shop.local"]
		expose: kind: "ingress"
	}
	green: {
		platform: kind: "minikube"
		domains: ["green.shop.local"]
		expose: kind: "ingress"
	}
}
`,
	},
	{
		ID: "F504", Name: "same-fly-app", Severity: SeverityError,
		Title: "Two environments do not share a Fly app.",
		Why: "The names of Fly apps are the same in all of Fly. Two environments with one app would replace each other's machines. " +
			"A Redis or Temporal that forged runs at Fly has an app of its own, called APP-redis, APP-temporal and APP-temporal-web after the one it is for.",
		Wrong: `environments: {
	blue: {
		platform: {kind: "fly", org: "acme", appName: "acme-shop"}
		regions: iad: primary:    true
		services: postgres: mode: "off"
	}
	green: {
		platform: {kind: "fly", org: "acme", appName: "acme-shop"}
		regions: iad: primary:    true
		services: postgres: mode: "off"
	}
}
`,
		Right: `environments: {
	blue: {
		platform: {kind: "fly", org: "acme", appName: "acme-shop-blue"}
		regions: iad: primary:    true
		services: postgres: mode: "off"
	}
	green: {
		platform: {kind: "fly", org: "acme", appName: "acme-shop-green"}
		regions: iad: primary:    true
		services: postgres: mode: "off"
	}
}
`,
	},
	{
		ID: "F505", Name: "same-database", Severity: SeverityError,
		Title: "Two environments do not share a database that forged makes.",
		Why:   "Migrations of one environment would change the data under the other, and removing one would take the data of both.",
		Wrong: `environments: {
	blue: {
		platform: {kind: "fly", org: "acme"}
		regions: iad: primary:       true
		services: postgres: cluster: "acme-db"
	}
	green: {
		platform: {kind: "fly", org: "acme"}
		regions: iad: primary:       true
		services: postgres: cluster: "acme-db"
	}
}
`,
		Right: `environments: {
	blue: {
		platform: {kind: "fly", org: "acme"}
		regions: iad: primary: true
		services: postgres: {cluster: "acme-db", database: "blue"}
	}
	green: {
		platform: {kind: "fly", org: "acme"}
		regions: iad: primary: true
		services: postgres: {cluster: "acme-db", database: "green"}
	}
}
`,
	},
	{
		ID: "F506", Name: "same-project", Severity: SeverityError,
		Title: "Two environments do not share a project of Docker Compose, or a port of this machine.",
		Why:   "Docker tells containers apart by their project, and a port can be published once: one on 0.0.0.0 or :: is taken on every address.",
		Wrong: `environments: {
	blue: platform: {kind: "compose", project: "shop"}
	green: {
		platform: {kind: "compose", project: "shop"}
		expose: port: 8001
	}
}
`,
		Right: `environments: {
	blue: platform: {kind: "compose", project: "shop-blue"}
	green: {
		platform: {kind: "compose", project: "shop-green"}
		expose: port: 8001
	}
}
`,
	},
	{
		ID: "F507", Name: "unknown-environment", Severity: SeverityError,
		Title: "An environment that is named exists.",
		Why:   "A notification about an environment that is not there would never be sent, and nobody would miss it.",
		Wrong: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod"}
notifications: ops: {
	kind: "slack"
	url: env: "SLACK_URL"
	environments: ["production"]
}
`,
		Right: `environments: prod: platform: {kind: "kubernetes", context: "acme-prod"}
notifications: ops: {
	kind: "slack"
	url: env: "SLACK_URL"
	environments: ["prod"]
}
`,
	},
}

var buildRules = []Rule{
	{
		ID: "F601", Name: "unsupported", Severity: SeverityWarning,
		Title: "Every platform and feature is one that this build of forged can run.",
		Why: "The language is complete, and forged learns to run it piece by piece. What this build cannot run yet is valid, " +
			"and forged plan and forged run refuse such an environment instead of leaving a part of it out. Name the others with -e.",
	},
	{
		ID: "F602", Name: "partial", Severity: SeverityWarning,
		Title: "Everything that is asked for is done by this build of forged.",
		Why: "The language is complete, and forged learns to run it piece by piece. What is named here is left to you, " +
			"and forged does the rest: it does not need what is left out.",
	},
}
