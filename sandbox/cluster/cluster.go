// Package cluster starts and stops one Kubernetes control plane: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler, with kwok playing
// the nodes, and the sandbox's own controllers playing the cloud.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

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

func (c *Cluster) report(part string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.Report != nil {
		c.cfg.Report(part, time.Since(began))
	}
}
