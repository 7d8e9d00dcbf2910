// Package cluster starts and stops one Kubernetes control plane: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler, with kwok playing
// the nodes, and the sandbox's own controllers playing the cloud.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"forged.dev/forged/sandbox/pki"
	"forged.dev/forged/sandbox/process"
)

const (
	// How long the parts get to end by themselves. The API server has the most
	// to finish; etcd has nobody left to serve by then.
	clientGrace = 2 * time.Second
	serverGrace = 4 * time.Second
	etcdGrace   = 2 * time.Second

	// How long an API server believes what it was told of a token. Tests let
	// tokens expire, and look at once.
	tokenCache = 100 * time.Millisecond

	bootPoll = 50 * time.Millisecond

	// A start takes seconds. One that takes this long will never end.
	startBound = 5 * time.Minute
)

// Config says where and how a cluster runs.
type Config struct {
	Name    string   // names the cluster in messages
	DataDir string   // its data: made if missing, used if present
	LogDir  string   // one log file per component
	Command []string // program and first arguments; a component's name follows
	Kind    Kind

	// Report is called as each part becomes ready, from one goroutine at a time.
	Report func(part string, took time.Duration)
}

// Cluster is a running control plane.
type Cluster struct {
	cfg    Config
	access Access

	// ctx is the cluster's life: it ends with Stop, or with the first part that
	// fails, which is then its cause.
	ctx    context.Context
	cancel context.CancelCauseFunc

	tasks sync.WaitGroup // our own goroutines

	// What an API server is started with, again if need be.
	files    *credentials
	listener *net.TCPListener
	client   kubernetes.Interface

	mu      sync.Mutex // guards the reports and the fields below
	etcd    *process.Process
	server  *process.Process
	clients []*process.Process
}

var errStopped = errors.New("stopped")

// Start starts a cluster and returns when all of it is ready. Cancelling ctx
// ends the wait, not a cluster that is up: Stop does that.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &Cluster{cfg: cfg, ctx: life, cancel: cancel}
	// A part that fails ends the wait for all the others.
	waiting, done := context.WithCancelCause(life)
	defer done(nil)
	defer context.AfterFunc(ctx, func() { done(context.Cause(ctx)) })()
	defer time.AfterFunc(startBound, func() {
		done(fmt.Errorf("not ready within %s; the logs are in %s", startBound, cfg.LogDir))
	}).Stop()
	if err := c.start(waiting); err != nil {
		// What failed first says more than who noticed.
		if cause := context.Cause(waiting); cause != nil {
			err = cause
		}
		c.Stop()
		return nil, fmt.Errorf("%s: %w", cfg.Name, err)
	}
	return c, nil
}

// Access tells how to reach the cluster.
func (c *Cluster) Access() Access { return c.access }

// Done is closed when the cluster has ended: by Stop, or by a failure.
func (c *Cluster) Done() <-chan struct{} { return c.ctx.Done() }

// Err is the failure that ended the cluster, or nil.
func (c *Cluster) Err() error {
	if cause := context.Cause(c.ctx); cause != nil && !errors.Is(cause, errStopped) {
		return fmt.Errorf("%s: %w", c.cfg.Name, cause)
	}
	return nil
}

// Stop ends the cluster and returns when nothing of it is left. etcd goes last:
// the others take long to end without it.
func (c *Cluster) Stop() {
	c.cancel(errStopped)
	c.tasks.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var clients sync.WaitGroup
	for _, p := range c.clients {
		clients.Go(func() { p.Stop(clientGrace) })
	}
	clients.Wait()
	if c.server != nil {
		c.server.Stop(serverGrace)
	}
	if c.etcd != nil {
		c.etcd.Stop(etcdGrace)
	}
	if c.listener != nil {
		_ = c.listener.Close()
	}
}

// RestartServer kills the API server and starts another one on the same data
// and the same port. It returns when that one is ready.
func (c *Cluster) RestartServer(ctx context.Context) error {
	c.mu.Lock()
	old := c.server
	c.mu.Unlock()
	old.Stop(0)
	ctx, cancel := context.WithTimeoutCause(ctx, startBound, fmt.Errorf("not ready within %s", startBound))
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	return c.startServer(ctx)
}

func (c *Cluster) start(ctx context.Context) error {
	secrets := filepath.Join(c.cfg.DataDir, "pki")
	for _, dir := range []string{secrets, c.cfg.LogDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// The listener opens before anything else, so that the port is known, and
	// stays open on our side, so that nobody else can have it.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.listener = listener.(*net.TCPListener)
	files, err := c.writeCredentials(secrets, listener.Addr().(*net.TCPAddr))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.access.rest())
	if err != nil {
		return err
	}
	c.files, c.client = files, client

	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.startServer(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.startControllerManager(ctx, files, client) })
	group.Go(func() error { return c.startScheduler(ctx, files) })
	group.Go(func() error { return c.startNodes(ctx, files, client) })
	group.Go(func() error { return c.startCloud(ctx, client) })
	return group.Wait()
}

