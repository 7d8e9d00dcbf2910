package main

import (
	"testing"
)

// kindsForge is the beginning of every forge of TestRBACOfEveryKind.
const kindsForge = `forge: "v1"
app: {name: "shop", image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}}
environments: prod: {
	platform: {kind: "kubernetes", context: "recorded", kubeconfig: "kubeconfig", namespace: "$NAMESPACE"}
	policy: {mode: "apply", prune: "owned", maxDelete: 100}
`

// hazards is a chart of somebody's own: kinds outside of namespaces and ones that
// nobody knows, what it looks up, hooks.
var hazards = map[string]string{
	"own/Chart.yaml": "apiVersion: v2\nname: own\nversion: 1.0.0\n",
	"own/templates/all.yaml": `
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: $NAMESPACE}
value: 10
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: own}
spec: {podSelector: {}, ingress: [{}], egress: [{}]}
---
apiVersion: v1
kind: Pod
metadata: {name: own, annotations: {helm.sh/hook: pre-install, helm.sh/hook-delete-policy: hook-succeeded}}
spec: {restartPolicy: Never, containers: [{name: a, image: a/b:1}]}
`,
}

// failing is a chart whose pods do not come up.
var failing = map[string]string{
	"own/Chart.yaml": "apiVersion: v2\nname: own\nversion: 1.0.0\n",
	"own/templates/all.yaml": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: own}
