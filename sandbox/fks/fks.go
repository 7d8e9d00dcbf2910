// Package fks plays Fly Kubernetes: control planes that the add-ons of the
// emulator of Fly take, in which pods are what Fly makes of them.
package fks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/sandbox/cluster"
)

// MaxClusters is what a large machine can hold.
const MaxClusters = 9

// Ways into a cluster that its kubeconfig may show.
const (
	WayProxy  = "proxy"  // through the sandbox's proxy
	WayDirect = "direct" // by the name in the private network, which nobody resolves
)

// Config says what to run.
type Config struct {
	Clusters  int    // how many there may be at a time
	Dir       string // of their data, each in a directory of its own
	LogDir    string
	Command   []string // program and first arguments that run a component
	Way       string
	Admission string // of clusters that start

	// Report is called as each part of a cluster becomes ready.
	Report func(cluster, part string, took time.Duration)
}

// Platform is Fly, as the clusters need it.
type Platform interface {
	Clusters() []flyemulator.Cluster
	ClusterReady(id string, way flyemulator.ClusterWay)
	ClusterFailed(id, why string)
	OpensClusters(bearer, org string) (owner string, opens bool)
	CertificateServed(app, host string) bool
	Resolve(host string) []string
	Drift(d flyemulator.Drift) (status int, body []byte)
}

// Host makes clusters when add-ons ask for them.
type Host struct {
	cfg      Config
	ctx      context.Context // its life; the cause of its end is the failure of a cluster
	cancel   context.CancelCauseFunc
	tasks    sync.WaitGroup
	opened   chan struct{} // closed when the fields below are set
	platform Platform
	proxy    string
	hooks    *hooks

	mu     sync.Mutex
	places map[string]*place // by the add-on's id
	closed bool
}

// place is where one cluster is.
type place struct {
	of      flyemulator.Cluster
	kept    bool            // of an earlier run
	ctx     context.Context // ends when it is not wanted any more
	cancel  context.CancelFunc
	made    chan struct{}    // closed when it is, or cannot be
	cluster *cluster.Cluster // valid once made is closed; nil: it could not be

	busy     sync.Mutex               // while its parts are started and stopped
	services atomic.Pointer[services] // nil until it works

	admission string // guarded by the host's mu
}

var errClosed = errors.New("closed")

// New makes a host without clusters.
func New(cfg Config) *Host {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Host{cfg: cfg, ctx: ctx, cancel: cancel, opened: make(chan struct{}), places: map[string]*place{}}
}

// Open begins: the clusters of an earlier run start, and so do those asked for
// meanwhile. It returns when the former are ready.
func (h *Host) Open(ctx context.Context, platform Platform, proxy string) error {
	h.platform, h.proxy = platform, proxy
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+admissionPath+"{cluster}", h.reviewAdmission)
	var err error
	if h.hooks, err = startHooks(ctx, mux); err != nil {
		return err
	}
	close(h.opened)
	kept := map[string]bool{}
	var waiting []*place
	for _, one := range platform.Clusters() {
		kept[one.ID] = true
		waiting = append(waiting, h.make(one, true))
	}
	left, err := os.ReadDir(h.cfg.Dir)
	if err != nil {
		return err
	}
	for _, entry := range left { // of add-ons that went
		if !kept[entry.Name()] {
			if err := os.RemoveAll(filepath.Join(h.cfg.Dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	for _, p := range waiting {
		select {
		case <-p.made:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-h.ctx.Done():
			return h.Err()
		}
	}
	return nil
}

// Close ends all clusters; their data stay.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel(errClosed)
	h.tasks.Wait()
	if h.hooks == nil {
		return nil
	}
	return h.hooks.stop()
}

// Done is closed when the host has ended: by Close, or because a cluster failed
// that was ready.
func (h *Host) Done() <-chan struct{} { return h.ctx.Done() }

// Err is that failure, or nil.
func (h *Host) Err() error {
	if cause := context.Cause(h.ctx); cause != nil && !errors.Is(cause, errClosed) {
		return cause
	}
	return nil
}

// Make takes a free place for the cluster. It is called by the emulator, which
// is locked meanwhile.
func (h *Host) Make(one flyemulator.Cluster) {
	if h.taken() < h.cfg.Clusters {
		h.make(one, false)
		return
	}
	h.task(func() {
		if h.await(h.opened) {
			h.platform.ClusterFailed(one.ID, fmt.Sprintf("no control plane is free: all %d of the sandbox are taken", h.cfg.Clusters))
		}
	})
}

// taken is how many places are: one that is given back is free at once.
func (h *Host) taken() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, p := range h.places {
		if p.ctx.Err() == nil {
			n++
		}
	}
	return n
}

// Delete ends the cluster and discards its data.
func (h *Host) Delete(one flyemulator.Cluster) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.places[one.ID]; p != nil {
		p.cancel()
	}
}

