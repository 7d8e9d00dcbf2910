package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// change is what one step does; it travels in Step.Detail.
type change struct {
	set    *secrets
	wanted []wanted // to apply
	remove []Entry  // to delete
	all    bool     // the resource itself goes

	admitted map[string]Admission // by name of the Secret, where one is made
}

// Plan implements reconcile.Provider.
func (p *Secrets) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	s, ok := o.Detail.(*secrets)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "observed by another provider: %T", o.Detail)
	}
	id := r.Resource.ID
	if r.Remove {
		if !s.has {
			return nil, nil
		}
		step := s.removal(id, s.record.Entries)
		step.Detail.(*change).all = true
		return []reconcile.Step{step}, nil
	}

	if s.waiting != nil {
		return nil, s.waiting
	}
	var creates, taken, updates []wanted
	admitted := map[string]Admission{}
	var steps []reconcile.Step
	for _, w := range s.wanted {
		ref := secretRef(s.spec.Namespace, w.name)
		entry, applied := s.entry(ref)
		d := s.drift(ref)
		admission, err := s.admit(ctx, r, ref, entry, applied, d)
		if err != nil {
			return nil, aboutResource(err, id)
		}
		why := admission.Blocked()
		admitted[w.name] = admission
		switch {
		case d != nil && d.State.Deleting:
			steps = append(steps, reconcile.Step{
				ID: id, Action: reconcile.ActionHeal, Object: ref.String(),
				Reason:  reconcile.Reason{Code: reconcile.ReasonDeleted},
				Blocked: "its deletion has begun and is not finished", Detail: &change{set: s},
			})
		case why != "":
			step := reconcile.Step{
				ID: id, Action: reconcile.ActionCreate, Object: ref.String(),
				Reason:  reconcile.Reason{Code: reconcile.ReasonAbsent},
				Blocked: why, Detail: &change{set: s},
			}
			if applied {
				step.Action, step.Reason.Code = reconcile.ActionHeal, reconcile.ReasonReplaced
			}
			steps = append(steps, step)
		case len(w.lost) > 0:
			steps = append(steps, s.lostStep(id, w, d))
		case !applied && admission.Live != nil && !s.record.Pending:
			taken = append(taken, w)
		case !applied:
			creates = append(creates, w)
		case entry.Desired != w.desired() && (d == nil || d.Code != reconcile.ReasonDeleted):
			updates = append(updates, w)
		case d != nil:
			step, err := s.heal(ctx, id, w, *d)
			if err != nil {
				return nil, aboutResource(err, id)
			}
			step.Reason.Text = cmp.Or(s.anew(id.Environment, w), step.Reason.Text)
			steps = append(steps, step)
		}
	}
	if len(creates) > 0 {
		step := s.rollout(id, reconcile.ActionCreate, reconcile.ReasonAbsent, creates)
		step.Detail.(*change).admitted = admitted
		if s.record.Pending {
			step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
		}
		steps = append(steps, step)
	}
	for _, w := range taken {
		step := s.rollout(id, reconcile.ActionUpdate, reconcile.ReasonOwnership, []wanted{w})
		step.Detail.(*change).admitted, step.Reason.Text = admitted, admitted[w.name].Told()
		steps = append(steps, step)
	}
	if len(updates) > 0 {
		step := s.rollout(id, reconcile.ActionUpdate, reconcile.ReasonConfig, updates)
		step.Reason.Text = s.overwritten(updates)
		steps = append(steps, step)
	}
	var unwanted []Entry
	for _, e := range s.record.Entries {
		if !slices.ContainsFunc(s.wanted, func(w wanted) bool { return secretRef(s.spec.Namespace, w.name) == e.Ref }) {
			unwanted = append(unwanted, e)
		}
	}
	if len(unwanted) > 0 && r.Policy.Prune {
		step := s.removal(id, unwanted)
		step.Late = true // pods of before the rollout read them
		steps = append(steps, step)
	}
	return steps, nil
}

// admit decides whether a Secret may be written that is there already.
func (s *secrets) admit(ctx context.Context, r reconcile.Request, ref Ref, e Entry, applied bool, d *Drift) (Admission, error) {
	if applied && d != nil && r.Policy.Adopt != forge.AdoptForce {
		if taken := d.State.Taken(r.Resource.ID); taken != "" {
			return Admission{Refused: taken}, nil
		}
	}
	if applied && (d == nil || d.Code != reconcile.ReasonReplaced) {
		return Admission{}, nil // known by its uid
	}
	return s.cluster.Admit(ctx, Claim{
		Ref: ref, Owner: r.Resource.ID, Adopt: r.Policy.Adopt, UID: e.Baseline.UID,
		// A person made anew what was ours: it is put back like any edit.
		Marked: func(live *unstructured.Unstructured) bool {
			return applied && ForeignOwner(live, s.cluster.instance) == ""
		},
	})
}