spec:
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}, annotations: {sandbox.forged.dev/pod: crash-loop}}, spec: {containers: [{name: a, image: a/b:1}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: own}
spec:
  selector: {matchLabels: {a: c}}
  template: {metadata: {labels: {a: c}, annotations: {sandbox.forged.dev/pod: image-missing}}, spec: {containers: [{name: a, image: a/b:1}]}}
`,
}

// TestRBACOfEveryKind: whatever an environment may ask for works with the rights
// of forged rbac and no others: it is installed, what is edited and deleted is
// healed, and what is not asked for any more goes. Controllers of others are
// played by the test.
func TestRBACOfEveryKind(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rest    string // of the environment
		less    string // the same, with less in it
		kinds   []string
		files   map[string]string
		before  func(*restricted)
		regions []string
		first   int // exit code of the runs with all of it
	}{
		{
			name: "cert-manager with an Issuer", kinds: []string{"cert-manager"}, before: (*restricted).manager,
			rest: `domains: ["shop.acme.test"], services: {postgres: mode: "off", redis: mode: "off"}
				expose: {kind: "ingress", tls: {mode: "cert-manager", issuer: {kind: "Issuer", create: {email: "ops@acme.test", server: "staging"}}}}`,
			less: `services: {postgres: mode: "off", redis: mode: "off"}, expose: kind: "none"`,
		},
		{
			name: "cert-manager with a ClusterIssuer", kinds: []string{"cert-manager"}, before: (*restricted).manager,
			rest: `domains: ["shop.acme.test"], services: {postgres: mode: "off", redis: mode: "off"}
				expose: {kind: "ingress", tls: {mode: "cert-manager", issuer: {kind: "ClusterIssuer", name: "$NAMESPACE", create: {email: "ops@acme.test", server: "staging"}}}}`,
			less: `services: {postgres: mode: "off", redis: mode: "off"}, expose: kind: "none"`,
		},
		{
			name: "gateway", kinds: []string{"gateway"}, before: (*restricted).gateway,
			rest: `domains: ["shop.acme.test"], services: {postgres: mode: "off", redis: mode: "off"}
				expose: {kind: "gateway", gateway: name: "web"}`,
			less: `services: {postgres: mode: "off", redis: mode: "off"}, expose: kind: "none"`,
		},
		{
			name: "gke", kinds: []string{"gke"},
			rest: `platform: distribution: "gke", domains: ["shop.acme.test"], services: {postgres: mode: "off", redis: mode: "off"}
				expose: {kind: "ingress", className: "gce", tls: {mode: "gke-managed", staticIP: "shop-ip"}}`,
			less: `platform: distribution: "gke", services: {postgres: mode: "off", redis: mode: "off"}, expose: kind: "none"`,
		},
		{
			name: "traefik and a certificate of somebody else", kinds: []string{"traefik"}, before: (*restricted).certificate,
			rest: `domains: ["shop.acme.test"], services: {postgres: mode: "off", redis: mode: "off"}
				expose: {kind: "ingress", className: "traefik", tls: {mode: "secret", secretName: "mine"}}`,
			less: `services: {postgres: mode: "off", redis: mode: "off"}, expose: kind: "none"`,
		},
		{
			name: "load balancer and Temporal",
			rest: `expose: kind: "loadbalancer", services: {postgres: {storage: "1Gi", tls: true, backup: {enabled: true, schedule: "15 2 1 1 1"}}, redis: mode: "off", temporal: {mode: "in-cluster", web: enabled: true}}
				networkPolicy: "strict"`,
			less: `expose: kind: "none", services: {postgres: {storage: "1Gi", tls: true}, redis: mode: "off"}`,
		},
		{
			name: "services of somebody else", before: (*restricted).services,
			rest: `services: {
				postgres: {mode: "external", url: kubernetes: {name: "theirs", key: "url"}, caBundle: kubernetes: {name: "theirs", key: "ca"}, manageRoles: true, admin: kubernetes: {name: "theirs", key: "admin"}}
				redis: {mode: "external", url: kubernetes: {name: "theirs", key: "redis"}, check: "cluster"}
			}`,
			less: `services: {postgres: mode: "off", redis: mode: "off"}`,
		},
		{
			name: "own charts", files: hazards,
			rest: `services: {postgres: mode: "off", redis: mode: "off"}, charts: own: {kind: "path", path: "own"}`,
			less: `services: {postgres: mode: "off", redis: mode: "off"}`,
		},
		{
			name: "a rollout that fails, and a volume that grows", files: failing, first: exitError,
			rest: `services: {postgres: mode: "off", redis: mode: "off"}, policy: timeout: "10s", charts: own: {kind: "path", path: "own"}
				volumes: uploads: {mount: "/uploads", size: "1Gi", access: "ReadWriteMany", storageClass: "standard"}`,
			less: `services: {postgres: mode: "off", redis: mode: "off"}, volumes: uploads: {mount: "/uploads", size: "2Gi", access: "ReadWriteMany", storageClass: "standard"}`,
		},
		{
			name: "regions", regions: []string{"us", "eu"}, before: (*restricted).second,
			rest: `regions: {us: context: "recorded", eu: {context: "recorded", namespace: "$NAMESPACE-eu"}}
				services: {postgres: mode: "off", redis: mode: "off"}, workers: mail: args: ["mail"]`,
			less: `regions: {us: context: "recorded", eu: {context: "recorded", namespace: "$NAMESPACE-eu"}}
				services: {postgres: mode: "off", redis: mode: "off"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(imageVariable, "registry.acme.test/forged:1.0.0")
			r := newRestricted(t, kindsForge+tt.rest+"\n}\n")
			for name, text := range tt.files {
				r.write(name, text)
			}
			r.dynamic()
			for _, kind := range tt.kinds {
				r.install(kind)
			}
			if tt.before != nil {
				tt.before(r)
			}
			if tt.regions == nil {
				tt.regions = []string{""}
			}
			for _, region := range tt.regions {
				r.grant(region)
			}
			defer r.play()()
			r.run(tt.first)
			r.meddle()
			r.run(tt.first)
			r.write("forge.cue", kindsForge+tt.less+"\n}\n")
			r.run(exitOK)
			r.judge(func(one right) string {
				if one.verb == "delete" && one.name == "" {
					return "when a chart makes it no longer, or a field cannot be changed in place: TestRBAC"
				}
				return rare(one)
			})
		})
	}
}
