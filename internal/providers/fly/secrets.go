package fly

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
)

// Secrets is the provider of the secrets of all apps of an environment. Values
// are read where forge.cue says they are, on every look, and go nowhere but to
// Fly, which never shows them again: what is there is compared by Fly's digest
// with what was there after the last write of ours. Generated values are known
// to Fly and, until it ends, to the process that made them.
type Secrets struct {
	accounts *Accounts
	resolver *secret.Resolver

	mu      sync.Mutex
	known   map[forge.ID]*memory
	hashing sync.Mutex
}

var (
	_ reconcile.Provider = (*Secrets)(nil)
	_ reconcile.Owner    = (*Secrets)(nil)
	_ reconcile.Follower = (*Secrets)(nil)
)

// NewSecrets makes the provider of kind "fly-secrets".
func NewSecrets(a *Accounts, resolver *secret.Resolver) *Secrets {
	return &Secrets{accounts: a, resolver: resolver, known: map[forge.ID]*memory{}}
}

// memory is what this process knows of a resource beside what is written down.
// Calls about one resource never overlap: it needs no lock.
type memory struct {
	generated map[entries.Slot]madeValue
	hashes    hashes
	versions  map[string]uint64 // of the last write of this process, by app
}

// madeValue is a generated value.
type madeValue struct {
	value    secret.Value
	rotation int
}

func (p *Secrets) memory(id forge.ID) *memory {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.known[id]
	if m == nil {
		m = &memory{map[entries.Slot]madeValue{}, hashes{&p.hashing, map[entries.Slot]hashed{}}, map[string]uint64{}}
		p.known[id] = m
	}
	return m
}

func (p *Secrets) forget(id forge.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, id)
}

// vault is what is known of the secrets of one environment.
type vault struct {
	org     *Org
	inv     *Inventory
	memory  *memory
	request reconcile.Request
	spec    forge.FlySecretsSpec
	record  Record
	has     bool // there is a record
	ledger  ledger
	live    map[string]liveSecrets // by app
	wanted  []*wantedSecret        // empty when they are to be removed
	waiting error                  // for what they are joined from
}

// liveSecrets are those of one app.
type liveSecrets struct {
	byName map[string]api.AppSecret
	noApp  bool // that is why there are none
}

func (p *Secrets) look(ctx context.Context, r reconcile.Request, fresh bool) (*vault, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.FlySecretsSpec)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	for _, o := range spec.Apps {
		if err := reserved(o.Name); err != nil {
			return nil, about(err, id)
		}
	}
	org, err := p.accounts.Open(ctx, spec.Account)
	if err != nil {
		return nil, about(err, id)
	}
	v := &vault{org: org, memory: p.memory(id), request: r, spec: spec, live: map[string]liveSecrets{}}
	if v.inv, err = org.Inventory(ctx, id.Environment, spec.Account); err != nil {
		return nil, about(err, id)
	}
	v.record, v.has = v.inv.Record(id)
	if v.ledger, err = readLedger(v.record.Data); err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "read", Object: v.inv.object(), Err: err}
	}
	apps := v.apps()
	topics := make([]Topic, 0, len(apps))
	for _, app := range apps {
		topics = append(topics, Topic{App: app, Section: SectionSecrets})
	}
	if fresh {
		org.Touch(topics...)
	}
	p.accounts.Follow(id, spec.Account, topics...)
	for _, t := range topics {
		if v.live[t.App], err = v.list(ctx, t, fresh); err != nil {
			return nil, about(err, id)
		}
	}
	if r.Remove {
		return v, nil // their sources may be gone as well
	}
	err = p.want(ctx, v)
	if reconcile.KindOf(err) == reconcile.Waiting {
		v.waiting = err // told when it is planned: what there is can be observed
		return v, nil
	}
	return v, about(err, id)
}

// apps are those that have secrets of ours, or are to have some; sorted.
func (v *vault) apps() []string {
	apps := map[string]bool{}
	for _, o := range v.spec.Apps {
		apps[o.Name] = true
	}
	for slot := range v.ledger.names {
		apps[slot.Object] = true
	}
	return slices.Sorted(maps.Keys(apps))
}

// How long, and how often, a replica of Fly's is asked that has not heard of a
// write. After that the app may be another one that has the name now, whose
// versions begin anew: what is there is read without the version.
const (
	lagPause    = 500 * time.Millisecond
	lagPatience = 10 * time.Second
)

