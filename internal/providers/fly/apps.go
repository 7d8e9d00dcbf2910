package fly

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

const entryApp = "app"

// defaultNetwork is how Fly calls the network that the apps of an organization
// share unless they ask for another one.
const defaultNetwork = "default"

// Apps is the provider of apps. Fly keeps no marks on an app: it is ours because
// the inventory lists it, with the number that Fly gave it.
type Apps struct{ accounts *Accounts }

var (
	_ reconcile.Provider = (*Apps)(nil)
	_ reconcile.Owner    = (*Apps)(nil)
	_ reconcile.Follower = (*Apps)(nil)
)

// NewApps makes the provider of kind "fly-app".
func NewApps(a *Accounts) *Apps { return &Apps{accounts: a} }

// appSight is what is known of an app.
type appSight struct {
	org      *Org
	inv      *Inventory
	spec     forge.FlyAppSpec
	app      *api.App // nil: there is none
	foreign  bool     // the name is taken in another organization
	record   Record
	recorded bool
}

// entry is the app in the record; its identity is empty while it is being made.
func (s *appSight) entry() (Entry, bool) {
	i := slices.IndexFunc(s.record.Entries, func(e Entry) bool { return e.Kind == entryApp && e.Name == s.spec.Name })
	if i < 0 {
		return Entry{}, false
	}
	return s.record.Entries[i], true
}

// owned tells that the app that is there is the one the inventory lists.
func (s *appSight) owned() bool {
	e, ok := s.entry()
	return ok && s.app != nil && e.Identity != "" && e.Identity == identity(*s.app)
}

func (s *appSight) object() string { return "app " + s.spec.Name }

func (s *appSight) topic() Topic { return Topic{App: s.spec.Name, Section: SectionApp} }

func (p *Apps) sight(ctx context.Context, r reconcile.Request, fresh bool) (*appSight, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.FlyAppSpec)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	if err := reserved(spec.Name); err != nil {
		return nil, about(err, id)
	}
	org, err := p.accounts.Open(ctx, spec.Account)
	if err != nil {
		return nil, about(err, id)
	}
	s := &appSight{org: org, spec: spec}
	if fresh {
		org.Touch(s.topic())
	}
	// Fly thinks for seconds about an app that is missing, and before the first
	// time neither this one is there nor that of the inventory.
	var looking sync.WaitGroup
	var unread error
	looking.Go(func() { unread = s.read(ctx) })
	s.inv, err = org.Inventory(ctx, id.Environment, spec.Account)
	looking.Wait()
	if err != nil {
		return nil, about(err, id)
	}
	if spec.Name == spec.Account.Inventory {
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, ID: id, Op: "observe", Object: s.object(),
			Err: errors.New("this app keeps the inventory"), Hint: "name another app in platform.inventory",
		}
	}
	s.record, s.recorded = s.inv.Record(id)
	p.accounts.Follow(id, spec.Account, s.topic())
	if unread != nil {
		return nil, about(unread, id)
	}
	if r.Remove && !s.recorded {
		p.accounts.Follow(id, spec.Account) // it is over
	}
	return s, nil
}

// read looks for the app.
func (s *appSight) read(ctx context.Context) error {
	found, err := s.org.lookup(ctx, s.spec.Name)
	s.app, s.foreign = found.app, found.foreign
	return err
}

// Observe implements reconcile.Provider.
func (p *Apps) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	s, err := p.sight(ctx, r, false)
	if err != nil {
		return reconcile.Observed{}, err
	}
	return s.observed(r), nil
}

func (s *appSight) observed(r reconcile.Request) reconcile.Observed {
	o := reconcile.Observed{Exists: s.app != nil && (s.owned() || !r.Remove), Detail: s}
	switch {
	case s.app == nil:
		o.Health = reconcile.Health{Status: reconcile.Unknown, Message: s.object() + " does not exist"}
	default:
		o.Health = reconcile.Health{Status: reconcile.Ready}
	}
	if s.owned() {
		o.Objects = 1
	}
	return o
}

