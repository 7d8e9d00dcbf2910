package fks

import "slices"

// What is cited: Fly's documentation of Kubernetes, and what Fly wrote when the
// beta began.
const (
	docFeatures = "https://fly.io/docs/kubernetes/fks-features/"
	docPods     = "https://fly.io/docs/kubernetes/fks-quickstart/"
	docServices = "https://fly.io/docs/kubernetes/services/"
	docVolumes  = "https://fly.io/docs/kubernetes/using-volumes/"
	docBeta     = "https://fly.io/blog/fks-beta-live/"
	docFKS      = "https://fly.io/blog/fks/"
	docMachines = "https://fly.io/docs/machines/guides-examples/machine-sizing/"
)

// table is all rules in the order in which they are applied, which is that of
// their ids: what one row has taken out or said in another way, the rows after
// it do not see. Rows are added at the end of their group, or with a new id
// between; an id is never given to another rule.
func table() []Rule {
	return slices.Concat(kindRules(), podRules(), containerRules(), serviceRules(), storageRules())
}

// kindRules are about objects as a whole.
func kindRules() []Rule {
	return []Rule{
		{
			ID: "FKS101", Name: "ingress-to-service", Kinds: []string{"Ingress.networking.k8s.io"},
			When:   When{Words: "each of its hosts leads to one Service of the same chart with one TCP port, as a whole, and the Service has no other host"},
			Action: Rewrite, holds: becomesService, change: becomeService,
			Message: "There is no Ingress controller: the Service itself is exposed, and Fly's proxy ends TLS.",
			Hint:    "certificates and DNS of the hosts are those of the cluster's app",
			Doc:     docServices, Unless: Capability{IngressClass: true},
		},
		{
			ID: "FKS102", Name: "ingress", Kinds: []string{"Ingress.networking.k8s.io"}, Action: Error,
			Message: "There is no Ingress controller, and a Service of type LoadBalancer cannot tell several hosts or paths apart.",
			Hint:    "give each Service a host of its own, or run a proxy as a Deployment behind a Service of type LoadBalancer",
			Doc:     docServices, Unless: Capability{IngressClass: true},
		},
		{
			ID: "FKS103", Name: "ingress-class", Kinds: []string{"IngressClass.networking.k8s.io"}, Action: Warn,
			Message: "There is no Ingress controller, unless this chart brings one that runs as a Deployment.",
			Hint:    "Fly's proxy ends TLS: a Service of type LoadBalancer is enough",
			Doc:     docServices, Unless: Capability{IngressClass: true},
		},
		{
			ID: "FKS104", Name: "gateway", Kinds: []string{"*.gateway.networking.k8s.io"}, Action: Error,
			Message: "There is no controller of the Gateway API.",
			Hint:    "expose a Service of type LoadBalancer, with service.fly.io/443-handlers: \"http,tls\"",
			Doc:     docServices, Unless: Capability{APIGroup: "gateway.networking.k8s.io"},
		},
		{
			ID: "FKS105", Name: "network-policy", Kinds: []string{"NetworkPolicy.networking.k8s.io"}, Action: Drop,
			Message: "Network policies are not enforced: everything in the organization's private network reaches the pods.",
			Hint:    "do not rely on the network alone: ask for passwords",
			Doc:     docFeatures,
		},
		{
			ID: "FKS106", Name: "autoscaled-replicas", Kinds: []string{"Deployment.apps", "ReplicaSet.apps", "StatefulSet.apps", "ReplicationController"},
			Path: "spec.replicas", When: When{Absent: true, Words: "a HorizontalPodAutoscaler scales it"},
			Action: Rewrite, holds: scaled, change: atLeast,
			Message: "Nothing scales it: it has as many replicas as the HorizontalPodAutoscaler asks for at least.",
			Hint:    "ask for as many replicas as the most work needs",
			Doc:     docFeatures, Unless: Capability{APIGroup: "metrics.k8s.io"},
		},
		{
			ID: "FKS107", Name: "autoscaler", Kinds: []string{"HorizontalPodAutoscaler.autoscaling"}, Action: Drop,
			Message: "Horizontal pod autoscaling is not supported.",
			Hint:    "ask for as many replicas as the most work needs",
			Doc:     docFeatures, Unless: Capability{APIGroup: "metrics.k8s.io"},
		},
		{
			ID: "FKS108", Name: "vertical-autoscaler", Kinds: []string{"VerticalPodAutoscaler.autoscaling.k8s.io"}, Action: Warn,
			Message: "No metrics of pods are documented to be served, so that nothing sizes them.",
			Hint:    "leave it out",
			Doc:     Undocumented, Unless: Capability{APIGroup: "metrics.k8s.io"},
		},
		{
			ID: "FKS109", Name: "daemon-set", Kinds: []string{"DaemonSet.apps"}, Action: Error,
			Message: "DaemonSets are not supported: there are no nodes to run one pod on each.",
			Hint:    "switch it off in the values of the chart; agents of nodes have nothing to do here",
			Doc:     docFeatures,
		},
		{
			ID: "FKS110", Name: "cron-job", Kinds: []string{"CronJob.batch"}, Action: Error,
			Message: "CronJobs are not supported.",
			Hint:    "have the app do it, or a Fly Machine with a schedule",
			Doc:     docFeatures,
		},
		{
			ID: "FKS111", Name: "job", Kinds: []string{"Job.batch"}, Action: Warn,
			Message: "Jobs are not said to work, and not said to be missing.",
			Hint:    "see that it ends; migrations are best left to app.migrate",
			Doc:     Undocumented,
		},
		{
			ID: "FKS112", Name: "stateful-set", Kinds: []string{"StatefulSet.apps"}, Action: Warn,
			Message: "StatefulSets were missing when the beta began, and nothing has been said of them since.",
			Hint:    "keep data outside of the cluster: Managed Postgres, Upstash",
			Doc:     docBeta,
		},
		{
			ID: "FKS113", Name: "disruption-budget", Kinds: []string{"PodDisruptionBudget.policy"}, Action: Note,
			Message: "There are no nodes that are drained, so that nothing asks for it.",
			Doc:     docFKS, Harmless: true,
		},
		{
			ID: "FKS114", Name: "undocumented-kind", Kinds: []string{"PriorityClass.scheduling.k8s.io", "RuntimeClass.node.k8s.io", "ResourceQuota", "LimitRange"}, Action: Warn,
			Message: "Nothing is said of this kind: whether it has any effect is not known.",
			Hint:    "leave it out",
			Doc:     Undocumented,
		},
		{
			ID: "FKS115", Name: "webhook-fails", Kinds: []string{"MutatingWebhookConfiguration.admissionregistration.k8s.io", "ValidatingWebhookConfiguration.admissionregistration.k8s.io"},
			Path: "webhooks[*].failurePolicy", When: When{NoneOf: []string{"Ignore"}, Absent: true}, Action: Error,
			Message: "The API server must reach the webhook, which is not documented to work, and refuses everything when it does not.",
			Hint:    "write failurePolicy: Ignore, or switch the webhook off",
			Doc:     Undocumented,
		},
		{
			ID: "FKS116", Name: "webhook", Kinds: []string{"MutatingWebhookConfiguration.admissionregistration.k8s.io", "ValidatingWebhookConfiguration.admissionregistration.k8s.io"},
			Action:  Warn,
			Message: "The API server must reach the webhook over the private network, which is not documented to work.",
			Hint:    "do not rely on it",
			Doc:     Undocumented,
		},
		{
			ID: "FKS117", Name: "api-service", Kinds: []string{"APIService.apiregistration.k8s.io"}, Path: "spec.service", Action: Warn,
			Message: "The API server must reach the Service behind it, which is not documented to work.",
			Hint:    "see that kubectl get apiservices says that it is available",
			Doc:     Undocumented,
		},
		{
			ID: "FKS118", Name: "cert-manager", Kinds: []string{"*.cert-manager.io"}, Action: Warn,
			Message: "Fly's proxy ends TLS: certificates of cert-manager reach nobody from outside.",
			Hint:    "leave it out, unless programs in the cluster use it among themselves",
			Doc:     docServices, Unless: Capability{APIGroup: "cert-manager.io"},
		},
		{
			ID: "FKS119", Name: "pod-security", Kinds: []string{"Namespace"}, Path: `metadata.labels["pod-security.kubernetes.io/enforce"]`,
			When: When{OneOf: []string{"restricted"}}, Action: Warn,
			Message: "Pods whose containers have no securityContext are refused in it, and it is taken out of them (FKS308).",
			Hint:    "write baseline",
			Doc:     docPods,
		},
		{
			ID: "FKS120", Name: "operator", Kinds: []string{"CustomResourceDefinition.apiextensions.k8s.io"}, Action: Warn,
			Message: "What an operator makes of such objects is made in the cluster, where these rules do not see it: its init containers, sidecars and probes are not fitted.",
			Hint:    "see what the operator makes, or do without it",
			Doc:     Undocumented,
		},
	}
}

