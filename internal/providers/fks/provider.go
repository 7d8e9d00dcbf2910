package fks

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Provider is that of kind "fly-cluster", and knows the ways into the clusters
// that it has seen.
type Provider struct {
	*fly.Service
	connect connect

	// occupants tells who is in a cluster that is to be destroyed.
	occupants func(context.Context, *way) ([]string, error)

	mu   sync.Mutex
	ways map[forge.ID]*way
}

var (
	_ reconcile.Provider = (*Provider)(nil)
	_ reconcile.Owner    = (*Provider)(nil)
	_ reconcile.Follower = (*Provider)(nil)
	_ kubernetes.Ways    = (*Provider)(nil)
)

// New makes the provider.
func New(a *fly.Accounts) *Provider {
	p := &Provider{ways: map[forge.ID]*way{}, connect: dialer(), occupants: occupants}
	p.Service = &fly.Service{Accounts: a, Kind: forge.KindFlyCluster, Look: p.look}
	return p
}

// Way implements kubernetes.Ways.
func (p *Provider) Way(ctx context.Context, cluster forge.ID) (*rest.Config, error) {
	p.mu.Lock()
	w := p.ways[cluster]
	p.mu.Unlock()
	if w == nil {
		return nil, reconcile.WaitingFor(cluster, forge.OutputKubeconfig)
	}
	return w.config(ctx)
}

// How often it is looked in a cluster for its app, as long as that is not known:
// nothing tells of it. At first it may be because nobody has looked yet.
const (
	appFirst = time.Second
	appEvery = time.Minute
	appLooks = 5 // at a cluster before that holds for them, too
)

// Watch implements reconcile.Provider.
func (p *Provider) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { p.lookForApps(ctx, notify) })
	defer looking.Wait()
	defer cancel()
	return p.Service.Watch(ctx, notify)
}

func (p *Provider) lookForApps(ctx context.Context, notify func(reconcile.Event)) {
	timer := time.NewTimer(appFirst)
	defer timer.Stop()
	for wait := 2 * appFirst; ; wait = min(2*wait, appEvery) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(wait)
		for id, w := range p.known() {
			if w.findApp(ctx) {
				notify(reconcile.Event{ID: id, Cause: causeLive, At: time.Now()})
			}
		}
	}
}

// causeLive is the cause of all events: something there is another than before.
const causeLive = "live"

func (p *Provider) known() map[forge.ID]*way {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[forge.ID]*way, len(p.ways))
	for id, w := range p.ways {
		all[id] = w
	}
	return all
}

// wayOf is the way into a cluster; the first time, one that leads nowhere yet.
func (p *Provider) wayOf(l fly.Look) *way {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.ways[l.ID()]
	if w == nil {
		w = newWay(l, p.connect)
		p.ways[l.ID()] = w
	}
	return w
}
