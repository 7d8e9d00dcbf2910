package up_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/sandbox/fks"
	"forged.dev/forged/sandbox/up"
)

// atFly is a sandbox with Fly Kubernetes, and one cluster of it.
type atFly struct {
	*sandbox
	fly     *sandboxtest.Fly
	cluster *sandboxtest.FlyCluster
	client  kubernetes.Interface
}

func flyOptions(dir string) up.Options {
	return up.Options{Dir: dir, Nodes: 1, FKS: 1, FlySpeed: 1000, Command: command(), Out: io.Discard}
}

func runFKS(t *testing.T, opts up.Options) *atFly {
	t.Helper()
	s := &atFly{sandbox: runHere(t, opts)}
	s.awaitReady()
	var err error
	if s.fly, err = sandboxtest.FlyAt(opts.Dir); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *atFly) open(t *testing.T, name string) {
	t.Helper()
	s.cluster = s.fly.Open(t, name)
	s.client = s.cluster.Client
}

func (s *atFly) create(t *testing.T, name string) {
	t.Helper()
	if err := s.fly.CreateCluster(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	s.open(t, name)
}

// One cluster of Fly Kubernetes, from the add-on to what the world sees.
func TestFKS(t *testing.T) {
	opts, restart := flyOptions(t.TempDir()), make(chan os.Signal)
	opts.Restart = restart
	s := runFKS(t, opts)
	s.create(t, "one")
	t.Run("kubeconfig", s.testKubeconfig)
	t.Run("cluster", s.testCluster)
	t.Run("tokens", s.testTokens)
	t.Run("full", func(t *testing.T) {
		if err := s.fly.CreateCluster(t.Context(), "two"); err != nil {
			t.Fatal(err)
		}
		if _, failure := s.fly.AwaitCluster(t, "two"); !strings.Contains(failure, "no control plane is free") {
			t.Errorf("got %q", failure)
		}
	})
	t.Run("pods", s.testPods)
	t.Run("volumes", s.testFlyVolumes)
	t.Run("edge", s.testEdge)
	t.Run("reject", s.testReject)
	t.Run("restart", func(t *testing.T) {
		watched, err := s.client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		restart <- up.RestartSignal
		for range watched.ResultChan() { // ends with the connection
		}
		eventually(t, "the API server answers again", func() (bool, error) {
			_, err := s.client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
			return err == nil, err
		})
	})
	t.Run("again", func(t *testing.T) {
		if _, err := s.client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("old"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.fly.Graph(t.Context(), `mutation{deleteAddOn(input:{name:"one",provider:"kubernetes"}){deletedAddOnName}}`, nil, nil); err != nil {
			t.Fatal(err)
		}
		s.create(t, "one") // its place is free
		_, err := s.client.CoreV1().ConfigMaps("default").Get(t.Context(), "old", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("data of the cluster that was deleted: %v", err)
		}
	})
}

func (s *atFly) testKubeconfig(t *testing.T) {
	config, err := clientcmd.Load(s.cluster.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cluster := config.Clusters["fks-acme-one"]
	if cluster == nil || cluster.Server != "https://fks-acme-one.flycast:6443" || cluster.ProxyURL != s.fly.Proxy || len(cluster.CertificateAuthorityData) == 0 {
		t.Errorf("cluster %+v", cluster)
	}
	for _, user := range config.AuthInfos {
		if user.Exec == nil || user.Exec.Command != "flyctl" || strings.Join(user.Exec.Args, " ") != "kubernetes kubectl-token" || len(user.ClientCertificateData) > 0 {
			t.Errorf("user %+v", user)
		}
	}
}

func (s *atFly) testCluster(t *testing.T) {
	ctx := t.Context()
	classes, err := s.client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"flyio-volume Delete true", "flyio-volume-retain Retain "} {
		if i >= len(classes.Items) {
			t.Fatalf("%d storage classes", len(classes.Items))
		}
		class := classes.Items[i]
		if got := fmt.Sprintf("%s %s %s", class.Name, *class.ReclaimPolicy, class.Annotations["storageclass.kubernetes.io/is-default-class"]); got != want || class.Provisioner != "volume.csi.fly.io" {
			t.Errorf("got %s of %s, want %s", got, class.Provisioner, want)
		}
	}
	ingress, err := s.client.NetworkingV1().IngressClasses().List(ctx, metav1.ListOptions{})
	if err != nil || len(ingress.Items) > 0 {
		t.Errorf("classes of Ingresses: %v, %v", ingress.Items, err)
	}
	nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 || nodes.Items[0].Name != "virtual-kubelet" {
		t.Errorf("nodes: %v, %v", nodes.Items, err)
	}
	var apps struct{ Apps []struct{ Name string } }
	if err := s.fly.Call(ctx, http.MethodGet, "/v1/apps?org_slug=acme", nil, &apps); err != nil || len(apps.Apps) != 1 || !strings.HasPrefix(apps.Apps[0].Name, "fks-default-") {
		t.Errorf("apps: %v, %v", apps, err)
	}
}

func (s *atFly) testTokens(t *testing.T) {
	ctx := t.Context()
	ask := func(token string) error {
		config := *s.cluster.Config
		config.BearerToken = token
		_, err := kubernetes.NewForConfigOrDie(&config).CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{})
		return err
	}
	token, err := s.fly.ClusterToken(ctx, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(token); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name, token := range map[string]string{"none": "", "one for the API": s.fly.Token, "unknown": "fm2_x"} {
		if err := ask(token); !apierrors.IsUnauthorized(err) && !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.fly.Call(ctx, http.MethodPost, "/_emulator/advance", map[string]string{"by": "2m"}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the expired token is refused", func() (bool, error) {
		err := ask(token)
		return apierrors.IsUnauthorized(err), err
	})
}

// Pods come without what Fly does not support, and run.
func (s *atFly) testPods(t *testing.T) {
	ctx := t.Context()
	if _, err := s.client.AppsV1().Deployments("default").Create(ctx, unfit("web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, s.client.AppsV1().RESTClient(), "deployments", "web", deployed)
	pods, err := s.client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods: %v", len(pods.Items), err)
	}
	pod := pods.Items[0]
	if c := pod.Spec.Containers; len(c) != 1 || c[0].ReadinessProbe != nil || len(c[0].Ports) > 0 || len(pod.Spec.NodeSelector) > 0 || len(pod.Spec.InitContainers) > 0 {
		t.Errorf("the pod is %+v", pod.Spec)
	}
	if !strings.HasPrefix(pod.Status.PodIP, "fdaa:") {
		t.Errorf("address %s", pod.Status.PodIP)
	}
}

func (s *atFly) testFlyVolumes(t *testing.T) {
	ctx, claims := t.Context(), s.client.CoreV1().PersistentVolumeClaims("default")
	claim := func(name, class, size string, mode corev1.PersistentVolumeAccessMode, region string) {
		t.Helper()
		c := newClaim(name, ptr.To(class))
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{mode}
		c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse(size)
		if region != "" {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"region": region}}
		}
		if _, err := claims.Create(ctx, c, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	claim("data", "flyio-volume", "10Gi", corev1.ReadWriteOncePod, "fra")
	claim("kept", "flyio-volume-retain", "1Gi", corev1.ReadWriteOncePod, "")
	claim("shared", "flyio-volume", "1Gi", corev1.ReadWriteOnce, "")
	claim("large", "flyio-volume", "501Gi", corev1.ReadWriteOncePod, "")

	type inFly struct {
		ID     string
		Region string
		Size   int `json:"size_gb"`
	}
	behind := func(name string) (pv *corev1.PersistentVolume, path string) {
		t.Helper()
		bound := await(t, s.client.CoreV1().RESTClient(), "persistentvolumeclaims", name, func(c *corev1.PersistentVolumeClaim) bool {
			return c.Status.Phase == corev1.ClaimBound
		})
		pv, err := s.client.CoreV1().PersistentVolumes().Get(ctx, bound.Spec.VolumeName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return pv, "/v1/apps/" + pv.Annotations["fly.io/app"] + "/volumes/" + pv.Annotations["volume.fly.io/id"]
	}
	data, dataPath := behind("data")
	_, keptPath := behind("kept")
	var volume inFly
	if err := s.fly.Call(ctx, http.MethodGet, dataPath, nil, &volume); err != nil || volume.Region != "fra" || volume.Size != 10 ||
		data.Labels["region"] != "fra" || data.Annotations["fly.io/region"] != "fra" {
		t.Errorf("%+v, %v, %+v", volume, err, data.ObjectMeta)
	}
	for name, why := range map[string]string{"shared": "only ReadWriteOncePod", "large": "too large"} {
		eventually(t, name+" is refused in an event", func() (bool, error) {
			events, err := s.client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=ProvisioningFailed,involvedObject.name=" + name})
			return err == nil && len(events.Items) > 0 && strings.Contains(events.Items[0].Message, why), err
		})
		if c, err := claims.Get(ctx, name, metav1.GetOptions{}); err != nil || c.Status.Phase != corev1.ClaimPending {
			t.Errorf("%s: %v, %v", name, c.Status, err)
		}
	}
	for _, name := range []string{"data", "kept"} {
		if err := claims.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	awaitDeleted[*corev1.PersistentVolume](t, s.client.CoreV1().RESTClient(), "persistentvolumes", metav1.NamespaceAll, data.Name)
	eventually(t, "Fly's volume goes", func() (bool, error) {
		var now struct{ State string }
		err := s.fly.Call(ctx, http.MethodGet, dataPath, nil, &now)
		return err != nil || now.State == "destroyed" || now.State == "pending_destroy", err
	})
	if err := s.fly.Call(ctx, http.MethodGet, keptPath, nil, &volume); err != nil {
		t.Errorf("the retained one: %v", err)
	}
}

func (s *atFly) testReject(t *testing.T) {
	ctx := t.Context()
	put := func(mode string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.fly.Proxy+"/_sandbox/clusters/one/admission", strings.NewReader(mode))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", mode, resp.Status)
		}
	}
	put(fks.AdmissionReject)
	defer put(fks.AdmissionIgnore)
	_, err := s.client.AppsV1().Deployments("default").Create(ctx, unfit("refused"), metav1.CreateOptions{})
	for _, field := range []string{"spec.template.spec.initContainers", "spec.template.spec.containers[1]", "spec.template.spec.nodeSelector", "spec.template.spec.containers[0].readinessProbe"} {
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), field) {
			t.Errorf("want %s refused: %v", field, err)
		}
	}
	fits := deployment("fits", 1, nil)
	fits.Spec.Template.Spec.InitContainers = nil
	if _, err := s.client.AppsV1().Deployments("default").Create(ctx, fits, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, s.client.AppsV1().RESTClient(), "deployments", "fits", deployed)
	node := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}}}}
	if _, err := s.client.CoreV1().Services("default").Create(ctx, node, metav1.CreateOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "NodePort") || !strings.Contains(err.Error(), "UDP") {
		t.Errorf("got %v", err)
	}
}

