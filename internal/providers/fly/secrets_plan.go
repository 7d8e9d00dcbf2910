package fly

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret/entries"
)

// secretsChange is what one step does; it travels in Step.Detail.
type secretsChange struct {
	vault  *vault
	wanted []judged       // to set, and to write down
	remove []entries.Slot // to unset, or to let go of
	all    bool           // the resource itself goes
}

// need is what has to be done about a secret.
type need int

const (
	needHolds   need = iota // nothing
	needCreate              // it is not there
	needAdopt               // it is there, is not ours, and is to be written over
	needRepair              // setting it was begun, and not seen to end
	needChange              // it is to hold something else
	needRestore             // somebody unset it
	needCorrect             // somebody set it
	needTake                // it is there, is not ours, and is left as it is
	needSettle              // setting it was begun, and what is there is what was there before
	needRefused             // it is there, is not ours, and policy.adopt does not allow to touch it
	needLost                // it is generated, and not there any more
	needUnknown             // it is joined from what nobody can tell
	needHeld                // it shares a value with something that cannot be set
)

// judged is a secret and what has to be done about it.
type judged struct {
	*wantedSecret
	need   need
	beside entries.Slot // what holds it up
}

func (j judged) blocked() bool { return j.need >= needRefused }

func (j judged) heal() bool { return j.need == needRestore || j.need == needCorrect }

// judge says what has to be done.
func (v *vault) judge() []judged {
	all := make([]judged, 0, len(v.wanted))
	for _, w := range v.wanted {
		all = append(all, judged{wantedSecret: w, need: v.need(w)})
	}
	for i, j := range all {
		for _, slot := range j.open {
			if j.need == needUnknown && v.foreign(slot) && v.need(v.want(slot)) == needRefused {
				all[i].need, all[i].beside = needHeld, slot
			}
		}
	}
	// A new value is set everywhere or nowhere: nobody could tell it any more a
	// moment later.
	v.spread(all, func(j judged) bool { return j.blocked() }, func(j *judged, beside entries.Slot) { j.need, j.beside = needHeld, beside })
	return all
}

// spread marks what shares a new value with something that is marked.
func (v *vault) spread(all []judged, marked func(judged) bool, mark func(j *judged, beside entries.Slot)) {
	for again := true; again; {
		again = false
		with := map[entries.Slot]entries.Slot{} // a new value: something marked that is to hold it
		for _, j := range all {
			if marked(j) {
				for _, slot := range v.newIn(j.wantedSecret) {
					with[slot] = j.slot
				}
			}
		}
		for i := range all {
			if marked(all[i]) {
				continue
			}
			for _, slot := range v.newIn(all[i].wantedSecret) {
				if beside, ok := with[slot]; ok {
					mark(&all[i], beside)
					again = true
					break
				}
			}
		}
	}
}

func (v *vault) need(w *wantedSecret) need {
	n := v.ledger.names[w.slot]
	live, there := v.seen(w.slot)
	same := there && n.settled() && live.Digest == n.Digest
	admitted := v.request.Policy.Adopt == forge.AdoptIfUnowned || v.request.Policy.Adopt == forge.AdoptForce
	switch {
	case v.foreign(w.slot) && !admitted:
		return needRefused
	case v.foreign(w.slot) && w.value.IsZero():
		if v.isFresh(w) || slices.ContainsFunc(w.open, func(slot entries.Slot) bool { return !v.foreign(slot) && !v.ledger.names[slot].Taken }) {
			return needUnknown
		}
		return needTake
	case v.foreign(w.slot):
		return needAdopt
	case w.value.IsZero() && same && w.hash == n.Hash && n.Writing:
		return needSettle
	case w.value.IsZero() && same && w.hash == n.Hash:
		return needHolds
	case w.value.IsZero() && w.generated:
		return needLost
	case w.value.IsZero():
		return needUnknown
	case n.Writing:
		return needRepair
	case !n.settled():
		return needCreate
	case v.isFresh(w), w.hash != n.Hash:
		return needChange
	case !there:
		return needRestore
	case !same:
		return needCorrect
	}
	return needHolds
}

// Plan implements reconcile.Provider.
func (p *Secrets) Plan(_ context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	v, ok := o.Detail.(*vault)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "observed by another provider: %T", o.Detail)
	}
	if r.Remove {
		if !v.has {
			return nil, nil
		}
		return []reconcile.Step{v.removal(v.ledger.slots(), true)}, nil
	}
	if v.waiting != nil {
		return nil, v.waiting
	}
	all := v.judge()
	steps := v.blockedSteps(all)
	var rollout []judged
	for _, a := range v.spec.Apps {
		var heal []judged
		for _, j := range all {
			switch {
			case j.slot.Object != a.Name || j.blocked() || j.need == needHolds:
			case j.heal():
				heal = append(heal, j)
			default:
				rollout = append(rollout, j)
			}
		}
		if len(heal) > 0 {
			steps = append(steps, v.healing(a.Name, heal))
		}
	}
	if len(rollout) > 0 {
		steps = append(steps, v.rollout(rollout))
	}
	if unwanted := v.unwanted(); len(unwanted) > 0 && r.Policy.Prune {
		step := v.removal(unwanted, false)
		step.Late = true // machines of before the rollout start with them
		steps = append(steps, step)
	}
	return steps, nil
}