// Plan implements reconcile.Provider.
func (p *Apps) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	s, ok := o.Detail.(*appSight)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: r.Resource.ID, Op: "plan", Err: fmt.Errorf("observed by another provider: %T", o.Detail)}
	}
	steps, err := s.plan(ctx, r)
	return steps, about(err, r.Resource.ID)
}

func (s *appSight) plan(ctx context.Context, r reconcile.Request) ([]reconcile.Step, error) {
	if r.Remove {
		return s.planRemoval(ctx, r)
	}
	step := reconcile.Step{ID: r.Resource.ID, Object: s.object(), Token: s.token()}
	entry, listed := s.entry()
	switch {
	case s.foreign:
		return nil, &reconcile.Error{
			Kind: reconcile.Conflict, Op: "plan", Object: s.object(),
			Err:  errors.New("the name is taken: the app is in another organization than " + s.org.Slug() + ", or the token does not cover it"),
			Hint: "names of apps are unique on all of Fly: choose another one in platform.appName",
		}

	case s.app == nil && listed && !s.record.Pending:
		step.Action, step.Reason = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: someone}
		return []reconcile.Step{step}, nil

	case s.app == nil:
		step.Action, step.Reason.Code = reconcile.ActionCreate, reconcile.ReasonAbsent
		return []reconcile.Step{step}, nil
	}
	if err := s.unlike(); err != nil {
		return nil, err
	}
	switch {
	case s.owned() && s.record.Pending:
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
		return []reconcile.Step{step}, nil
	case s.owned():
		return nil, nil
	}
	a, err := s.admit(ctx, r.Resource.ID, r.Policy.Adopt)
	if err != nil {
		return nil, err
	}
	step.Blocked = a.blocked()
	switch {
	case listed && entry.Identity == "":
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
	case listed:
		step.Action = reconcile.ActionHeal
		step.Reason = reconcile.Reason{Code: reconcile.ReasonReplaced, Writer: someone, Text: "somebody has made it anew"}
	default:
		step.Action = reconcile.ActionUpdate
		step.Reason = reconcile.Reason{Code: reconcile.ReasonOwnership, Text: "it is there already, " + a.what}
	}
	return []reconcile.Step{step}, nil
}

// unlike says what of an app is not as forge.cue asks for, and cannot be
// changed.
func (s *appSight) unlike() error {
	have, want := s.app.Network, s.spec.Network
	if want == "" {
		want = defaultNetwork
	}
	if have == "" || have == want {
		return nil
	}
	return &reconcile.Error{
		Kind: reconcile.Invalid, Op: "plan", Object: s.object(),
		Err:  fmt.Errorf("it is in the network %q, and forge.cue asks for %q; Fly cannot move an app", have, want),
		Hint: "give the app another name, or say platform.network as it is",
	}
}

// token binds a step to what was seen.
func (s *appSight) token() string {
	if s.app == nil {
		return "absent"
	}
	return identity(*s.app)
}

// Apply implements reconcile.Provider.
func (p *Apps) Apply(ctx context.Context, r reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	id := r.Resource.ID
	ctx, err := p.accounts.acting(ctx, r.Resource)
	if err != nil {
		return reconcile.Observed{}, err
	}
	s, err := p.sight(ctx, r, true)
	if err != nil {
		return reconcile.Observed{}, err
	}
	steps, err := s.plan(ctx, r)
	if err != nil {
		return s.observed(r), about(err, id)
	}
	again := slices.IndexFunc(steps, func(t reconcile.Step) bool { return t.Action == step.Action && t.Token == step.Token })
	switch {
	case again < 0:
		return s.observed(r), &reconcile.Error{
			Kind: reconcile.Stale, ID: id, Op: string(step.Action), Object: step.Object,
			Err: errors.New("it is not as it was when this was planned"),
		}
	case steps[again].Blocked != "":
		return s.observed(r), &reconcile.Error{Kind: reconcile.Invalid, ID: id, Op: string(step.Action), Object: step.Object, Err: errors.New(steps[again].Blocked)}
	}
	switch step.Action {
	case reconcile.ActionForget:
		err = s.inv.Drop(ctx, id)
	case reconcile.ActionDelete:
		err = s.remove(ctx, id)
	default:
		err = s.make(ctx, r)
	}
	if err != nil {
		return s.observed(r), about(err, id)
	}
	after, err := p.sight(ctx, r, true)
	if err != nil {
		return s.observed(r), err
	}
	return after.observed(r), nil
}

