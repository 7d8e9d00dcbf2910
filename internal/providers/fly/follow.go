package fly

import (
	"context"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// causeLive is the cause of all events: something there is another than before.
const causeLive = "live"

// follow is what a resource is made of.
type follow struct {
	org    string // key
	topics []Topic
}

// watcher is who wants to be told of a kind.
type watcher struct {
	kind   string
	notify func(reconcile.Event)
}

// Follow has the listings look at what a resource is made of: when one of the
// topics changes, there is an event about it. Another call replaces the first;
// one without topics ends it. It costs no request.
func (a *Accounts) Follow(id forge.ID, account forge.FlyAccount, topics ...Topic) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(topics) == 0 {
		delete(a.follows, id)
		return
	}
	key := orgKey(account)
	if old := a.follows[id]; old != nil && old.org == key && slices.Equal(old.topics, topics) {
		return
	}
	a.follows[id] = &follow{org: key, topics: slices.Clone(topics)}
}

// Follows tells whether an event would have told if anything of a resource had
// changed since it was looked at. It costs nothing.
func (a *Accounts) Follows(id forge.ID) bool {
	a.mu.Lock()
	f := a.follows[id]
	var org *Org
	if f != nil && a.orgs[f.org] != nil {
		org = a.orgs[f.org].org
	}
	a.mu.Unlock()
	if org == nil {
		return false
	}
	org.mu.Lock()
	defer org.mu.Unlock()
	return !slices.ContainsFunc(f.topics, func(t Topic) bool { return org.topics[t] == nil || !org.topics[t].covered })
}

// Watch tells of changes of what is followed, of one kind of resource, until
// ctx ends.
func (a *Accounts) Watch(ctx context.Context, kind string, notify func(reconcile.Event)) error {
	w := &watcher{kind: kind, notify: notify}
	a.mu.Lock()
	a.watches[w] = struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.watches, w)
		a.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
	case <-a.ctx.Done():
	}
	return nil
}

// followed are the topics of an organization that anybody follows, sorted.
func (a *Accounts) followed(org string) []Topic {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Topic
	for _, f := range a.follows {
		if f.org == org {
			all = append(all, f.topics...)
		}
	}
	slices.SortFunc(all, compareTopics)
	return slices.Compact(all)
}

// tell sends an event to whoever follows one of the topics. retry: what failed
// there may work now.
func (a *Accounts) tell(org string, topics map[Topic]bool, retry bool) {
	if len(topics) == 0 {
		return
	}
	a.tellOf(org, func(_ forge.ID, f *follow) bool {
		return slices.ContainsFunc(f.topics, func(t Topic) bool { return topics[t] })
	}, retry)
}

// tellOf sends an event to those of an organization that are concerned.
func (a *Accounts) tellOf(org string, concerned func(forge.ID, *follow) bool, retry bool) {
	now := time.Now()
	type message struct {
		to func(reconcile.Event)
		ev reconcile.Event
	}
	var all []message
	a.mu.Lock()
	for id, f := range a.follows {
		if f.org != org || !concerned(id, f) {
			continue
		}
		for w := range a.watches {
			if w.kind == id.Kind {
				all = append(all, message{w.notify, reconcile.Event{ID: id, Cause: causeLive, At: now, Retry: retry}})
			}
		}
	}
	a.mu.Unlock()
	for _, m := range all {
		m.to(m.ev)
	}
}