// What was made is there again, under the name and the authority that it had.
func TestFKSIsKept(t *testing.T) {
	opts := flyOptions(t.TempDir())
	opts.Keep, opts.FKSWay = true, fks.WayDirect
	t.Run("first", func(t *testing.T) {
		s := runFKS(t, opts)
		if err := s.fly.CreateCluster(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		kubeconfig, failure := s.fly.AwaitCluster(t, "one")
		if failure != "" || strings.Contains(string(kubeconfig), "proxy-url") {
			t.Fatalf("%s: %s", failure, kubeconfig)
		}
	})
	opts.FKSWay = fks.WayProxy
	for _, name := range []string{"second", "third"} {
		t.Run(name, func(t *testing.T) {
			s := runFKS(t, opts)
			s.open(t, "one")
			_, err := s.client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("kept"), metav1.CreateOptions{})
			if there := apierrors.IsAlreadyExists(err); there != (name == "third") || err != nil && !there {
				t.Errorf("got %v", err)
			}
		})
	}
	opts.Keep = false
	t.Run("last", func(t *testing.T) { runFKS(t, opts) })
	if _, err := os.Stat(filepath.Join(opts.Dir, "clusters")); !os.IsNotExist(err) {
		t.Errorf("data are left: %v", err)
	}
}

// unfit has some of what Fly does not support.
func unfit(name string) *appsv1.Deployment {
	d := deployment(name, 1, nil)
	pod := &d.Spec.Template.Spec
	pod.InitContainers = []corev1.Container{{Name: "first", Image: "example"}}
	pod.Containers = append(pod.Containers, corev1.Container{Name: "second", Image: "example"})
	pod.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	pod.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}}
	pod.NodeSelector = map[string]string{"disk": "fast"}
	return d
}

func deployed(d *appsv1.Deployment) bool {
	return d.Status.ObservedGeneration == d.Generation && d.Status.AvailableReplicas == *d.Spec.Replicas
}

// eventually waits until what is to be so is so.
func eventually(t *testing.T, what string, so func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var last error
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		var ok bool
		ok, last = so()
		return ok, nil
	})
	if err != nil {
		t.Fatalf("never: %s; last: %v", what, last)
	}
}
