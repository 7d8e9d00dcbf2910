package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Secrets is the provider of Secrets. Values are read where forge.cue says
// they are, on every look, and go nowhere but into the cluster. Generated ones
// are made once and then kept where they are: in the cluster.
type Secrets struct {
	clusters *Clusters
	resolver *secret.Resolver

	mu    sync.Mutex
	known map[knownKey]*generated
}

var (
	_ reconcile.Provider = (*Secrets)(nil)
	_ reconcile.Owner    = (*Secrets)(nil)
	_ reconcile.Follower = (*Secrets)(nil)
)

// NewSecrets makes the provider of kind "secrets".
func NewSecrets(clusters *Clusters, resolver *secret.Resolver) reconcile.Provider {
	p := &Secrets{clusters: clusters, resolver: resolver, known: map[knownKey]*generated{}}
	clusters.VerifyBy(forge.KindSecrets, p.verify)
	return p
}

// secrets is what is known of the Secrets of one resource.
type secrets struct {
	cluster *Cluster
	inv     *Inventory
	spec    forge.SecretsSpec
	needs   []forge.ID
	record  Record
	has     bool // there is a record
	drifts  []Drift
	wanted  []wanted // empty when they are to be removed
	fresh   map[slotKey]made
	waiting error // for what they are joined from
}

func (p *Secrets) look(ctx context.Context, r reconcile.Request) (*secrets, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.SecretsSpec)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	if err := p.clusters.Rules(r); err != nil {
		return nil, err
	}
	c, err := p.clusters.Cluster(ctx, r.Resource.Target)
	if err != nil {
		return nil, aboutResource(err, id)
	}
	s := &secrets{cluster: c, spec: spec, needs: r.Resource.Needs}
	if s.inv, err = c.Inventory(ctx, id.Environment, spec.Namespace); err != nil {
		return nil, aboutResource(err, id)
	}
	s.record, s.has = s.inv.Record(id)
	if s.drifts, err = s.inv.Drifted(ctx, id); err != nil {
		return nil, err
	}
	if r.Remove {
		c.follow(id, nil)
		return s, nil // their sources may be gone as well
	}
	s.wanted, s.fresh, err = p.want(ctx, c, r, spec, s.record)
	if reconcile.KindOf(err) == reconcile.Waiting {
		s.waiting = err // told when it is planned: what there is can be observed
		return s, nil
	}
	return s, aboutResource(err, id)
}

func secretRef(namespace, name string) Ref {
	return Ref{GVK: corev1.SchemeGroupVersion.WithKind("Secret"), Namespace: namespace, Name: name}
}

// entry is the record of one Secret; false if it was never applied.
func (s *secrets) entry(ref Ref) (Entry, bool) {
	i := slices.IndexFunc(s.record.Entries, func(e Entry) bool { return e.Ref == ref })
	if i < 0 || s.record.Entries[i].Desired == "" {
		return Entry{Ref: ref}, false
	}
	return s.record.Entries[i], true
}

func (s *secrets) drift(ref Ref) *Drift {
	for i := range s.drifts {
		if s.drifts[i].Entry.Ref == ref {
			return &s.drifts[i]
		}
	}
	return nil
}

// Observe implements reconcile.Provider. Its outputs are, for each Secret that
// was applied, "checksum/<name>": a keyed hash of what it holds, to be put
// where a change of it has to be noticed; and as "value/<name>/<key>" what it
// holds, which is secret.
func (p *Secrets) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	s, err := p.look(ctx, r)
	if err != nil {
		return reconcile.Observed{}, err
	}
	return s.observed(), nil
}

func (s *secrets) observed() reconcile.Observed {
	o := reconcile.Observed{
		Exists: s.has, Objects: len(s.record.Entries), Detail: s,
		Outputs: reconcile.Outputs{}, Health: reconcile.Health{Status: reconcile.Ready},
		Notices: append(s.record.Notices(), s.strange()...),
	}
	for _, e := range s.record.Entries {
		if checksum, _, ok := strings.Cut(e.Desired, "/"); ok {
			o.Outputs["checksum/"+e.Ref.Name] = reconcile.Output{Value: checksum}
		}
	}
	var missing []string
	for _, w := range s.wanted {
		ref := secretRef(s.spec.Namespace, w.name)
		e, ok := s.entry(ref)
		if !ok {
			missing = append(missing, w.name)
		}
		if e.Desired != w.desired() {
			continue // what is wanted is not there yet, and nobody may rely on it
		}
		for key, v := range w.data {
			o.Outputs["value/"+w.name+"/"+key] = reconcile.Output{Secret: v}
		}
	}
	for _, d := range s.drifts {
		if d.Code == reconcile.ReasonDeleted {
			missing = append(missing, d.Entry.Ref.Name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		o.Health = reconcile.Health{
			Status:  reconcile.Progressing,
			Message: "missing Secrets: " + strings.Join(slices.Compact(missing), ", "),
		}
	}
	return o
}

// Watch implements reconcile.Provider.
func (p *Secrets) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return p.clusters.Watch(ctx, forge.KindSecrets, notify)
}

// Owned implements reconcile.Owner.
func (p *Secrets) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return p.clusters.Owned(ctx, environment, forge.KindSecrets, wanted, func(namespace string) forge.Spec {
		return forge.SecretsSpec{Namespace: namespace}
	})
}