// credentials are the files the components read.
type credentials struct {
	caCert, caKey         string
	serverCert, serverKey string
	accountKey            string
	tokens                string            // leads to who knows bearer tokens; empty: nobody does
	kubeconfig            map[string]string // by component
}

func (c *Cluster) writeCredentials(dir string, addr *net.TCPAddr) (*credentials, error) {
	ca, err := pki.Load(dir)
	if err != nil {
		return nil, err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	files := &credentials{
		caCert:     path("ca.crt"),
		caKey:      path("ca.key"),
		serverCert: path("kube-apiserver.crt"),
		serverKey:  path("kube-apiserver.key"),
		accountKey: path("service-accounts.key"),
		kubeconfig: map[string]string{},
	}
	if err := pki.LoadKey(files.accountKey); err != nil {
		return nil, err
	}
	cert, key, err := ca.Server(append([]string{
		"127.0.0.1", "localhost", c.cfg.Kind.serviceIP(), "kubernetes",
		"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, c.cfg.Kind.Hosts...)...)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(files.serverCert, cert, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(files.serverKey, key, 0o600); err != nil {
		return nil, err
	}

	access := func(user string, groups ...string) (Access, error) {
		cert, key, err := ca.Client(user, groups...)
		return Access{
			Server:      "https://" + addr.String(),
			CA:          ca.CertPEM,
			Certificate: cert,
			KeyPEM:      key,
		}, err
	}
	if c.access, err = access("sandbox-admin", "system:masters"); err != nil {
		return nil, err
	}
	for _, component := range []struct {
		name, user string
		groups     []string
	}{
		// The controllers share one powerful identity: an account for each of
		// them would cost some forty token requests at every start.
		{"kube-controller-manager", "system:kube-controller-manager", []string{"system:masters"}},
		{"kube-scheduler", "system:kube-scheduler", nil},
		{"kwok", "sandbox-nodes", []string{"system:masters"}},
	} {
		a, err := access(component.user, component.groups...)
		if err != nil {
			return nil, err
		}
		file := path(component.name + ".kubeconfig")
		if err := a.write(file, c.cfg.Name); err != nil {
			return nil, err
		}
		files.kubeconfig[component.name] = file
	}
	if url := c.cfg.Kind.Tokens; url != "" {
		files.tokens = path("tokens.kubeconfig")
		if err := (Access{Server: url}).write(files.tokens, "tokens"); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	began := time.Now()
	p, err := c.launch("etcd", nil, "--data-dir=etcd", "--socket=etcd.sock")
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.etcd = p
	c.mu.Unlock()
	return c.awaitReady(ctx, p, began)
}

func (c *Cluster) startServer(ctx context.Context) error {
	began, files := time.Now(), c.files
	inherited, err := c.listener.File()
	if err != nil {
		return err
	}
	defer inherited.Close()
	args := []string{
		"--etcd-servers=unix://etcd.sock", // relative to the working directory, as etcd's own
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.listener.Addr().(*net.TCPAddr).Port),
		"--advertise-address=" + c.cfg.Kind.advertised(),
		"--tls-cert-file=" + files.serverCert,
		"--tls-private-key-file=" + files.serverKey,
		"--client-ca-file=" + files.caCert,
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + files.accountKey,
		"--service-account-signing-key-file=" + files.accountKey,
		"--service-cluster-ip-range=" + c.cfg.Kind.Services,
		"--allow-privileged=true",
		"--profiling=false",
	}
	if files.tokens != "" {
		args = append(args, "--authentication-token-webhook-config-file="+files.tokens,
			"--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl="+tokenCache.String())
	}
	p, err := c.launch("kube-apiserver", []*os.File{inherited}, args...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.server = p
	c.mu.Unlock()
	err = wait.PollUntilContextCancel(ctx, bootPoll, true, func(ctx context.Context) (bool, error) {
		var status int
		// Until it answers there is nothing to watch, and no error worth telling:
		// a server that gives up ends ctx.
		c.client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status)
		return status == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("kube-apiserver not ready: %w", err)
	}
	c.report("kube-apiserver", began)
	return nil
}

func (c *Cluster) startControllerManager(ctx context.Context, files *credentials, client kubernetes.Interface) error {
	began := time.Now()
	if err := removeRootCA(ctx, client); err != nil {
		return err
	}
	_, err := c.launchAsClient("kube-controller-manager", append([]string{
		"--kubeconfig=" + files.kubeconfig["kube-controller-manager"],
		"--service-account-private-key-file=" + files.accountKey,
		"--root-ca-file=" + files.caCert,
		"--cluster-signing-cert-file=" + files.caCert,
		"--cluster-signing-key-file=" + files.caKey,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		// A machine under load may starve kwok for a while. Pods that are marked
		// unready for that reason would be a lie about the configuration.
		"--node-monitor-grace-period=10m",
		"--horizontal-pod-autoscaler-sync-period=5s",
	}, c.cfg.Kind.ControllerArgs...)...)
	if err != nil {
		return err
	}
	if err := awaitControllers(ctx, client); err != nil {
		return fmt.Errorf("kube-controller-manager not ready: %w", err)
	}
	c.report("kube-controller-manager", began)
	return nil
}

func (c *Cluster) startScheduler(ctx context.Context, files *credentials) error {
	return c.launchClientAndWait(ctx, "kube-scheduler",
		"--kubeconfig="+files.kubeconfig["kube-scheduler"],
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	)
}

// startNodes starts kwok and gives it nodes to play.
func (c *Cluster) startNodes(ctx context.Context, files *credentials, client kubernetes.Interface) error {
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	nodes := c.cfg.Kind.Nodes(version.GitVersion)
	for _, node := range nodes {
		if err := create(ctx, client.CoreV1().Nodes().Create, node); err != nil {
			return fmt.Errorf("nodes: %w", err)
		}
	}
	began := time.Now()
	if err := c.launchClientAndWait(ctx, "kwok", "--kubeconfig="+files.kubeconfig["kwok"]); err != nil {
		return err
	}
	if err := awaitNodes(ctx, client, len(nodes)); err != nil {
		return fmt.Errorf("nodes not ready: %w", err)
	}
	c.report("nodes", began)
	return nil
}

// startCloud makes what a cloud would add, and starts its controllers.
func (c *Cluster) startCloud(ctx context.Context, client kubernetes.Interface) error {
	if err := c.cfg.Kind.Objects(ctx, client); err != nil {
		return fmt.Errorf("classes: %w", err)
	}
	for _, task := range c.cfg.Kind.Tasks {
		began := time.Now()
		if err := c.runTask(ctx, func(ctx context.Context, ready func()) error {
			return task.Run(ctx, client, ready)
		}); err != nil {
			return fmt.Errorf("%s: %w", task.Name, err)
		}
		c.report(task.Name, began)
	}
	return nil
}

// runTask runs a controller of ours for as long as the cluster lives, and
// returns when it is ready.
func (c *Cluster) runTask(ctx context.Context, run func(context.Context, func()) error) error {
	ready := make(chan struct{})
	c.tasks.Go(func() {
		if err := run(c.ctx, func() { close(ready) }); err != nil {
			c.cancel(err)
		}
	})
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// launch starts a component and ends the cluster if it ends by itself.
func (c *Cluster) launch(name string, files []*os.File, args ...string) (*process.Process, error) {
	p, err := process.Start(process.Spec{
		Name:  name,
		Exe:   c.cfg.Command[0],
		Args:  append(append(append([]string{}, c.cfg.Command[1:]...), name), args...),
		Dir:   c.cfg.DataDir,
		Log:   filepath.Join(c.cfg.LogDir, name+".log"),
		Files: files,
	})
	if err != nil {
		return nil, err
	}
	c.tasks.Go(func() {
		select {
		case <-p.Done():
			if err := p.Err(); err != nil { // nobody has asked it to
				c.cancel(err)
			}
		case <-c.ctx.Done():
		}
	})
	return p, nil
}

func (c *Cluster) launchClientAndWait(ctx context.Context, name string, args ...string) error {
	began := time.Now()
	p, err := c.launchAsClient(name, args...)
	if err != nil {
		return err
	}
	return c.awaitReady(ctx, p, began)
}

// launchAsClient launches a component that needs the API server, and therefore
// stops before it.
func (c *Cluster) launchAsClient(name string, args ...string) (*process.Process, error) {
	p, err := c.launch(name, nil, args...)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients = append(c.clients, p)
	return p, nil
}

func (c *Cluster) awaitReady(ctx context.Context, p *process.Process, began time.Time) error {
	select {
	case <-p.Ready():
		c.report(p.Name(), began)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s not ready: %w", p.Name(), context.Cause(ctx))
	}
}

func (c *Cluster) report(part string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.Report != nil {
		c.cfg.Report(part, time.Since(began))
	}
}
