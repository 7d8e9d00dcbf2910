package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"

	"forged.dev/forged/internal/forge"
)

// Options are what an Engine is made of. Only Providers is needed.
type Options struct {
	Providers map[string]Provider // by the kind of the resources they reconcile
	Logger    *slog.Logger        // nil: silent
	Observer  Observer            // nil: nobody
	Leases    Leases              // nil: this is the only forged
	Workers   int                 // passes at a time in an environment that does not say; 0: 4
	Grace     time.Duration       // for the step under way when Run is told to end; 0: 30 s
	Approved  []string            // tokens of steps that may destroy data, once each
}

// Engine holds the active generation against the world, for as long as Run
// runs. All its methods may be called at any time from any goroutine.
type Engine struct {
	providers map[string]Provider
	log       *slog.Logger
	observer  Observer
	leases    Leases
	workers   int
	grace     time.Duration

	gen      atomic.Pointer[generation] // swapped as a whole, under mu
	version  atomic.Uint64
	snapshot atomic.Pointer[Status]

	mu       sync.Mutex
	queue    workqueue.TypedDelayingInterface[forge.ID] // nil unless Run runs
	units    map[forge.ID]*unit
	sweeps   map[string]*sweep      // by environment
	rounds   map[string]*rounds     // by environment; none where there is no interval
	rerounds chan struct{}          // one of them is another now
	lanes    map[string]*lane       // by environment
	held     map[place]*LeaseStatus // replaced, never changed
	forgone  map[place]struct{}     // whose leases are of no use any more
	steps    map[string]int         // that are under way, by environment
	deleted  map[string]int         // objects, by environment, since its config last changed
	approved map[string]bool        // tokens of steps that may destroy data
	history  []ActionStatus
	changed  chan struct{} // closed by touch; nil when nobody waits
	idle     chan struct{} // told when a pass has ended; nil when Converge does not run
}

