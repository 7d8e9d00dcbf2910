package flyemulator

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Clusters makes the control planes behind Fly Kubernetes. It is called while
// the emulator is locked: it only begins, and tells the end with ClusterReady
// or ClusterFailed.
type Clusters interface {
	Make(c Cluster)
	Delete(c Cluster)
}

// Cluster is one of Fly Kubernetes.
type Cluster struct {
	ID     string // of its add-on
	AddOn  string // its name
	Name   string // in names of hosts: fks-<organization>-<add-on>
	Org    string
	App    string // that its pods run in
	Region string
}

// ClusterWay is what one needs to reach a cluster, besides its name.
type ClusterWay struct {
	CA    []byte // that its API server is known by, as PEM
	Proxy string // URL of what stands for the organization's network; empty: nothing does
}

// Clusters are those of Fly Kubernetes that are there, or being made.
func (e *Emulator) Clusters() []Cluster {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	var out []Cluster
	for _, id := range slices.Sorted(maps.Keys(e.state.AddOns)) {
		if a := e.state.AddOns[id]; a.Pods != "" && a.Status != addOnError {
			out = append(out, a.cluster())
		}
	}
	return out
}

// ClusterReady tells that a cluster can be used, and how. It may be told again:
// the way may have changed.
func (e *Emulator) ClusterReady(id string, way ClusterWay) {
	e.clusterMade(id, func(a *addOn) {
		a.Status, a.Error = addOnReady, ""
		a.Kubeconfig = a.kubeconfig(way)
	})
}

// ClusterFailed tells that there will be no such cluster.
func (e *Emulator) ClusterFailed(id, why string) {
	e.clusterMade(id, func(a *addOn) {
		e.removePods(a)
		a.Status, a.Error, a.Kubeconfig = addOnError, why, ""
	})
}

func (e *Emulator) clusterMade(id string, change func(*addOn)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	if a := e.state.AddOns[id]; a != nil {
		a.Updated = e.now()
		change(a)
		e.wake()
	}
}

// OpensClusters says whose a bearer token is, and whether it opens the clusters
// of the organization now: it must have been made for the whole of it.
func (e *Emulator) OpensClusters(bearer, org string) (owner string, opens bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	for _, t := range e.tokensOf(strings.Split(bearer, ",")) {
		if t.Kind == OrgToken && t.Org == org && t.Profile == profileOrganization {
			return t.owner(), true
		}
	}
	return "", false
}

// CertificateServed says whether Fly answers TLS for a host name on the app.
func (e *Emulator) CertificateServed(app, host string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	a := e.state.Apps[app]
	if a == nil {
		return false
	}
	host = dnsName(host)
	_, rest, _ := strings.Cut(host, ".")
	for _, name := range []string{host, "*." + rest} {
		if cert := a.Certificates[name]; cert != nil && (cert.Fly != nil || cert.Custom != nil) {
			return true
		}
	}
	return false
}

// Resolve is what the world's name servers make of a name.
func (e *Emulator) Resolve(host string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	return e.resolve(host)
}

func (a *addOn) cluster() Cluster {
	return Cluster{ID: a.ID, AddOn: a.Name, Name: a.host(), Org: a.Org, App: a.Pods, Region: a.Region}
}

// host is the name of the API server within .flycast.
func (a *addOn) host() string { return "fks-" + a.Org + "-" + a.Name }

// clusterProvisioned gives a Kubernetes cluster the app that its pods run in,
// and the way in, if nobody has to make what it leads to.
func (e *Emulator) clusterProvisioned(a *addOn) {
	a.Pods = "fks-default-" + e.newID("fks", 16)
	pods, f := e.newApp(e.state.Orgs[a.Org], appRequest{Name: a.Pods})
	if f != nil {
		a.Status, a.Error = addOnError, f.text
		return
	}
	pods.Visible = e.now()
	if e.o.Clusters != nil {
		e.o.Clusters.Make(a.cluster())
		return
	}
	a.Status, a.Kubeconfig = addOnReady, a.kubeconfig(ClusterWay{})
	if e.o.Kubeconfig != nil {
		a.Kubeconfig = e.o.Kubeconfig(a.Name)
	}
}

// removePods deletes the app that the pods of a cluster run in.
func (e *Emulator) removePods(a *addOn) {
	if a.Pods == "" {
		return
	}
	delete(e.state.Apps, a.Pods)
	e.remember(a.Pods)
}

// kubeconfig is the way into a cluster as Fly gives it out: the API server
// answers inside the organization's network only, and the token is one that
// flyctl makes.
func (a *addOn) kubeconfig(way ClusterWay) string {
	var more strings.Builder
	if len(way.CA) > 0 {
		more.WriteString("    certificate-authority-data: " + base64.StdEncoding.EncodeToString(way.CA) + "\n")
	}
	if way.Proxy != "" {
		more.WriteString("    proxy-url: " + way.Proxy + "\n")
	}
	return fmt.Sprintf(kubeconfig, a.host(), a.Org, more.String())
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: %[1]s
clusters:
- name: %[1]s
  cluster:
    server: https://%[1]s.flycast:6443
%[3]s    extensions:
    - name: client.authentication.k8s.io/exec
      extension:
        org: %[2]s
contexts:
- name: %[1]s
  context:
    cluster: %[1]s
    user: %[1]s
users:
- name: %[1]s
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: flyctl
      args: [kubernetes, kubectl-token]
      interactiveMode: Never
      provideClusterInfo: true
`
