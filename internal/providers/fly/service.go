package fly

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Service is the provider of a kind of resource that Fly runs in an
// organization: a database, for example. Nothing there has a version that a
// request could be bound to, so a step is bound to what was seen of its object:
// Apply looks again, past everything that is remembered, and carries a step out
// only if it would be planned once more, and the same.
type Service struct {
	Accounts *Accounts
	Kind     string
	Look     func(ctx context.Context, l Look) (View, error)

	// Every is how often it is looked at what no listing tells of, when all is
	// well; 0: there is nothing of that kind.
	Every time.Duration

	mu     sync.Mutex
	peeked map[forge.ID]*peek
}

// View is what was seen of a resource.
type View interface {
	Observed() reconcile.Observed
	Plan() ([]reconcile.Step, error)
	Apply(ctx context.Context, s reconcile.Step) error

	// Print changes with everything that was seen. It holds no secret.
	Print() string
}

// Look is how a resource is looked at.
type Look struct {
	Accounts  *Accounts
	Org       *Org
	Inventory *Inventory
	Account   forge.FlyAccount
	Request   reconcile.Request
	Record    Record // zero but for its id: there is none
	Recorded  bool
	Fresh     bool // nothing that is remembered counts
}

// ID is the resource's.
func (l Look) ID() forge.ID { return l.Request.Resource.ID }

// peek is what is looked at although no listing tells of it.
type peek struct {
	request reconcile.Request
	print   string
	ready   bool
	same    int       // looks since it has changed last
	asked   time.Time // when the engine looked last
	looked  time.Time // when anybody did
}

// impatient is how often what is not ready is looked at when it has changed just
// now. What stays as it is costs less and less.
const impatient = 15 * time.Second

// due tells whether it is to be looked at.
func (p *peek) due(now time.Time, every time.Duration) bool {
	if !p.ready {
		every = min(every, impatient<<min(p.same, 10))
	}
	return now.Sub(p.looked) >= every
}

// forgotten is how long after the engine has looked last nobody looks any more:
// it looks in full every half hour.
const forgotten = 2 * time.Hour

var (
	_ reconcile.Provider = (*Service)(nil)
	_ reconcile.Owner    = (*Service)(nil)
	_ reconcile.Follower = (*Service)(nil)
)

func (s *Service) view(ctx context.Context, r reconcile.Request, fresh bool) (View, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.OnFly)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	l := Look{Accounts: s.Accounts, Account: spec.OnFly(), Request: r, Fresh: fresh}
	var err error
	if l.Org, err = s.Accounts.Open(ctx, l.Account); err != nil {
		return nil, about(err, id)
	}
	if l.Inventory, err = l.Org.Inventory(ctx, id.Environment, l.Account); err != nil {
		return nil, about(err, id)
	}
	l.Record, l.Recorded = l.Inventory.Record(id)
	l.Record.ID = id
	v, err := s.Look(ctx, l)
	return v, about(err, id)
}

// note remembers what was seen.
func (s *Service) note(r reconcile.Request, v View) {
	if s.Every == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peeked == nil {
		s.peeked = map[forge.ID]*peek{}
	}
	if r.Remove {
		delete(s.peeked, r.Resource.ID)
		return
	}
	now := time.Now()
	next := &peek{request: r, print: v.Print(), ready: wellIn(v), asked: now, looked: now}
	if had := s.peeked[r.Resource.ID]; had != nil && had.print == next.print {
		next.same = had.same + 1
	}
	s.peeked[r.Resource.ID] = next
}

// Observe implements reconcile.Provider.
func (s *Service) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	v, err := s.view(ctx, r, false)
	if err != nil {
		return reconcile.Observed{}, err
	}
	s.note(r, v)
	return shown(v), nil
}

func shown(v View) reconcile.Observed {
	o := v.Observed()
	o.Detail = v
	return o
}

// Plan implements reconcile.Provider.
func (s *Service) Plan(_ context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	v, ok := o.Detail.(View)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: r.Resource.ID, Op: "plan", Err: fmt.Errorf("observed by somebody else: %T", o.Detail)}
	}
	return v.Plan()
}

// Apply implements reconcile.Provider.
func (s *Service) Apply(ctx context.Context, r reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	id := r.Resource.ID
	if step.Blocked != "" {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Invalid, ID: id, Op: string(step.Action), Object: step.Object, Err: errors.New(step.Blocked)}
	}
	ctx, err := s.Accounts.acting(ctx, r.Resource)
	if err != nil {
		return reconcile.Observed{}, err
	}
	v, err := s.view(ctx, r, true)
	if err != nil {
		return reconcile.Observed{}, err
	}
	steps, err := v.Plan()
	if err != nil {
		return shown(v), err
	}
	again := slices.IndexFunc(steps, func(t reconcile.Step) bool {
		return t.Action == step.Action && t.Object == step.Object && t.Token == step.Token && t.Blocked == "" && slices.Equal(t.Destroys, step.Destroys)
	})
	if again < 0 {
		return shown(v), &reconcile.Error{
			Kind: reconcile.Stale, ID: id, Op: string(step.Action), Object: step.Object,
			Err: errors.New("it is not as it was when this was planned"),
		}
	}
	failed := about(v.Apply(ctx, steps[again]), id)
	after, err := s.view(ctx, r, true)
	switch {
	case err == nil:
		s.note(r, after)
		return shown(after), failed
	case failed != nil:
		return shown(v), failed
	default:
		return shown(v), err
	}
}

// Watch implements reconcile.Provider.
func (s *Service) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	if s.Every == 0 {
		return s.Accounts.Watch(ctx, s.Kind, notify)
	}
	ctx, cancel := context.WithCancel(ctx)
	var peeking sync.WaitGroup
	peeking.Go(func() { s.peek(ctx, notify) })
	defer peeking.Wait()
	defer cancel()
	return s.Accounts.Watch(ctx, s.Kind, notify)
}

// peek looks now and then at what no listing tells of.
func (s *Service) peek(ctx context.Context, notify func(reconcile.Event)) {
	ticker := time.NewTicker(impatient)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for id, p := range s.peeks() {
			// What cannot be read now is no news: it is read again next time,
			// and by the engine when it looks.
			v, err := s.view(ctx, p.request, true)
			if s.moved(id, p, v, err) {
				notify(reconcile.Event{ID: id, Cause: causeLive, At: time.Now()})
			}
		}
	}
}

// peeks are those whose time has come, and that somebody still asks for.
func (s *Service) peeks() map[forge.ID]*peek {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	all := map[forge.ID]*peek{}
	for id, p := range s.peeked {
		switch {
		case now.Sub(p.asked) > forgotten:
			delete(s.peeked, id)
		case p.due(now, s.Every):
			all[id] = p
		}
	}
	return all
}

// moved notes what was seen, and tells whether it is not as it was.
func (s *Service) moved(id forge.ID, p *peek, v View, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peeked[id] != p { // the engine has looked meanwhile
		return false
	}
	next := *p
	next.looked, next.same = time.Now(), p.same+1
	if err == nil {
		next.print, next.ready = v.Print(), wellIn(v)
	}
	if next.print != p.print {
		next.same = 0
	}
	s.peeked[id] = &next
	return next.print != p.print
}

func wellIn(v View) bool { return v.Observed().Health.Status == reconcile.Ready }

// Owned implements reconcile.Owner.
func (s *Service) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return s.Accounts.Owned(ctx, environment, s.Kind, wanted)
}

// Follows implements reconcile.Follower.
func (s *Service) Follows(r forge.Resource) bool { return s.Accounts.Follows(r.ID) }