func (h *Host) make(one flyemulator.Cluster, kept bool) *place {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.places[one.ID]; p != nil {
		return p // it came while the host opened
	}
	p := &place{of: one, kept: kept, made: make(chan struct{}), admission: h.cfg.Admission}
	p.ctx, p.cancel = context.WithCancel(h.ctx)
	h.places[one.ID] = p
	if !h.closed {
		h.tasks.Go(func() { h.live(p) })
	}
	return p
}

// live is the life of a cluster, from its start to its end.
func (h *Host) live(p *place) {
	defer p.cancel()
	if !h.await(h.opened) {
		return
	}
	err := h.start(p)
	if err == nil || !p.kept {
		close(p.made)
	}
	switch {
	case err == nil:
		h.platform.ClusterReady(p.of.ID, h.way(p.cluster))
		select {
		case <-p.ctx.Done():
		case <-p.cluster.Done():
			h.cancel(p.cluster.Err())
		}
		p.busy.Lock()
		p.cluster.Stop()
		p.busy.Unlock()
	case p.ctx.Err() == nil && p.kept:
		h.cancel(err) // its data are not ours to discard
	case p.ctx.Err() == nil:
		h.platform.ClusterFailed(p.of.ID, err.Error())
	}
	if h.ctx.Err() == nil { // deleted, or never there: the data go, and the place is free
		if err := os.RemoveAll(h.dir(p)); err != nil {
			h.cancel(fmt.Errorf("data of %s: %w", p.of.Name, err))
		}
		h.mu.Lock()
		delete(h.places, p.of.ID)
		h.mu.Unlock()
	}
}

func (h *Host) dir(p *place) string { return filepath.Join(h.cfg.Dir, p.of.ID) }

func (h *Host) start(p *place) (err error) {
	p.cluster, err = cluster.Start(p.ctx, cluster.Config{
		Name:    p.of.Name,
		DataDir: h.dir(p),
		LogDir:  filepath.Join(h.cfg.LogDir, p.of.Name),
		Command: h.cfg.Command,
		Kind:    h.kind(p),
		Report:  func(part string, took time.Duration) { h.cfg.Report(p.of.Name, part, took) },
	})
	return err
}

func (h *Host) way(c *cluster.Cluster) flyemulator.ClusterWay {
	way := flyemulator.ClusterWay{CA: c.Access().CA}
	if h.cfg.Way == WayProxy {
		way.Proxy = h.proxy
	}
	return way
}

// await tells whether something came before the end.
func (h *Host) await(what <-chan struct{}) bool {
	select {
	case <-what:
		return true
	case <-h.ctx.Done():
		return false
	}
}

func (h *Host) task(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.tasks.Go(do)
	}
}

// RestartServers kills the API servers and starts them again.
func (h *Host) RestartServers(ctx context.Context) error {
	var group errgroup.Group
	for _, p := range h.up() {
		group.Go(func() error {
			p.busy.Lock()
			defer p.busy.Unlock()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(p.ctx, cancel)()
			if err := p.cluster.RestartServer(ctx); err != nil && p.ctx.Err() == nil {
				return err // one that is being deleted needs no server
			}
			return nil
		})
	}
	return group.Wait()
}

// up are the places whose cluster is there.
func (h *Host) up() []*place {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*place
	for _, p := range h.places {
		select {
		case <-p.made:
			if p.cluster != nil && p.ctx.Err() == nil { // until it is torn down
				out = append(out, p)
			}
		default:
		}
	}
	return out
}

// Server implements edge.Network.
func (h *Host) Server(host string) (string, bool) {
	name, ok := strings.CutSuffix(host, ".flycast")
	if !ok {
		return "", false
	}
	for _, p := range h.up() {
		if p.of.Name == name {
			return strings.TrimPrefix(p.cluster.Access().Server, "https://"), true
		}
	}
	return "", false
}

// ServeHTTP answers what API servers ask.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux().ServeHTTP(w, r) }
