package fly

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// inside is the provider of what lives in an app: its addresses, its volumes,
// its certificates.
type inside struct {
	Service
	section Section
	place   func(reconcile.Request) (app string, ok bool)
	lent    func(forge.Spec) bool // the app is of a cluster that was asked for it; nil: never
	look    func(ctx context.Context, w within) (sight, error)

	mu   sync.Mutex
	seen map[string]bool // identities that a listing has shown, by resource
}

// sight is what was seen of a resource.
type sight interface {
	at() within
	observed() reconcile.Observed
	plan() ([]reconcile.Step, error)
	apply(ctx context.Context, s reconcile.Step) error
}

// within is where a resource is looked at.
type within struct {
	Look
	provider *inside
	client   *api.Client
	app      string // empty: not known yet
	lent     bool   // it is of a cluster, and not in the inventory
	now      time.Time
}

// begin makes p a provider of a kind.
func (p *inside) begin(a *Accounts, kind string, section Section) {
	p.Accounts, p.Kind, p.section, p.seen = a, kind, section, map[string]bool{}
	p.Service.Look = p.enter
}

// enter looks at a resource.
func (p *inside) enter(ctx context.Context, l Look) (View, error) {
	app, ok := p.place(l.Request)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "observe", Err: fmt.Errorf("its spec is a %T", l.Request.Resource.Spec)}
	}
	w := within{Look: l, provider: p, client: l.Org.Client(), app: app, now: time.Now()}
	w.lent = p.lent != nil && p.lent(l.Request.Resource.Spec)
	if err := reserved(app); err != nil && !w.lent {
		return nil, err
	}
	switch {
	case l.Request.Remove && !l.Recorded:
		l.Accounts.Follow(w.ID(), l.Account) // no more
	case app != "":
		w.follow()
	}
	s, err := p.look(ctx, w)
	if err != nil {
		return nil, err
	}
	return seen{s}, nil
}

// seen is a sight, with what is common to all of them.
type seen struct{ sight }

// Observed implements View.
func (s seen) Observed() reconcile.Observed { return s.observed() }

// Print implements View: a listing tells of everything.
func (seen) Print() string { return "" }

// Plan implements View: the steps of the sight, or one that brings its record to
// an end.
func (s seen) Plan() ([]reconcile.Step, error) {
	all, err := s.plan()
	w := s.at()
	if err != nil || len(all) > 0 || !w.Recorded {
		return all, err
	}
	switch {
	case w.Request.Remove:
		all = append(all, w.step(reconcile.ActionForget, "", reconcile.Reason{
			Code: reconcile.ReasonUnwanted, Text: "nothing of it is left that forged has made",
		}))
	case w.Record.Pending:
		all = append(all, w.step(reconcile.ActionRepair, "", reconcile.Reason{Code: reconcile.ReasonInterrupted}))
	}
	return all, nil
}

// Apply implements View.
func (s seen) Apply(ctx context.Context, step reconcile.Step) error {
	w := s.at()
	switch {
	case step.Object == "" && step.Action == reconcile.ActionForget:
		return w.Inventory.Drop(ctx, w.ID())
	case step.Object == "":
		next := w.next()
		maps.DeleteFunc(next.Data, func(key, _ string) bool { return strings.HasPrefix(key, intent) })
		return w.Inventory.Commit(ctx, next)
	case step.Action != reconcile.ActionDelete && step.Action != reconcile.ActionForget:
		if err := w.refusal(ctx, step.Action != reconcile.ActionCreate); err != nil {
			return err
		}
	}
	return s.apply(ctx, step)
}

func (w within) at() within { return w }

// follow has the listings look at the app.
func (w within) follow() {
	w.Accounts.Follow(w.ID(), w.Account, w.topic())
	if w.Fresh {
		w.Org.Touch(w.topic())
	}
}

// refusal is why nothing may be added to the app: it is not forged's.
func (w within) refusal(ctx context.Context, heals bool) error {
	if w.lent {
		return nil
	}
	return w.Inventory.admits(ctx, w.app, heals)
}

// appless is why nothing is added to an app of which a listing says that it does
// not exist: it may be there all the same, and have what is asked for.
func (w within) appless(op, object string) error {
	return &reconcile.Error{
		Kind: reconcile.Unavailable, Op: op, Object: object,
		Err: errors.New("app " + w.app + " does not exist, as far as Fly knows"), Hint: "it goes on when the app is there",
	}
}