// make makes the app where there is none, and lists it.
func (s *appSight) make(ctx context.Context, r reconcile.Request) error {
	record := Record{
		ID: r.Resource.ID, Needs: r.Resource.Needs, Spec: EncodeSpec(s.spec),
		Entries: []Entry{{Kind: entryApp, Name: s.spec.Name}},
	}
	if s.app == nil {
		if err := s.inv.Begin(ctx, record); err != nil {
			return err
		}
		app, err := s.create(ctx)
		if err != nil {
			s.undo(ctx, r.Resource.ID, err)
			return err
		}
		s.app = app
	}
	record.Entries[0].Identity = identity(*s.app)
	return s.inv.Commit(ctx, record)
}

// undo takes back what was written down of an app that Fly has refused to make:
// what appears under its name is not ours. If that fails, it is pending, and
// looked at before it is touched.
func (s *appSight) undo(ctx context.Context, id forge.ID, failed error) {
	var refused *api.Error
	if !errors.As(failed, &refused) || refused.Action != "app.create" || refused.Kind == api.Ambiguous || refused.Kind == api.Unavailable {
		return // it may have been made
	}
	switch {
	case !s.recorded:
		_ = s.inv.Drop(ctx, id)
	case !s.record.Pending:
		_ = s.inv.Commit(ctx, s.record)
	}
}

// create makes the app. Its name is unique on all of Fly: after an answer that
// was lost, what is there under it says whether it was made.
func (s *appSight) create(ctx context.Context) (*api.App, error) {
	const op = "create"
	c := s.org.Client()
	_, err := c.CreateApp(ctx, api.CreateApp{Name: s.spec.Name, Org: s.org.Slug(), Network: s.spec.Network})
	k := api.KindOf(err)
	if err != nil && k != api.Ambiguous && k != api.Taken {
		return nil, Classify(op, s.object(), err)
	}
	failed := err
	// An app that was just made may not be found for a moment.
	for attempt := 0; ; attempt++ {
		app, err := c.App(ctx, s.spec.Name)
		switch k := api.KindOf(err); {
		case err == nil && app.Organization.Slug != "" && !s.org.is(app.Organization.Slug), k == api.Denied:
			return nil, &reconcile.Error{
				Kind: reconcile.Conflict, Op: op, Object: s.object(),
				Err:  errors.New("the name is taken by an app of another organization"),
				Hint: "names of apps are unique on all of Fly: choose another one in platform.appName",
			}
		case err == nil && api.KindOf(failed) == api.Taken:
			// Somebody was faster: what stands there is looked at as what it is.
			return nil, &reconcile.Error{Kind: reconcile.Stale, Op: op, Object: s.object(), Err: failed}
		case err == nil:
			return &app, nil
		case k != api.NotFound || attempt == 5:
			if failed != nil {
				err = failed
			}
			return nil, Classify(op, s.object(), err)
		}
		if err := Pause(ctx, time.Second<<min(attempt, 2)); err != nil {
			return nil, Classify(op, s.object(), err)
		}
	}
}

// Watch implements reconcile.Provider.
func (p *Apps) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return p.accounts.Watch(ctx, forge.KindFlyApp, notify)
}

// Owned implements reconcile.Owner.
func (p *Apps) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return p.accounts.Owned(ctx, environment, forge.KindFlyApp, wanted)
}

// Follows implements reconcile.Follower.
func (p *Apps) Follows(r forge.Resource) bool { return p.accounts.Follows(r.ID) }

// listOf names a few of many.
func listOf(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