// Apply implements reconcile.Provider.
func (p *Secrets) Apply(ctx context.Context, r reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	id := r.Resource.ID
	ch, ok := step.Detail.(*change)
	if !ok {
		return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	s := ch.set
	if step.Blocked != "" {
		return s.observed(), &reconcile.Error{Kind: reconcile.Invalid, ID: id, Object: step.Object, Op: string(step.Action), Err: errors.New(step.Blocked)}
	}
	// Look again, at what the watches know: nothing of it is asked of the
	// server, and the values are those that were planned.
	now := &secrets{cluster: s.cluster, inv: s.inv, spec: s.spec, needs: s.needs}
	now.record, now.has = s.inv.Record(id)
	var err error
	if now.drifts, err = s.inv.Drifted(ctx, id); err != nil {
		return s.observed(), err
	}
	now.wanted, now.fresh = s.wanted, s.fresh
	if now.token(ch.wanted) != s.token(ch.wanted) {
		return now.observed(), staleStep(step)
	}

	switch {
	case step.Action == reconcile.ActionDelete, step.Action == reconcile.ActionForget:
		err = now.delete(ctx, id, ch)
	case step.Action == reconcile.ActionHeal:
		var entries []Entry
		entries, err = now.put(ctx, id, ch)
		s.inv.Rebase(id, entries...)
	default:
		err = now.roll(ctx, id, ch)
	}
	if err != nil {
		now.record, now.has = s.inv.Record(id)
		return now.observed(), aboutResource(err, id)
	}
	if ch.all {
		p.forgetGenerated(r.Resource)
		return reconcile.Observed{}, nil
	}
	p.keepGenerated(r.Resource, s.fresh, ch.wanted)
	return p.Observe(ctx, r)
}

// roll applies new or changed Secrets between two notes in the inventory.
func (s *secrets) roll(ctx context.Context, id forge.ID, ch *change) error {
	ws := ch.wanted
	refs := make([]Ref, 0, len(ws))
	for _, w := range ws {
		refs = append(refs, secretRef(s.spec.Namespace, w.name))
	}
	if err := s.inv.Begin(ctx, id, refs); err != nil {
		return err
	}
	defer s.inv.Abort(id) // after a Commit there is nothing left to abort
	for _, w := range ws {
		if err := s.cluster.TakeOver(ctx, ch.admitted[w.name]); err != nil {
			return err
		}
	}
	entries, err := s.put(ctx, id, ch)
	if err != nil {
		return err
	}
	record, _ := s.inv.Record(id)
	record.Pending, record.Needs = false, s.needs
	for _, e := range entries {
		record.Put(e)
	}
	return s.inv.Commit(ctx, record)
}

// put applies Secrets and returns their new entries. One that is refused keeps
// none of the others from being written.
func (s *secrets) put(ctx context.Context, id forge.ID, ch *change) ([]Entry, error) {
	entries := make([]Entry, 0, len(ch.wanted))
	var refused []error
	for _, w := range ch.wanted {
		obj := w.object(s.cluster, id, s.spec.Namespace)
		obj.SetUID(s.found(w, ch.admitted[w.name])) // the server refuses another Secret under the same name
		a, err := s.cluster.Apply(ctx, obj)
		if kind := reconcile.KindOf(err); err != nil && (kind == reconcile.Invalid || kind == reconcile.Denied) {
			refused = append(refused, err)
			continue
		}
		if err != nil {
			return entries, err
		}
		entries = append(entries, Entry{
			Ref: secretRef(s.spec.Namespace, w.name), Desired: w.desired(), Baseline: a.Baseline,
			Generated: rotationText(w.rotations, true),
		})
	}
	return entries, together(refused)
}

// together is the first error, which tells the others too.
func together(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	var first *reconcile.Error
	if len(errs) == 1 || !errors.As(errs[0], &first) {
		return errs[0]
	}
	all := *first
	for _, err := range errs[1:] {
		all.Err = fmt.Errorf("%w; and %s", all.Err, err.Error())
	}
	return &all
}

// found is the uid of the Secret that a step was planned on; empty: there was
// none.
func (s *secrets) found(w wanted, a Admission) types.UID {
	ref := secretRef(s.spec.Namespace, w.name)
	entry, applied := s.entry(ref)
	switch d := s.drift(ref); {
	case d != nil:
		return types.UID(d.State.UID)
	case applied:
		return types.UID(entry.Baseline.UID)
	case a.Live != nil:
		return a.Live.GetUID()
	}
	return ""
}

// delete deletes what is recorded, if it still is what was recorded. What holds
// generated values is kept: a database that was set up with them may stay.
func (s *secrets) delete(ctx context.Context, id forge.ID, ch *change) error {
	if err := s.inv.Begin(ctx, id, nil); err != nil {
		return err
	}
	defer s.inv.Abort(id)
	for _, e := range ch.remove {
		e.Keep = e.Keep || irreplaceable(id.Environment, e)
		if _, err := s.inv.Prune(ctx, id, e); err != nil {
			return err
		}
	}
	if ch.all {
		return s.inv.Drop(ctx, id)
	}
	record, _ := s.inv.Record(id)
	record.Pending = false
	record.Entries = slices.DeleteFunc(record.Entries, func(e Entry) bool {
		return slices.ContainsFunc(ch.remove, func(gone Entry) bool { return gone.Ref == e.Ref })
	})
	return s.inv.Commit(ctx, record)
}
