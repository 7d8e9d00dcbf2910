package fly

import (
	"context"
	"slices"
	"strings"

	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
)

// fate is what becomes of a secret that forge.cue no longer asks for.
type fate int

const (
	fateUnset  fate = iota
	fateGone        // it is not there any more
	fateKept        // only Fly knows its value
	fateTheirs      // somebody else has set it since
)

// fate of a secret. all: the whole resource goes, and what is joined from
// generated values stays with them: nobody could join it again.
func (v *vault) fate(slot entries.Slot, all bool) fate {
	n := v.ledger.names[slot]
	live, there := v.seen(slot)
	switch {
	case !there:
		return fateGone
	case v.foreign(slot), n.Taken, n.settled() && !n.Writing && n.Digest != live.Digest:
		return fateTheirs
	case n.settled() && (n.Generated || all && len(n.Of) > 0):
		return fateKept
	}
	return fateUnset
}

// unwanted are the secrets that nobody asks for any more, but for what is kept.
func (v *vault) unwanted() []entries.Slot {
	return slices.DeleteFunc(v.ledger.slots(), func(slot entries.Slot) bool {
		return v.want(slot) != nil || v.ledger.names[slot].Kept && v.fate(slot, false) == fateKept
	})
}

// removal is the step that unsets what is ours.
func (v *vault) removal(slots []entries.Slot, all bool) reconcile.Step {
	step := reconcile.Step{
		ID: v.request.Resource.ID, Action: reconcile.ActionDelete,
		Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted},
		Detail: &secretsChange{vault: v, remove: slots, all: all}, Token: v.tokenOf(slots),
	}
	said := map[fate][]string{}
	apps := map[string]bool{}
	for _, slot := range slots {
		f := v.fate(slot, all)
		said[f] = append(said[f], slot.Key+" of app "+slot.Object)
		apps[slot.Object] = true
		if f == fateUnset {
			step.Deletes++
			step.Changes = append(step.Changes, reconcile.Change{Path: "app " + slot.Object + ": " + slot.Key})
		}
	}
	if len(apps) == 1 {
		step.Object = secretsOf(slots[0].Object)
	}
	if step.Deletes == 0 {
		step.Action = reconcile.ActionForget
	}
	var text []string
	for _, f := range []struct {
		fate fate
		text string
	}{
		{fateKept, "kept, since only Fly knows their values: "},
		{fateTheirs, "left, since it is not forged that set them last: "},
		{fateGone, "not there any more: "},
	} {
		if names := said[f.fate]; len(names) > 0 {
			text = append(text, f.text+strings.Join(names, ", "))
		}
	}
	step.Reason.Text = strings.Join(text, "; ")
	return step
}

func (v *vault) tokenOf(slots []entries.Slot) string {
	all := make([]judged, 0, len(slots))
	for _, slot := range slots {
		all = append(all, judged{wantedSecret: &wantedSecret{slot: slot}})
	}
	return v.token(all)
}

// unset unsets what is still ours, one request for each app, and lets go of the
// rest. One app that refuses keeps none of the others from being done.
func (v *vault) unset(ctx context.Context, ch *secretsChange) error {
	l := v.ledger.clone()
	var failed error
	for _, app := range v.apps() {
		of := slices.DeleteFunc(slices.Clone(ch.remove), func(slot entries.Slot) bool { return slot.Object != app })
		values := map[string]*secret.Value{}
		for _, slot := range of {
			if v.fate(slot, ch.all) == fateUnset {
				values[slot.Key] = nil
			}
		}
		if err := v.unsetIn(ctx, app, values); err != nil {
			failed = firstError(failed, err)
			continue
		}
		for _, slot := range of {
			if n := l.names[slot]; !ch.all && v.fate(slot, false) == fateKept {
				n.Kept = true
				l.names[slot] = n
				continue
			}
			l.drop(slot)
			delete(v.memory.generated, slot)
		}
	}
	if failed == nil && ch.all {
		return v.inv.Drop(ctx, v.request.Resource.ID)
	}
	return firstError(failed, v.save(ctx, l))
}

// unsetIn unsets secrets of an app, unless somebody has made another one of its
// name.
func (v *vault) unsetIn(ctx context.Context, app string, values map[string]*secret.Value) error {
	if len(values) == 0 {
		return nil
	}
	if another, err := v.inv.another(ctx, app); err != nil || another {
		return err
	}
	written, err := v.set(ctx, app, values)
	switch {
	case api.KindOf(err) == api.NotFound:
		return nil
	case err != nil:
		return Classify("unset", secretsOf(app), err)
	}
	v.memory.versions[app] = written.Version
	return nil
}

// firstError is the first error there is.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