// overwritten says that generated values are others than those that were
// applied, since somebody changed them while nobody who knew them ran.
func (s *secrets) overwritten(ws []wanted) string {
	for _, w := range ws {
		ref := secretRef(s.spec.Namespace, w.name)
		e, _ := s.entry(ref)
		d := s.drift(ref)
		if d != nil && d.Code == reconcile.ReasonEdited && e.Generated == rotationText(w.rotations, true) && irreplaceable("", e) {
			return "somebody changed " + ref.String() + " while forged did not run; of generated values, what is there now is used"
		}
	}
	return ""
}

// anew says which generated values of a Secret that had been applied are made
// anew, because nobody knows the old ones any more; empty: none.
func (s *secrets) anew(environment string, w wanted) string {
	var keys []string
	for key := range w.data {
		if _, ok := s.fresh[slotKey{Object: w.name, Key: key}]; ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	switch {
	case len(keys) == 0:
		return ""
	case w.name == hashKeySecret(environment) && slices.Equal(keys, []string{hashKeyName}):
		return "the key of checksums was lost with it: a new one is made, and what reads secrets restarts once"
	}
	return "the generated values of " + strings.Join(keys, ", ") + " were lost with it: new ones are made, and what reads them restarts"
}

func (s *secrets) rollout(id forge.ID, action reconcile.Action, code reconcile.ReasonCode, ws []wanted) reconcile.Step {
	step := reconcile.Step{
		ID: id, Action: action, Reason: reconcile.Reason{Code: code},
		Detail: &change{set: s, wanted: ws}, Token: s.token(ws),
	}
	if len(ws) == 1 {
		step.Object = secretRef(s.spec.Namespace, ws[0].name).String()
	}
	for _, w := range ws {
		for _, key := range sortedKeys(w.data) {
			// The name is all that is shown of it.
			step.Changes = append(step.Changes, reconcile.Change{Path: "Secret " + w.name + ": " + key})
		}
	}
	return step
}

func (s *secrets) heal(ctx context.Context, id forge.ID, w wanted, d Drift) (reconcile.Step, error) {
	step := reconcile.Step{
		ID: id, Action: reconcile.ActionHeal, Object: d.Entry.Ref.String(),
		Detail: &change{set: s, wanted: []wanted{w}}, Token: s.token([]wanted{w}),
	}
	var err error
	step.Reason, step.Changes, err = s.cluster.explainDesired(ctx, d, w.object(s.cluster, id, s.spec.Namespace))
	return step, err
}

func (s *secrets) removal(id forge.ID, entries []Entry) reconcile.Step {
	step := reconcile.Step{
		ID: id, Action: reconcile.ActionDelete,
		Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted},
		Detail: &change{set: s, remove: slices.Clone(entries)},
	}
	var kept []string
	for _, e := range entries {
		if e.Keep || irreplaceable(id.Environment, e) {
			kept = append(kept, e.Ref.Name)
			step.Stays = append(step.Stays, s.cluster.Stay(e.Ref))
			continue
		}
		step.Deletes++
		step.Changes = append(step.Changes, reconcile.Change{Path: e.Ref.String()})
	}
	if len(kept) > 0 {
		step.Reason.Text = "kept, since only the cluster knows their values: " + strings.Join(kept, ", ")
		if step.Deletes == 0 {
			step.Action = reconcile.ActionForget
		}
	}
	if len(entries) == 1 {
		step.Object = entries[0].Ref.String()
	}
	return step
}

// token fences the Secrets a step is about: what was recorded of them and
// whether it still held.
func (s *secrets) token(ws []wanted) string {
	var b strings.Builder
	for _, w := range ws {
		ref := secretRef(s.spec.Namespace, w.name)
		e, _ := s.entry(ref)
		fmt.Fprintf(&b, "%s %s %s", ref, e.Desired, e.Baseline.Digest)
		if d := s.drift(ref); d != nil {
			b.WriteString(" " + tokenOf(d.State))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