// rollout is the step that sets what is new. It is one for all apps: a new value
// that several share is written to all of them.
func (v *vault) rollout(all []judged) reconcile.Step {
	step := v.step(reconcile.ActionUpdate, reconcile.Reason{Code: reconcile.ReasonConfig}, all)
	has := func(need need) bool {
		return slices.ContainsFunc(all, func(j judged) bool { return j.need == need })
	}
	switch {
	case has(needRepair), has(needSettle):
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
	case !slices.ContainsFunc(all, func(j judged) bool { return j.need == needChange }):
		step.Action, step.Reason.Code = reconcile.ActionCreate, reconcile.ReasonAbsent
	}
	var taken, over []string
	for _, j := range all {
		switch j.need {
		case needTake:
			taken = append(taken, j.slot.Key)
		case needAdopt:
			over = append(over, j.slot.Key)
		}
	}
	var text []string
	if len(over) > 0 {
		text = append(text, "of others, and written over: "+strings.Join(over, ", "))
	}
	if len(taken) > 0 {
		text = append(text, "of others, and left as they are: "+strings.Join(taken, ", "))
	}
	step.Reason.Text = strings.Join(text, "; ")
	return step
}

// healing is the step that puts back what somebody has changed in one app.
func (v *vault) healing(app string, all []judged) reconcile.Step {
	why := reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: someone}
	for _, j := range all {
		why.Paths = append(why.Paths, j.slot.Key)
		if j.need == needCorrect {
			live, _ := v.seen(j.slot)
			why.Code = reconcile.ReasonEdited
			if live.UpdatedAt.After(why.At) {
				why.At = live.UpdatedAt.Truncate(time.Second)
			}
		}
	}
	return v.step(reconcile.ActionHeal, why, all)
}

func (v *vault) step(action reconcile.Action, why reconcile.Reason, all []judged) reconcile.Step {
	step := reconcile.Step{
		ID: v.request.Resource.ID, Action: action, Reason: why,
		Detail: &secretsChange{vault: v, wanted: all}, Token: v.token(all),
	}
	apps := map[string]bool{}
	for _, j := range all {
		apps[j.slot.Object] = true
		// The name is all that is shown of it.
		step.Changes = append(step.Changes, reconcile.Change{Path: "app " + j.slot.Object + ": " + j.slot.Key})
	}
	if len(apps) == 1 {
		step.Object = secretsOf(all[0].slot.Object)
	}
	return step
}

// blockedSteps are about what cannot be set: one for each app and reason.
func (v *vault) blockedSteps(all []judged) []reconcile.Step {
	var steps []reconcile.Step
	for _, a := range v.spec.Apps {
		for _, need := range []need{needRefused, needLost, needUnknown, needHeld} {
			of := slices.DeleteFunc(slices.Clone(all), func(j judged) bool { return j.slot.Object != a.Name || j.need != need })
			if len(of) == 0 {
				continue
			}
			step := v.step(reconcile.ActionUpdate, reconcile.Reason{Code: reconcile.ReasonConfig}, of)
			step.Detail, step.Token = &secretsChange{vault: v}, ""
			v.explain(&step, need, of)
			steps = append(steps, step)
		}
	}
	return steps
}

// explain says what a person has to do.
func (v *vault) explain(step *reconcile.Step, need need, of []judged) {
	var names []string
	var open []entries.Slot
	for _, j := range of {
		names = append(names, j.slot.Key)
		open = append(open, j.open...)
		if _, there := v.seen(j.slot); !there && v.ledger.names[j.slot].settled() {
			step.Action, step.Reason.Code = reconcile.ActionHeal, reconcile.ReasonDeleted
		}
	}
	all := strings.Join(names, ", ")
	raise := "have new ones made: in forge.cue, " + strings.Join(entries.Raise(v.spec.Apps, open...), ", ")
	app := of[0].slot.Object
	switch need {
	case needRefused:
		step.Action, step.Reason.Code = reconcile.ActionCreate, reconcile.ReasonAbsent
		step.Blocked = fmt.Sprintf("they exist and forged did not set them: %s; to have it set them: fly secrets unset --stage --app %s %s; "+
			`or set policy.adopt to "if-unowned": what is to be generated is then left as it is, the others are written over`, all, app, strings.Join(names, " "))
	case needLost:
		if step.Action != reconcile.ActionHeal {
			step.Action, step.Reason = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonEdited, Writer: someone}
		}
		step.Blocked = fmt.Sprintf("the generated values of %s are lost: somebody set or unset them, and only Fly knew them; "+
			"set the old ones again, if you have them, with fly secrets set --app %s; or, when what they open takes new ones, %s", all, app, raise)
	case needUnknown:
		step.Blocked = fmt.Sprintf("%s must be set anew, and are joined from generated values that only Fly knows; when what those open takes new ones, %s", all, raise)
	case needHeld:
		beside := of[0].beside
		step.Blocked = fmt.Sprintf("%s: to be set together with %s of app %s, which cannot be set: see there", all, beside.Key, beside.Object)
	}
}

// token fences the secrets a step is about: what was written down of them, and
// what Fly tells.
func (v *vault) token(all []judged) string {
	var b strings.Builder
	add := func(slot entries.Slot) {
		n, _ := json.Marshal(v.ledger.names[slot]) // plain data: it never fails
		live, there := v.seen(slot)
		fmt.Fprintf(&b, "%s %s %t %s\n", slotName(slot), n, there, live.Digest)
	}
	for _, j := range all {
		add(j.slot)
		for _, slot := range j.of {
			add(slot)
		}
	}
	return b.String()
}
