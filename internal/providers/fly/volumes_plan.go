package fly

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// plan implements sight.
func (s *volumes) plan() ([]reconcile.Step, error) {
	if s.Request.Remove {
		return s.removal(), nil
	}
	var steps []reconcile.Step
	for _, v := range s.own {
		if step, ok := s.changing(v); ok {
			steps = append(steps, step)
		}
	}
	if need := s.spec.Count - len(s.own); need > 0 {
		steps = append(steps, s.filling(need)...)
	}
	for _, v := range s.own[min(len(s.own), s.spec.Count):] {
		if v.AttachedMachine == "" && s.Request.Policy.DestroyData == destroyWithToken {
			step := s.deleting(v)
			step.Late = true
			steps = append(steps, step)
		}
	}
	return steps, nil
}

// changing is what is to be done about a volume of ours; false: nothing.
func (s *volumes) changing(v api.Volume) (reconcile.Step, bool) {
	changes := []reconcile.Change{{Path: "size_gb", From: strconv.Itoa(v.SizeGB), To: strconv.Itoa(s.spec.SizeGB)}}
	token := []string{v.ID, strconv.Itoa(v.SizeGB), strconv.Itoa(s.spec.SizeGB)}
	config := reconcile.Reason{Code: reconcile.ReasonConfig}
	switch {
	case v.Region != s.spec.Region:
		step := s.step(reconcile.ActionUpdate, volumeObject(v), config, token...)
		step.Changes = []reconcile.Change{{Path: "region", From: v.Region, To: s.spec.Region}}
		step.Blocked = fmt.Sprintf("it is in %s and cannot move to %s; make a volume of another name there and copy the data", v.Region, s.spec.Region)
		return step, true
	case v.SizeGB < s.spec.SizeGB:
		step := s.step(reconcile.ActionUpdate, volumeObject(v), config, token...)
		if s.asked(v.ID) >= s.spec.SizeGB {
			step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
		}
		step.Changes = changes
		return step, true
	case v.SizeGB > s.spec.SizeGB && s.asked(v.ID) > s.spec.SizeGB:
		step := s.step(reconcile.ActionUpdate, volumeObject(v), config, token...)
		step.Changes = changes
		step.Blocked = fmt.Sprintf("it has %d GB and cannot shrink to %d; write size: \"%dGi\", or make a volume of another name and copy the data", v.SizeGB, s.spec.SizeGB, v.SizeGB)
		return step, true
	}
	return reconcile.Step{}, false
}

// filling are the steps to so many more volumes. What bears the name already
// comes first: beside it, none is made.
func (s *volumes) filling(need int) (steps []reconcile.Step) {
	claimed, lost := s.claimed(), s.lost
	for _, v := range s.free {
		if need == 0 {
			return steps
		}
		need--
		step := s.step(reconcile.ActionCreate, volumeObject(v), reconcile.Reason{
			Code: reconcile.ReasonOwnership, Text: "it is there already; forged looks after it from now on",
		}, v.ID)
		switch {
		case slices.ContainsFunc(claimed, func(c api.Volume) bool { return c.ID == v.ID }):
			step.Action, step.Reason = reconcile.ActionRepair, reconcile.Reason{Code: reconcile.ReasonInterrupted}
		case len(lost) > 0: // Fly gives a volume another id when it moves a machine to another host
			step.Action = reconcile.ActionHeal
			step.Reason = reconcile.Reason{Code: reconcile.ReasonReplaced, Writer: someone, Text: "it is there in the place of " + lost[0].id}
			lost = lost[1:]
		case !adopts(s.Request.Policy):
			step.Blocked = fmt.Sprintf("it exists in %s and forged did not make it; "+notAdopted, s.spec.Region)
		}
		steps = append(steps, step)
	}
	if need == 0 {
		return steps
	}
	missing := min(need, len(lost))
	if s.noApp {
		missing = 0 // they come with the app
	}
	if missing > 0 {
		var ids []string
		for _, l := range lost {
			ids = append(ids, l.id)
		}
		steps = append(steps, s.creating(reconcile.ActionHeal, missing, reconcile.Reason{
			Code: reconcile.ReasonDeleted, Writer: someone,
			Text: strings.Join(ids, ", ") + " is gone with its data; the new one is empty",
		}))
	}
	if more := need - missing; more > 0 {
		step := s.creating(reconcile.ActionCreate, more, reconcile.Reason{Code: reconcile.ReasonAbsent})
		if !s.intended(entryVolume).IsZero() {
			step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
		}
		steps = append(steps, step)
	}
	return steps
}

// notAdopted is what to do about what forged did not make.
const notAdopted = `delete or rename it, or set policy.adopt to "if-unowned" to have forged look after it`

// adopts tells whether forged may take over what it did not make, in an app
// that is its own.
func adopts(p forge.Policy) bool {
	return p.Adopt == forge.AdoptIfUnowned || p.Adopt == forge.AdoptForce
}

func (s *volumes) creating(action reconcile.Action, n int, why reconcile.Reason) reconcile.Step {
	step := s.step(action, "volume "+s.place(), why, strconv.Itoa(n), strconv.Itoa(len(s.own)), strconv.Itoa(len(s.free)))
	step.Changes = []reconcile.Change{
		{Path: "count", From: strconv.Itoa(len(s.own)), To: strconv.Itoa(len(s.own) + n)},
		{Path: "size_gb", To: strconv.Itoa(s.spec.SizeGB)},
	}
	return step
}

func (s *volumes) deleting(v api.Volume) reconcile.Step {
	step := s.step(reconcile.ActionDelete, volumeObject(v), reconcile.Reason{Code: reconcile.ReasonUnwanted}, v.ID, strconv.Itoa(v.SizeGB))
	step.Deletes = 1
	step.Destroys = []string{fmt.Sprintf("volume %s %s (%d GB, %s)", v.Name, v.ID, v.SizeGB, v.Region)}
	return step
}

// removal are the steps by which all goes.
func (s *volumes) removal() []reconcile.Step {
	var steps []reconcile.Step
	for _, v := range s.own {
		step := s.deleting(v)
		if v.AttachedMachine != "" {
			step.Blocked = "machine " + v.AttachedMachine + " uses it; it can go when that is gone"
		}
		steps = append(steps, step)
	}
	return steps
}
