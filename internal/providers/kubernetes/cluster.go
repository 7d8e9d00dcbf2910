package kubernetes

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"forged.dev/forged/internal/forge"
)

// requestTimeout bounds one request whose context has no deadline of its own.
const requestTimeout = 30 * time.Second

// Cluster is one connected cluster.
type Cluster struct {
	clusters *Clusters
	target   forge.Target
	instance string
	manager  string
	uid      string
	log      *slog.Logger
	print    [sha256.Size]byte // of the kubeconfig it was made from
	trouble  atomic.Bool       // the last answer was none, or that we are not known

	rest      *rest.Config
	http      *http.Client
	client    kubernetes.Interface
	dynamic   dynamic.Interface
	metadata  metadata.Interface
	raw       rest.Interface
	discovery discovery.CachedDiscoveryInterfaceWithContext
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	versions  versionCache

	writes    chan struct{} // semaphore
	fence     fence
	elsewhere atomic.Pointer[error] // set when another cluster answers

	verification *verification

	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup

	// mu guards all below, and the records of the inventories. One lock for
	// what watches see and what we own makes every verdict one of a moment.
	mu          sync.Mutex
	stopped     bool
	watches     map[watchKey]*watch
	wide        map[schema.GroupVersionKind]*watch   // those of all namespaces, once more
	confined    map[schema.GroupVersionResource]bool // may not be watched in all namespaces
	index       map[Ref]*tracked
	unowned     map[schema.GroupKind]*unowned
	lenses      map[Ref]Lens        // through which watches take digests, where that is not plainly
	scalers     map[string]*scalers // by namespace; empty: all
	awaited     map[schema.GroupVersionKind]bool
	completed   map[Ref]string // uids of Jobs that have
	verdicts    map[Ref]explained
	own         map[Ref]*ownWrite
	followed    map[Ref]*followed
	inventories map[inventoryKey]*inventorySlot
	pods        map[Ref]*podWatch // of objects that are not ready; nil until there is one
	verifying   bool              // verification runs
	ends        []func(context.Context)
	listed      map[string]listedPlaces // by environment
}

// Target is what the cluster was connected as.
func (c *Cluster) Target() forge.Target { return c.target }

// Instance is the id of this forged.
func (c *Cluster) Instance() string { return c.instance }

// Manager is our field manager.
func (c *Cluster) Manager() string { return c.manager }

// UID identifies the cluster: it is that of its namespace kube-system.
func (c *Cluster) UID() string { return c.uid }

// Context ends when the cluster is closed. It is the lifetime of watches.
func (c *Cluster) Context() context.Context { return c.ctx }

// Client is the typed client; it speaks protobuf.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// Dynamic is the client for kinds known at run time only.
func (c *Cluster) Dynamic() dynamic.Interface { return c.dynamic }

// Metadata is the client for metadata only; it speaks protobuf.
func (c *Cluster) Metadata() metadata.Interface { return c.metadata }

// REST is a copy of the configuration behind the clients.
func (c *Cluster) REST() *rest.Config { return rest.CopyConfig(c.rest) }

func (c *Cluster) onRequest(verb string, code int) {
	c.trouble.Store(code == 0 || code == http.StatusUnauthorized)
	c.clusters.opts.OnRequest(c.target, verb, code)
}

// outdated tells whether the kubeconfig leads elsewhere than when we connected.
// It is looked at only while the cluster does not answer.
func (c *Cluster) outdated() bool {
	if c.strayed() != nil {
		return true
	}
	if !c.trouble.Load() {
		return false
	}
	cfg, err := c.clusters.config(c.ctx, c.target)
	return err == nil && fingerprint(cfg) != c.print
}

// stop flushes inventories, ends the watches and waits for them.
func (c *Cluster) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.cancel()
	c.background.Wait()
	c.mu.Lock()
	ends := c.ends
	c.ends = nil
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), flushTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, end := range ends {
		all.Go(func() { end(ctx) })
	}
	all.Wait()
	c.http.CloseIdleConnections()
}

// atEnd has f called once all that runs in the background has ended, and before
// the connection is closed.
func (c *Cluster) atEnd(f func(context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(c.ends, f)
}

// start runs f in the background until the cluster is closed. It reports
// false when the cluster is closed already. The caller holds c.mu.
func (c *Cluster) start(f func(context.Context)) bool {
	if c.stopped {
		return false
	}
	c.background.Go(func() { f(c.ctx) })
	return true
}

// Go runs f in the background for as long as the cluster is connected; its end
// waits for f. It reports false when the cluster is closed already.
func (c *Cluster) Go(f func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start(f)
}

// bound gives ctx a deadline if it has none, and keeps client-go from logging
// each of its own attempts.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = quiet(ctx)
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, requestTimeout)
}

// write waits for one of the write places.
func (c *Cluster) write(ctx context.Context) (release func(), err error) {
	select {
	case c.writes <- struct{}{}:
		return func() { <-c.writes }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
