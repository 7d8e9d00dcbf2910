package schema

var appRules = []Rule{
	{
		ID: "F201", Name: "secret-value", Severity: SeverityError,
		Title: "The value of a secret is not in the file.",
		Why: "A forge is kept in version control, where a value stays for ever and everybody who can read it can use it. " +
			"The file says only where the value is found. A real value that was written here once has to be replaced at its source too.",
		Wrong: `app: secrets: PAYMENT_API_KEY: "not-a-real-secret"
`,
		Right: `app: secrets: PAYMENT_API_KEY: file: "secrets/payment-api-key.txt"
`,
	},
	{
		ID: "F202", Name: "secret-source", Severity: SeverityError,
		Title: "A secret has exactly one source.",
		Why:   "With two sources it would depend on the moment which value is used; with none there is no value.",
		Wrong: `app: secrets: PAYMENT_API_KEY: {env: "PAYMENT_API_KEY", file: "secrets/payment-api-key.txt"}
`,
		Right: `app: secrets: PAYMENT_API_KEY: env: "PAYMENT_API_KEY"
`,
	},
	{
		ID: "F203", Name: "secret-missing", Severity: SeverityError,
		Title: "A secret is where the file says it is.",
		Why: "forged validate --resolve looks each secret up and says which cannot be found. The value itself is not shown and not kept. " +
			"Without --resolve nothing is looked up, because the machine that validates is often not the one that may know secrets.",
	},
	{
		ID: "F204", Name: "secret-like", Severity: SeverityWarning,
		Title: "No variable that everybody may read looks like a secret.",
		Why: "Values under env can be read in the file, in the cluster and on every page that shows the app. " +
			"One that looks like a key, a token or a password belongs under secrets.",
		Wrong: `app: env: DATABASE: "postgresql://shop:not-a-real-secret@db.example.com:5432/shop"
`,
		Right: `app: secrets: DATABASE: env: "SHOP_DATABASE"
`,
	},
	{
		ID: "F205", Name: "secret-unused", Severity: SeverityWarning,
		Title: "Every secret of the shared app is used by an environment.",
		Why: "A secret that every environment replaces by one of its own is never read. " +
			"It is left over, and whoever looks for the place to change the value will find the wrong one.",
		Wrong: `app: secrets: API_KEY: env: "API_KEY"
environments: dev: {
	platform: kind: "minikube"
	app: secrets: API_KEY: generate: {}
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	app: secrets: API_KEY: generate: {}
}
`,
	},
	{
		ID: "F206", Name: "latest", Severity: SeverityError,
		Title: "The tag of an image is not latest.",
		Why: "The tag latest names another image tomorrow. Nobody could tell which one runs, a restart would change it, " +
			"and there would be no way back to the one before.",
		Wrong: `app: image: {repository: "ghcr.io/acme/shop-api", tag: "latest"}
`,
		Right: `app: image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}
`,
	},
	{
		ID: "F207", Name: "image-not-pinned", Severity: SeverityError,
		Title: "Every environment ends up with a tag or a digest.",
		Why:   "Which image runs has to be decided in the file. The shared app may leave it open, and then each environment says it.",
		Wrong: `app: image: repository: "ghcr.io/acme/shop-api"
environments: dev: platform: kind: "minikube"
`,
		Right: `app: image: repository: "ghcr.io/acme/shop-api"
environments: dev: {
	platform: kind: "minikube"
	app: image: tag: "1.4.2"
}
`,
	},
	{
		ID: "F208", Name: "digest-needed", Severity: SeverityError,
		Title: "Where policy.pin is digest, the image is named by its digest.",
		Why:   "A tag can be moved to another image in the registry; a digest cannot. An environment with pin: \"digest\" accepts nothing else.",
		Wrong: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: pin: "digest"
}
`,
		Right: `environments: prod: {
	platform: {kind: "kubernetes", context: "acme-prod"}
	policy: pin: "digest"
	app: image: digest: "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
}
`,
	},
	{
		ID: "F209", Name: "set-twice", Severity: SeverityError,
		Title: "A variable is in env or in secrets, not in both.",
		Why:   "A container has one variable of a name. With both it would be a matter of luck which value the app sees.",
		Wrong: `app: {
	env: API_KEY: "none"
	secrets: API_KEY: env: "API_KEY"
}
`,
		Right: `app: secrets: API_KEY: env: "API_KEY"
`,
	},
	{
		ID: "F210", Name: "injected", Severity: SeverityError,
		Title: "Variables that forged makes are not written.",
		Why: "forged makes the variables that lead to the services it runs, such as DATABASE_URL, and changes them with the service. " +
			"A second writer would break the connection at some later time. An app with a service of its own turns the one of forged off.",
		Wrong: `app: secrets: DATABASE_URL: env: "DATABASE_URL"
`,
		Right: `app: secrets: DATABASE_URL: env: "DATABASE_URL"
environments: dev: {
	platform: kind: "minikube"
	services: postgres: mode: "off"
}
`,
	},
	{
		ID: "F211", Name: "prefix", Severity: SeverityError,
		Title: "No variable begins with PRODUCTION_ or DEVELOPMENT_.",
		Why: "Some apps let such names override the plain ones, so that what forged sets would not be what the app uses. " +
			"What differs between environments is written in each environment.",
		Wrong: `app: env: PRODUCTION_LOG_LEVEL: "INFO"
`,
		Right: `app: env: LOG_LEVEL: "INFO"
`,
	},
	{
		ID: "F212", Name: "config-file", Severity: SeverityError,
		Title: "A configuration file has one source, and the file can be read.",
		Why:   "The text of a configuration file is in the forge or in a file beside it. With both nobody could tell which one is meant.",
		Wrong: `app: configFiles: "/app/config.yaml": {file: "config.yaml", text: "log: info"}
`,
		Right: `app: configFiles: "/app/config.yaml": text: "log: info"
`,
	},
	{
		ID: "F213", Name: "mount-twice", Severity: SeverityError,
		Title: "A path in the container is mounted once.",
		Why:   "Volumes and configuration files take a place in the container. Two of them cannot have the same one, and neither can one lie inside another file.",
		Wrong: `environments: dev: {
	platform: kind: "minikube"
	volumes: uploads: mount: "/app/data"
	volumes: reports: mount: "/app/data"
}
`,
		Right: `environments: dev: {
	platform: kind: "minikube"
	volumes: uploads: mount: "/app/uploads"
	volumes: reports: mount: "/app/reports"
}
`,
	},
	{
		ID: "F214", Name: "control-character", Severity: SeverityError,
		Title: "No value that becomes a variable or an argument holds a control character.",
		Why: "Variables and arguments end at a NUL, and other control characters are invisible: they come from copying, and break what reads them. " +
			"Text of several lines belongs into a configuration file.",
		Wrong: `app: env: GREETING: "hello\u0007"
`,
		Right: `app: env: GREETING: "hello"
`,
	},
	{
		ID: "F215", Name: "generated-per-region", Severity: SeverityWarning,
		Title: "A value that several clusters share is not generated in each of them.",
		Why:   "A generated value is made and kept in a cluster. Each cluster makes its own, and what one of them has signed the other does not accept.",
		Wrong: `app: secrets: SESSION_SIGNING_SECRET: generate: {}
environments: prod: {
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
		Right: `app: secrets: SESSION_SIGNING_SECRET: sops: {file: "secrets.enc.yaml", key: "session"}
environments: prod: {
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
}
