package schema

var flyRules = []Rule{
	{
		ID: "F401", Name: "fly-region", Severity: SeverityWarning,
		Title: "A region is one of those that Fly had when forged was built.",
		Why:   "Fly opens and closes regions, so an unknown one is no error. Mostly it is a slip, and Fly would refuse it later.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: idd: primary: true
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: primary: true
}
`,
	},
	{
		ID: "F402", Name: "fly-primary", Severity: SeverityError,
		Title: "Exactly one region is the primary one.",
		Why:   "Databases take writes in one region, and migrations run there. With several regions forged does not guess which one it is.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: {
		iad: machines: 2
		lhr: machines: 1
	}
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: {
		iad: {machines: 2, primary: true}
		lhr: machines: 1
	}
}
`,
	},
	{
		ID: "F403", Name: "fly-guest", Severity: SeverityError,
		Title: "The size of a machine is one that Fly has.",
		Why:   "Fly has shared and performance CPUs in certain numbers, and for each of them memory within certain bounds and in certain steps.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme", guest: {cpuKind: "shared", cpus: 3}}
	regions: iad: primary: true
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme", guest: {cpuKind: "shared", cpus: 4}}
	regions: iad: primary: true
}
`,
	},
	{
		ID: "F404", Name: "fly-volume", Severity: SeverityError,
		Title: "A machine has at most one volume, of a size that Fly has.",
		Why:   "At Fly a volume is a disk of one machine in one region, and a machine mounts one. Its size is a whole number of gigabytes, from 1 to 500, and its name has at most 30 characters.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: primary: true
	volumes: {
		uploads: mount: "/app/uploads"
		reports: mount: "/app/reports"
	}
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: primary: true
	volumes: data: mount:  "/app/data"
}
`,
	},
	{
		ID: "F405", Name: "fly-strategy", Severity: SeverityError,
		Title: "Machines with a volume are replaced in place.",
		Why: "The strategies bluegreen and canary start new machines beside the old ones. The disk of an old machine cannot move to a new one while both run, " +
			"and Fly refuses it.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme", strategy: "bluegreen"}
	regions: iad: primary: true
	volumes: data: mount:  "/app/data"
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme", strategy: "rolling"}
	regions: iad: primary: true
	volumes: data: mount:  "/app/data"
}
`,
	},
	{
		ID: "F406", Name: "fly-name", Severity: SeverityError,
		Title: "Names at Fly are well formed, not too long, and not those of Fly Kubernetes.",
		Why:   "The name of a Fly app becomes a host name. Apps whose name begins with fks- are made by Fly Kubernetes, and forged never touches them.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme", appName: "fks-shop"}
	regions: iad: primary: true
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme", appName: "acme-shop"}
	regions: iad: primary: true
}
`,
	},
	{
		ID: "F407", Name: "fly-drain", Severity: SeverityWarning,
		Title: "A worker needs no more time to finish than Fly gives.",
		Why:   "Fly kills a machine five minutes after it was asked to stop, at the latest. Work that takes longer is cut off and must be able to start again.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: primary: true
	workers: mail: {args: ["work"], drain: "20m"}
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: primary: true
	workers: mail: {args: ["work"], drain: "5m"}
}
`,
	},
	{
		ID: "F408", Name: "fly-storage", Severity: SeverityError,
		Title: "A managed database has a size that Fly sells.",
		Why:   "Fly sells disks of managed databases in certain sizes and steps, and they can only grow.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: primary: true
	services: postgres: {mode: "fly-managed", storageGB: 1000}
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: primary: true
	services: postgres: {mode: "fly-managed", storageGB: 100}
}
`,
	},
	{
		ID: "F409", Name: "fly-address", Severity: SeverityError,
		Title: "What Fly's proxy exposes has an address.",
		Why:   "Without an IPv4 and an IPv6 address nobody can reach the app, and its name leads nowhere.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: {}
	expose: {publicIPv4: "none", publicIPv6: false}
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: {}
	expose: kind: "none"
}
`,
	},
	{
		ID: "F410", Name: "fly-volume-each", Severity: SeverityWarning,
		Title: "Machines that share data do not keep it on their volumes.",
		Why:   "At Fly a volume belongs to one machine. With several machines each has another disk, and what one writes the others do not see. For a cache that is right.",
		Wrong: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: machines:  2
	volumes: uploads: mount: "/app/uploads"
}
`,
		Right: `environments: edge: {
	platform: {kind: "fly", org: "acme"}
	regions: iad: machines:  1
	volumes: uploads: mount: "/app/uploads"
}
`,
	},
	{
		ID: "F451", Name: "fks-beta", Severity: SeverityWarning,
		Title: "Somebody has said that they know Fly Kubernetes to be a closed beta.",
		Why:   "Fly does not offer Fly Kubernetes for critical production, and gives access on request only. Write acknowledgeClosedBeta: true to say that you know.",
		Wrong: `environments: prod: platform: {kind: "fks", org: "acme", cluster: "prod", region: "iad"}
`,
		Right: `environments: prod: platform: {
	kind:                  "fks"
	org:                   "acme"
	cluster:               "prod"
	region:                "iad"
	acknowledgeClosedBeta: true
}
`,
	},
	{
		ID: "F452", Name: "fks-data", Severity: SeverityWarning,
		Title: "Data on Fly Kubernetes is kept outside of the cluster.",
		Why: "A volume there is a disk of one host without a copy, and databases in StatefulSets are not documented to work. " +
			"Managed Postgres and Upstash are reached from the cluster and keep copies.",
		Wrong: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
	}
	services: postgres: mode: "in-cluster"
}
`,
		Right: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
	}
	services: postgres: mode: "fly-managed"
}
`,
	},
	{
		ID: "F453", Name: "fks-support", Severity: SeverityWarning,
		Title: "Nothing is asked of Fly Kubernetes that it ignores or rewrites.",
		Why:   "Fly Kubernetes is Kubernetes with parts missing. What it does not have is left out or written differently when it is applied, and this says where.",
		Details: `The table of docs/reference/fks-rules.md says what is missing, and what is done about it. forged explain tells one row of it, such as FKS302.
`,
		Wrong: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
	}
	workers: mail: {args: ["work"], health: exec: ["check"]}
}
`,
		Right: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
	}
	workers: mail: args: ["work"]
}
`,
	},
	{
		ID: "F454", Name: "fks-refused", Severity: SeverityError,
		Title: "Everything that a chart renders to can run on Fly Kubernetes.",
		Why: "A chart of your own is rendered with the values it will have, and looked at by the rules of Fly Kubernetes. What it does not have, and what cannot be said " +
			"in another way, would fail at the rollout, halfway. forged explain says more about the rule that is named, such as FKS201; platform.allowUnsupported lets one pass.",
	},
	{
		ID: "F455", Name: "fks-rule", Severity: SeverityError,
		Title: "A rule of Fly Kubernetes that is to warn only is one of the table.",
		Why:   "An id that forged does not know allows nothing, and what it was to allow would be refused. forged explain has all of them.",
		Wrong: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
		allowUnsupported: ["FKS999"]
	}
}
`,
		Right: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
		allowUnsupported: ["FKS112"]
	}
}
`,
	},
	{
		ID: "F456", Name: "fks-limits", Severity: SeverityError,
		Title: "A pod takes at least as much as it takes before others are preferred.",
		Why:   "Fly's proxy prefers other pods from the soft limit on, and gives a pod no more than the hard limit. A hard limit below the soft one leaves the soft one without meaning.",
		Wrong: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
	}
	expose: concurrency: {soft: 50}
}
`,
		Right: `environments: prod: {
	platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "prod"
		region:                "iad"
		acknowledgeClosedBeta: true
	}
	expose: concurrency: {soft: 50, hard: 60}
}
`,
	},
	{
		ID: "F457", Name: "fks-create", Severity: SeverityError,
		Title: "A cluster of Fly Kubernetes is made by one environment.",
		Why: "Environments may share a cluster. One of them makes it, looks after it and pays for it; to the others it is there, and they leave it as it is. " +
			"Two that make it would each find one that they did not make.",
		Wrong: `environments: {
	prod: platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "acme"
		region:                "iad"
		create:                true
		acknowledgeClosedBeta: true
	}
	staging: platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "acme"
		region:                "iad"
		create:                true
		acknowledgeClosedBeta: true
	}
}
`,
		Right: `environments: {
	prod: platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "acme"
		region:                "iad"
		create:                true
		acknowledgeClosedBeta: true
	}
	staging: platform: {
		kind:                  "fks"
		org:                   "acme"
		cluster:               "acme"
		region:                "iad"
		acknowledgeClosedBeta: true
	}
}
`,
	},
}