// podRules are about the spec of pods.
func podRules() []Rule {
	return []Rule{
		{
			ID: "FKS201", Name: "sidecars", Kinds: podKinds, Path: "{pod}.containers", When: When{More: 1}, Action: Error,
			Message: "A pod has one container: sidecars are not supported.",
			Hint:    "switch them off in the values of the chart, or give each a Deployment of its own",
			Doc:     docFeatures,
		},
		{
			ID: "FKS202", Name: "init-containers", Kinds: podKinds, Path: "{pod}.initContainers", Action: Error,
			Message: "Init containers are not supported.",
			Hint:    "do in the image's entrypoint what they do, or with app.migrate",
			Doc:     docFeatures,
		},
		{
			ID: "FKS203", Name: "host-namespaces", Kinds: podKinds, Path: "{pod}.(hostNetwork|hostPID|hostIPC)", When: When{OneOf: []string{"true"}}, Action: Error,
			Message: "A pod is a machine of its own: there is no host to share with.",
			Hint:    "leave it out",
			Doc:     docFKS,
		},
		{
			ID: "FKS204", Name: "affinity", Kinds: podKinds, Path: "{pod}.affinity", Action: Drop,
			Message: "Affinities to nodes and pods are not supported; machines are spread over Fly's hosts.",
			Hint:    "the region of a pod is the cluster's, or that of its volume",
			Doc:     docFeatures,
		},
		{
			ID: "FKS205", Name: "node-selector", Kinds: podKinds, Path: "{pod}.nodeSelector",
			When:   When{Words: "it asks for linux and amd64 only, which every machine has"},
			Action: Drop, holds: anyMachine,
			Message: "There are no nodes to choose from.",
			Doc:     docFKS, Harmless: true,
		},
		{
			ID: "FKS206", Name: "topology-spread", Kinds: podKinds, Path: "{pod}.topologySpreadConstraints", Action: Drop,
			Message: "There are no nodes to spread over; machines are spread over Fly's hosts.",
			Doc:     docFeatures, Harmless: true,
		},
		{
			ID: "FKS207", Name: "scheduling", Kinds: podKinds,
			Path:    "{pod}.(tolerations|priorityClassName|priority|preemptionPolicy|schedulerName|runtimeClassName|overhead)",
			When:    When{NoneOf: []string{"default-scheduler"}},
			Action:  Drop,
			Message: "Nothing is scheduled onto nodes, and every pod is a machine of its own.",
			Doc:     docFKS, Harmless: true,
		},
		{
			ID: "FKS208", Name: "dns", Kinds: podKinds, Path: "{pod}.(hostAliases|dnsConfig|dnsPolicy)", When: When{NoneOf: []string{"ClusterFirst"}}, Action: Warn,
			Message: "Nothing is said of how names are looked up in a pod: this may have no effect.",
			Hint:    "use names that DNS knows",
			Doc:     Undocumented,
		},
		{
			ID: "FKS209", Name: "pod-names", Kinds: podKinds, Path: "{pod}.(hostname|subdomain|setHostnameAsFQDN)", Action: Warn,
			Message: "Nothing is said of the names of pods: this may have no effect.",
			Hint:    "reach it by a Service",
			Doc:     Undocumented,
		},
		{
			ID: "FKS210", Name: "pod-security-context", Kinds: podKinds, Path: "{pod}.securityContext", Action: Note,
			Message: "That of a container is not read, and nothing is said of that of a pod: the image's user may be the one that counts.",
			Hint:    "let the image have a USER that is not root",
			Doc:     Undocumented,
		},
		{
			ID: "FKS211", Name: "termination", Kinds: podKinds, Path: "{pod}.terminationGracePeriodSeconds", Action: Note,
			Message: "Nothing is said of how long a pod is given to end.",
			Doc:     Undocumented,
		},
		{
			ID: "FKS212", Name: "restart-policy", Kinds: podKinds, Path: "{pod}.restartPolicy", When: When{NoneOf: []string{"Always"}}, Action: Note,
			Message: "Nothing is said of when a pod is started again.",
			Doc:     Undocumented,
		},
		{
			ID: "FKS213", Name: "pull-secrets", Kinds: podKinds, Path: "{pod}.imagePullSecrets", Action: Warn,
			Message: "Nothing is said of registries that ask who pulls.",
			Hint:    "registry.fly.io of the same organization needs none",
			Doc:     Undocumented,
		},
		{
			ID: "FKS214", Name: "service-account", Kinds: podKinds, Path: "{pod}.(serviceAccountName|serviceAccount)", When: When{NoneOf: []string{"default"}}, Action: Note,
			Message: "Nothing is said of tokens for the API server in a pod: what asks it may not get in.",
			Doc:     Undocumented,
		},
		{
			ID: "FKS215", Name: "ephemeral-containers", Kinds: podKinds, Path: "{pod}.ephemeralContainers", Action: Error,
			Message: "A pod has one container.",
			Hint:    "leave them out",
			Doc:     docFeatures,
		},
		{
			ID: "FKS216", Name: "node-wanted", Kinds: podKinds, Path: "{pod}.(nodeSelector|nodeName)",
			When:   When{Words: "it asks for more than linux and amd64"},
			Action: Error, holds: noMachine,
			Message: "There are no nodes to choose from: what it asks for is not looked at.",
			Hint:    "leave it out in the values of the chart; the region of a pod is the cluster's, or that of its volume",
			Doc:     docFKS,
		},
	}
}