// New makes an Engine that does nothing until Set and Run are called.
func New(o Options) *Engine {
	e := &Engine{
		providers: o.Providers, log: o.Logger, observer: o.Observer, leases: o.Leases,
		workers: o.Workers, grace: o.Grace,
		units: map[forge.ID]*unit{}, sweeps: map[string]*sweep{}, rounds: map[string]*rounds{}, rerounds: make(chan struct{}, 1),
		lanes: map[string]*lane{}, held: map[place]*LeaseStatus{}, forgone: map[place]struct{}{}, steps: map[string]int{}, deleted: map[string]int{}, approved: map[string]bool{},
	}
	for _, token := range o.Approved {
		e.approved[token] = true
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.observer == nil {
		e.observer = nobody{}
	}
	if e.workers <= 0 {
		e.workers = 4
	}
	if e.grace <= 0 {
		e.grace = 30 * time.Second
	}
	return e
}

// Set makes g the active generation, as a whole or, when it is not sound, not
// at all; the error is of kind Invalid then. What differs from the generation
// before is looked at at once, and so is what had failed. A step under way is
// finished, the one after it is not begun.
func (e *Engine) Set(g Generation) error {
	next, err := e.check(g)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	prev := e.gen.Load()
	e.gen.Store(next)
	for name, env := range next.environments {
		if prev == nil || prev.environments[name] == nil || !reflect.DeepEqual(prev.environments[name].Environment, env.Environment) {
			e.deleted[name] = 0
		}
		repoliced := prev == nil || prev.environments[name] == nil || !prev.environments[name].Policy.Equal(env.Policy)
		for _, id := range env.graph.order {
			e.want(next.nodes[id], repoliced, now)
		}
		e.resweep(name)
		e.reround(name, env.Policy.Interval, now)
	}
	e.disown(next, prev, now)
	e.takeDown(next, now)
	e.keepLeases(next)
	e.touch()
	return nil
}

// want brings one unit in line with a new generation. The caller holds mu.
func (e *Engine) want(n *node, repoliced bool, now time.Time) {
	id := n.resource.ID
	u := e.units[id]
	if u == nil {
		u = newUnit(id, now)
		e.units[id] = u
		repoliced = true
	}
	changed := repoliced || u.orphan || !reflect.DeepEqual(u.resource, n.resource)
	u.resource, u.provider, u.orphan = n.resource, n.provider, false
	u.inputsFresh = false
	switch {
	case changed:
		u.reset(now)
		e.enqueue(u)
	case !u.ready:
		u.retryNow(now) // something else may have been mended
		e.enqueue(u)
	}
}

// takeDown makes orphans of what forge.cue asks for where all is to go, so that
// it is looked at even before an inventory has listed it: the way into a cluster
// may be the output of one of them. The caller holds mu.
func (e *Engine) takeDown(next *generation, now time.Time) {
	for _, env := range next.environments {
		if !env.Down {
			continue
		}
		for _, r := range env.places() {
			if e.units[r.ID] != nil {
				continue // disown sees to it
			}
			u := newUnit(r.ID, now)
			u.resource, u.provider, u.orphan = r, e.providers[r.ID.Kind], true
			e.units[r.ID] = u
			e.enqueue(u)
		}
	}
}

// disown finds what is no longer wanted. The caller holds mu.
func (e *Engine) disown(next, prev *generation, now time.Time) {
	for id, u := range e.units {
		if next.nodes[id] != nil {
			continue
		}
		env := next.environments[id.Environment]
		if env == nil {
			delete(e.units, id)
			continue
		}
		if !u.orphan || prev.environments[id.Environment] == nil || !prev.environments[id.Environment].Policy.Equal(env.Policy) {
			u.orphan = true
			u.reset(now)
		}
		e.enqueue(u)
	}
	if prev == nil {
		return
	}
	for _, env := range prev.Environments {
		if next.environments[env.Name] == nil {
			delete(e.sweeps, env.Name)
			delete(e.rounds, env.Name)
			delete(e.deleted, env.Name)
			e.log.Warn("environment left forge.cue: nothing of it is deleted, nothing of it is watched over any more",
				"environment", env.Name, "target", env.Target)
		}
	}
}

// Recheck looks again at everything in an environment, or everywhere when
// environment is empty, and lets failures be tried again at once.
func (e *Engine) Recheck(environment string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, u := range e.units {
		if environment == "" || id.Environment == environment {
			u.notBefore = time.Time{}
			e.enqueue(u)
		}
	}
	for name := range e.sweeps {
		if environment == "" || name == environment {
			e.resweep(name)
		}
	}
}

// Run reconciles until ctx ends. It then begins nothing new, gives what is
// under way Options.Grace to finish and returns nil, or an error when
// something had to be left behind. It may be called again after it returned.
func (e *Engine) Run(ctx context.Context) error {
	queue := workqueue.NewTypedDelayingQueue[forge.ID]()
	e.mu.Lock()
	if e.queue != nil {
		e.mu.Unlock()
		queue.ShutDown()
		return errors.New("run: the engine is running already")
	}
	e.queue = queue
	for _, u := range e.units {
		e.enqueue(u)
	}
	for name, s := range e.sweeps {
		if !s.done {
			queue.Add(sweepID(name))
		}
	}
	e.tellIdle()
	e.mu.Unlock()

	// Reads end with ctx at once; a step under way ends with work.
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	var all sync.WaitGroup
	for _, w := range e.watched() {
		all.Go(func() { e.watch(ctx, w) })
	}
	all.Go(func() { e.watchLeases(ctx) })
	all.Go(func() { e.goRounds(ctx) })
	all.Go(func() { e.dispatch(ctx, work, queue, &all) })

	<-ctx.Done()
	e.mu.Lock()
	e.queue = nil
	e.mu.Unlock()
	queue.ShutDown()
	return e.settle(&all, abandon)
}

// settle waits for what is under way, patiently at first.
func (e *Engine) settle(all *sync.WaitGroup, abandon context.CancelFunc) error {
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	grace := time.NewTimer(e.grace)
	defer grace.Stop()
	select {
	case <-done:
		return nil
	case <-grace.C:
		abandon()
	}
	last := time.NewTimer(time.Second)
	defer last.Stop()
	select {
	case <-done:
		return nil
	case <-last.C:
		return fmt.Errorf("run: a provider did not stop within %s of being told to", e.grace)
	}
}

// dispatch hands keys to passes until the queue is shut down and empty.
func (e *Engine) dispatch(ctx, work context.Context, queue workqueue.TypedDelayingInterface[forge.ID], all *sync.WaitGroup) {
	for {
		id, down := queue.Get()
		if down {
			return
		}
		if ctx.Err() != nil || !e.enter(id) {
			queue.Done(id)
			continue
		}
		all.Go(func() {
			defer queue.Done(id)
			defer e.leave(id)
			if isSweep(id) {
				e.sweep(ctx, id.Environment)
			} else {
				e.pass(ctx, work, id)
			}
		})
	}
}

// lane keeps one environment from taking the workers of all others: each has
// its own number of passes at a time.
type lane struct {
	busy   int
	parked []forge.ID
}

// workersOf is how many passes an environment may have at a time.
func (e *Engine) workersOf(environment string) int {
	if gen := e.gen.Load(); gen != nil {
		if env := gen.environments[environment]; env != nil && env.Workers > 0 {
			return env.Workers
		}
	}
	return e.workers
}

// enter takes a place in the lane of id's environment, or parks id until one
// is free.
func (e *Engine) enter(id forge.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lanes[id.Environment]
	if l == nil {
		l = &lane{}
		e.lanes[id.Environment] = l
	}
	if l.busy >= e.workersOf(id.Environment) {
		if !slices.Contains(l.parked, id) {
			l.parked = append(l.parked, id)
		}
		return false
	}
	l.busy++
	return true
}

// leave gives the place back, to who is parked the longest.
func (e *Engine) leave(id forge.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lanes[id.Environment]
	l.busy--
	if len(l.parked) > 0 && e.queue != nil {
		e.queue.Add(l.parked[0])
		l.parked = l.parked[1:]
	}
	if l.busy == 0 && len(l.parked) == 0 {
		delete(e.lanes, id.Environment)
	}
	e.tellIdle()
}

// tellIdle lets Converge look whether anything still moves. The caller holds mu.
func (e *Engine) tellIdle() {
	if e.idle == nil {
		return
	}
	select {
	case e.idle <- struct{}{}:
	default:
	}
}

// enqueue has a unit looked at now. The caller holds mu.
func (e *Engine) enqueue(u *unit) {
	u.dirty = true
	if e.queue != nil {
		e.queue.Add(u.id)
	}
}

// after has a key looked at later; nothing is lost when it is looked at
// before. The caller holds mu.
func (e *Engine) after(id forge.ID, d time.Duration) {
	if e.queue != nil {
		e.queue.AddAfter(id, d)
	}
}