func (w within) topic() Topic { return Topic{App: w.app, Section: w.provider.section} }

// step begins one of the resource.
func (w within) step(action reconcile.Action, object string, why reconcile.Reason, token ...string) reconcile.Step {
	return reconcile.Step{ID: w.ID(), Action: action, Object: object, Reason: why, Token: strings.Join(token, " ")}
}

// next is the record as it is to be written: what is asked for, and what is
// owned.
func (w within) next() Record {
	r := w.Record.clone()
	r.Needs = w.Request.Resource.Needs
	if r.Data == nil {
		r.Data = map[string]string{}
	}
	if !w.Request.Remove { // what was asked for stays written down
		r.Spec = EncodeSpec(w.Request.Resource.Spec)
	}
	return r
}

// What is made without being seen is looked for this long: a listing shows what
// is new with a delay of about a second (measured by users of the API), and a
// request that got no answer may still be under way.
const lag = 10 * time.Second

// Clocks differ, and a request may have waited for its turn: what was made so
// long before or after an intent to make it is nothing of ours.
const (
	claimBefore = time.Minute
	claimAfter  = 10 * time.Minute
)

const intent = "begun/"

// intend notes in a record that something is about to be made.
func intend(r *Record, what string) { r.Data[intent+what] = time.Now().UTC().Format(time.RFC3339) }

// intended is when the making of something was begun that was not seen to end;
// zero: it was not.
func (w within) intended(what string) time.Time {
	at, err := time.Parse(time.RFC3339, w.Record.Data[intent+what])
	if err != nil {
		return time.Time{}
	}
	return at
}

// claims tells whether something that was made at a time is what an
// interrupted action made.
func (w within) claims(what string, made time.Time) bool {
	begun := w.intended(what)
	return !begun.IsZero() && !made.IsZero() && made.After(begun.Add(-claimBefore)) && made.Before(begun.Add(claimAfter))
}

// settle waits until what an interrupted action may have made would be seen.
func (w within) settle(ctx context.Context, what string) error {
	left := time.Until(w.intended(what).Add(lag))
	if left <= 0 {
		return nil
	}
	return Pause(ctx, min(left, lag))
}

const made = "made/"

// young tells of something of ours that no listing has shown yet, because it
// was made just now: it counts as there.
func (w within) young(identity string) bool {
	at, err := time.Parse(time.RFC3339, w.Record.Data[made+identity])
	if err != nil || w.now.Sub(at) >= 3*lag {
		return false
	}
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	return !w.provider.seen[w.ID().String()+" "+identity]
}

// shown notes that a listing shows something of ours.
func (w within) shown(identity string) {
	if _, ok := w.Record.Data[made+identity]; !ok {
		return
	}
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	w.provider.seen[w.ID().String()+" "+identity] = true
}

// bear notes when something of ours was made.
func bear(r *Record, identity string) {
	r.Data[made+identity] = time.Now().UTC().Format(time.RFC3339)
}

// vain ends an action that has failed: what was to be made is not there, unless
// nobody knows.
func (w within) vain(ctx context.Context, next Record, what string, failed error) error {
	if api.KindOf(failed) == api.Ambiguous || ctx.Err() != nil {
		return failed // the intent stays
	}
	delete(next.Data, intent+what)
	if err := w.Inventory.Commit(ctx, next); err != nil {
		return failed
	}
	return failed
}

// entryElsewhere is what belongs to another resource.
const entryElsewhere = "elsewhere"

// elsewhere are the identities that other resources of the kind own.
func (w within) elsewhere(kind string) map[string]string {
	all := map[string]string{}
	for _, id := range w.Inventory.IDs() {
		if id.Kind != w.provider.Kind || id == w.ID() {
			continue
		}
		other, _ := w.Inventory.Record(id)
		for _, e := range other.Entries {
			if e.Kind == kind {
				all[e.Identity] = entryElsewhere
			}
		}
	}
	return all
}

// disown takes an entry out of a record.
func disown(r *Record, identity string) {
	r.Entries = slices.DeleteFunc(r.Entries, func(e Entry) bool { return e.Identity == identity })
	delete(r.Data, made+identity)
}