// list reads what Fly tells of the secrets of an app, in a state that has seen
// our writes. An app that does not exist has none.
func (v *vault) list(ctx context.Context, t Topic, fresh bool) (liveSecrets, error) {
	if !fresh && v.org.lacks(t.App) {
		return liveSecrets{noApp: true}, nil
	}
	version, ok := v.memory.versions[t.App]
	if !ok {
		version = v.ledger.versions[t.App]
	}
	return Read(ctx, v.org, t, func(ctx context.Context) (liveSecrets, error) {
		began := time.Now()
		all, err := v.org.Client().Secrets(ctx, t.App, version)
		for api.KindOf(err) == api.NotYet {
			if time.Since(began) > lagPatience {
				version = 0
			}
			if err := Pause(ctx, lagPause); err != nil {
				return liveSecrets{}, Classify("read", t.String(), err)
			}
			all, err = v.org.Client().Secrets(ctx, t.App, version)
		}
		if api.KindOf(err) == api.NotFound {
			if _, gone := v.org.Client().App(ctx, t.App); api.KindOf(gone) == api.NotFound {
				return liveSecrets{noApp: true}, nil
			}
			err = &reconcile.Error{
				Kind: reconcile.Unavailable, Op: "read", Object: t.String(),
				Err: fmt.Errorf("they are said not to be there, and the app is not: %w", err),
			}
		}
		if err != nil {
			return liveSecrets{}, Classify("read", t.String(), err)
		}
		live := liveSecrets{byName: make(map[string]api.AppSecret, len(all))}
		for _, s := range all {
			live.byName[s.Name] = s
		}
		return live, nil
	})
}

// seen is what Fly tells of one secret.
func (v *vault) seen(slot entries.Slot) (api.AppSecret, bool) {
	s, ok := v.live[slot.Object].byName[slot.Key]
	return s, ok
}

// Observe implements reconcile.Provider. Its outputs are, for each app,
// "version/<app>": that of the newest write of ours, which machines must have
// seen; 0 where nothing was to be written. And as "value/<app>/<name>" what is
// there, which is secret, where this process can tell it.
func (p *Secrets) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	v, err := p.look(ctx, r, false)
	if err != nil {
		return reconcile.Observed{}, err
	}
	return v.observed(), nil
}

func (v *vault) observed() reconcile.Observed {
	o := reconcile.Observed{
		Exists: v.has, Objects: len(v.ledger.names), Detail: v, Notices: v.notices(),
		Outputs: reconcile.Outputs{}, Health: reconcile.Health{Status: reconcile.Ready},
	}
	if v.request.Remove {
		return o
	}
	unset := map[string]bool{} // apps to which something was never written
	var missing []string
	for _, w := range v.wanted {
		n := v.ledger.names[w.slot]
		live, there := v.seen(w.slot)
		if !there {
			missing = append(missing, w.slot.Key+" of app "+w.slot.Object)
		}
		unset[w.slot.Object] = unset[w.slot.Object] || !n.settled()
		if there && n.settled() && live.Digest == n.Digest && !n.Writing && w.hash == n.Hash && !w.value.IsZero() {
			o.Outputs["value/"+slotName(w.slot)] = reconcile.Output{Secret: w.value}
		}
	}
	for _, a := range v.spec.Apps {
		if !unset[a.Name] && v.waiting == nil || v.ledger.versions[a.Name] > 0 {
			o.Outputs["version/"+a.Name] = reconcile.Output{Value: strconv.FormatUint(v.ledger.versions[a.Name], 10)}
		}
	}
	if len(missing) > 0 {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "missing secrets: " + strings.Join(missing, ", ")}
	}
	return o
}

// Codes of notices.
const (
	noticeTaken   = "taken"
	noticeStrange = "foreign-keys"
)

// notices tell of secrets that forged has not set.
func (v *vault) notices() []reconcile.Notice {
	var all []reconcile.Notice
	for _, app := range v.apps() {
		var taken, strange []string
		for _, name := range slices.Sorted(maps.Keys(v.live[app].byName)) {
			slot := entries.Slot{Object: app, Key: name}
			n, ours := v.ledger.names[slot]
			asked := slices.ContainsFunc(v.wanted, func(w *wantedSecret) bool { return w.slot == slot })
			switch {
			case n.Taken:
				taken = append(taken, name)
			case !ours && !asked && v.waiting == nil:
				strange = append(strange, name)
			}
		}
		if len(taken) > 0 {
			all = append(all, reconcile.Notice{
				Code: noticeTaken, Object: secretsOf(app),
				Message: "they were there before, and are left as they are, since nobody can tell what they hold: " + strings.Join(taken, ", "),
			})
		}
		if len(strange) > 0 && !v.request.Remove {
			all = append(all, reconcile.Notice{
				Code: noticeStrange, Object: secretsOf(app),
				Message: "there are some that forged has not set, and that stay: " + strings.Join(strange, ", "),
			})
		}
	}
	return all
}

// secretsOf names the secrets of an app for people.
func secretsOf(app string) string { return "the secrets of app " + app }

// Watch implements reconcile.Provider.
func (p *Secrets) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return p.accounts.Watch(ctx, forge.KindFlySecrets, notify)
}

// Owned implements reconcile.Owner.
func (p *Secrets) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return p.accounts.Owned(ctx, environment, forge.KindFlySecrets, wanted)
}

// Follows implements reconcile.Follower.
func (p *Secrets) Follows(r forge.Resource) bool {
	spec, ok := r.Spec.(forge.FlySecretsSpec)
	return ok && !entries.Silent(spec.Apps) && p.accounts.Follows(r.ID)
}
