package forge

import "time"

// Platform kinds.
const (
	PlatformCompose    = "compose"    // Docker Compose on this machine
	PlatformMinikube   = "minikube"   // a cluster on one's own machine
	PlatformKubernetes = "kubernetes" // any other cluster
	PlatformFKS        = "fks"        // Fly Kubernetes
	PlatformFly        = "fly"        // Fly Machines
)

// Distributions of Kubernetes.
const (
	DistributionGeneric = "generic"
	DistributionEKS     = "eks"
	DistributionGKE     = "gke"
	DistributionAKS     = "aks"
)

// Platform is where an environment runs.
type Platform struct {
	Kind string

	// Kubernetes in all its kinds.
	Distribution    string // of kind kubernetes
	Context         string // kubeconfig context; never the current one
	Kubeconfig      string // empty: the standard search path; on FKS: the cluster's own
	Namespace       string
	CreateNamespace bool
	StorageClass    string   // empty: the cluster's default
	Impersonate     string   // user to act as; empty: whom the kubeconfig names
	PodCIDRs        []string // empty: not known
	LoadImages      bool     // minikube: load the image into the node
	MovedFrom       *Former  // where the environment stood before; nil: nowhere else

	// Fly in both kinds.
	Org          string // slug
	Token        SecretRef
	Inventory    string   // app of forged's own, for what is known of the environment
	Cluster      string   // fks: name of the cluster
	Create       bool     // fks: make the cluster when it is missing
	Region       string   // fks: of the cluster
	AcceptsBeta  bool     // fks: somebody has typed that it is a closed beta
	StatefulSets bool     // fks: databases in the cluster run as StatefulSets
	Allow        []string // fks: ids of rules that only warn; sorted
	AppName      string   // fly
	Network      string   // fly; empty: the organization's own
	Guest        Guest    // fly
	Deployment   string   // fly: strategy: rolling, bluegreen, canary, immediate

	// Compose.
	Project string
	DataDir string // absolute, or as seen from the working directory
	Bind    string // address that published ports listen on
}

// Former is a namespace of a cluster where an environment stood before.
type Former struct{ Context, Kubeconfig, Impersonate, Namespace string }

// OnKubernetes tells whether the platform is a Kubernetes cluster.
func (p Platform) OnKubernetes() bool {
	return p.Kind == PlatformMinikube || p.Kind == PlatformKubernetes || p.Kind == PlatformFKS
}

// Guest is the size of a Fly Machine.
type Guest struct {
	CPUKind  string // shared, performance
	CPUs     int
	MemoryMB int // mebibytes, as Fly counts
}

// Region is one more place of an environment: a Fly region, or a cluster. What
// it does not say is as in the environment.
type Region struct {
	Name string

	// Kubernetes.
	Context    string
	Kubeconfig string
	Namespace  string
	Domains    []string // nil: the environment's
	TLS        *TLS     // nil: the environment's
	Scaling    *Scaling // nil: the environment's

	// Fly.
	Machines int
	Primary  bool
}

// Expose kinds.
const (
	ExposeNone         = "none"
	ExposePort         = "port"         // a port of this machine
	ExposeIngress      = "ingress"      // an Ingress
	ExposeGateway      = "gateway"      // an HTTPRoute of the Gateway API
	ExposeLoadBalancer = "loadbalancer" // a Service of its own
	ExposeFly          = "fly"          // Fly's proxy
)

// Expose is how the outside reaches the app.
type Expose struct {
	Kind         string
	Port         int               // port
	ClassName    string            // ingress
	Annotations  map[string]string // ingress, gateway, loadbalancer
	RedirectHTTP bool              // ingress, fly: send plain HTTP to HTTPS
	Gateway      ObjectRef         // gateway
	TLS          TLS
	PublicIPv4   string // fly: shared, dedicated, none
	PublicIPv6   bool   // fly

	Certificates []OwnCertificate // fly; sorted by Domain

	Edge Edge // loadbalancer on fks
}

// Edge is how Fly's proxy serves a port of a load balancer.
type Edge struct {
	Concurrency string   // connections, requests; empty: Fly's
	SoftLimit   int      // of each pod, before others are preferred; 0: Fly's
	HardLimit   int      // of each pod; 0: Fly's
	ALPN        []string // what is offered when a client encrypts; empty: Fly's
	TLSVersions []string // empty: Fly's
	SelfSigned  bool     // serve a certificate of Fly's own making until there is one
}

// OwnCertificate is a certificate of the user's, in PEM.
type OwnCertificate struct {
	Domain string
	Chain  SecretRef // the domain's certificate first
	Key    SecretRef
}

// ObjectRef names an object of Kubernetes.
type ObjectRef struct {
	Kind      string
	Name      string
	Namespace string // empty: the environment's
}

// Who provides the certificate.
const (
	TLSNone        = "none"
	TLSSelfSigned  = "self-signed"
	TLSCertManager = "cert-manager"
	TLSSecret      = "secret"
	TLSACM         = "acm"
	TLSGKEManaged  = "gke-managed"
	TLSFly         = "fly"
)

// TLS is the encryption between the outside and where the app is exposed.
type TLS struct {
	Mode        string
	Secret      string        // secret, cert-manager, self-signed: Secret with the certificate
	Valid       time.Duration // self-signed: how long a certificate is
	Issuer      Issuer        // cert-manager
	ARN         string        // acm
	Certificate string        // gke-managed: name of the ManagedCertificate
	StaticIP    string        // gke-managed: name of the reserved address; empty: any
}

// Issuer is who cert-manager asks. One that is not created must be there.
type Issuer struct {
	Kind   string // ClusterIssuer, Issuer
	Name   string
	Create bool
	Email  string // of the ACME account
	Server string // production, staging
}
