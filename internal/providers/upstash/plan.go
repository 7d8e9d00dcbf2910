package upstash

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/reconcile"
)

// somebody is the writer of what Fly does not say who wrote it.
const somebody = "somebody on Fly"

// task is what one step does; it travels in Step.Detail.
type task string

const (
	taskMake     task = "make"
	taskNote     task = "note" // in the inventory, and in the metadata
	taskPlan     task = "plan"
	taskRegions  task = "readRegions"
	taskEvict    task = "evict"
	taskProdPack task = "prodPack"
	taskDelete   task = "delete"
	taskForget   task = "forget"
	taskNothing  task = "nothing" // there is no way to do it
)

func (d *database) step(action reconcile.Action, code reconcile.ReasonCode, t task) reconcile.Step {
	step := reconcile.Step{
		ID: d.ID(), Action: action, Object: d.Object, Reason: reconcile.Reason{Code: code}, Detail: t, Token: d.token(t),
	}
	if action == reconcile.ActionHeal {
		step.Reason.Writer = somebody
	}
	return step
}

// token is all that a step was planned on.
func (d *database) token(t task) string {
	state := []any{t, d.place, d.Live.ID, d.Live.Status, d.owner()}
	switch t {
	case taskPlan:
		state = append(state, d.Live.PlanID)
	case taskRegions:
		state = append(state, d.readRegions())
	case taskEvict, taskProdPack:
		state = append(state, d.Live.Options)
	}
	sum := sha256.Sum256(fmt.Append(nil, state...))
	return hex.EncodeToString(sum[:8])
}

// Plan implements fly.View.
func (d *database) Plan() ([]reconcile.Step, error) {
	if d.Request.Remove {
		return d.removal(), nil
	}
	adopts := d.Request.Policy.Adopt == forge.AdoptIfUnowned || d.Request.Policy.Adopt == forge.AdoptForce
	switch d.place {
	case fly.AddOnAbsent:
		step := d.step(reconcile.ActionCreate, reconcile.ReasonAbsent, taskMake)
		if !d.spec.Create {
			step.Blocked = fmt.Sprintf("organization %s has no Redis database %s; make one with \"fly redis create\", or write services.redis.create: true, and pay for it", d.Org.Slug(), d.spec.Name)
			return []reconcile.Step{step}, nil
		}
		step.Changes = []reconcile.Change{{Path: fmt.Sprintf("makes a Redis database of plan %s in %s; it costs money", d.spec.Plan, d.spec.Region)}}
		return []reconcile.Step{step}, nil
	case fly.AddOnGone:
		step := d.step(reconcile.ActionHeal, reconcile.ReasonDeleted, taskNote)
		if !d.There {
			step.Blocked = fmt.Sprintf("the Redis database %s was deleted, with all its data; forged puts no empty one in its place: write another services.redis.name for an empty one, or make one by hand (\"fly redis create --name %s\") and write policy.adopt: \"if-unowned\"", d.spec.Name, d.spec.Name)
			return []reconcile.Step{step}, nil
		}
		step.Reason.Code = reconcile.ReasonReplaced
		step.Changes = []reconcile.Change{{Path: "uses the other database of this name"}}
		switch {
		case d.owner() == another:
			step.Blocked = d.theirs()
		case !adopts:
			step.Blocked = fmt.Sprintf("the Redis database %s was deleted with its data, and another one has its name now; write policy.adopt: \"if-unowned\" to use it", d.spec.Name)
		}
		return []reconcile.Step{step}, nil
	case fly.AddOnForeign:
		step := d.step(reconcile.ActionUpdate, reconcile.ReasonOwnership, taskNote)
		step.Changes = []reconcile.Change{{Path: "takes it over"}}
		switch {
		case d.owner() == another:
			step.Blocked = d.theirs()
		case d.owner() == nobody && !adopts:
			step.Blocked = fmt.Sprintf("the Redis database %s is there already, and forged did not make it; write services.redis.create: false to use it and leave it as it is, or policy.adopt: \"if-unowned\" to take it over", d.spec.Name)
		}
		return []reconcile.Step{step}, nil
	case fly.AddOnBegun:
		return []reconcile.Step{d.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, taskNote)}, nil
	case fly.AddOnKnown:
		return d.changes(), nil
	}
	return nil, nil
}

// theirs says who has a database.
func (d *database) theirs() string {
	return fmt.Sprintf("the Redis database %s belongs to another forged, or another environment (%v/%v, by its metadata); give this environment one of its own: services.redis.name",
		d.spec.Name, d.Live.Metadata[markInstance], d.Live.Metadata[markEnvironment])
}

// changes are what is not as it is asked for.
func (d *database) changes() []reconcile.Step {
	if d.owner() == another {
		step := d.step(reconcile.ActionHeal, reconcile.ReasonOwnership, taskNote)
		step.Blocked = d.theirs()
		return []reconcile.Step{step}
	}
	if !d.ready() {
		return nil
	}
	var steps []reconcile.Step
	if d.owner() == nobody {
		step := d.step(reconcile.ActionHeal, reconcile.ReasonOwnership, taskNote)
		if d.Record.Pending {
			step = d.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, taskNote)
		}
		step.Changes = []reconcile.Change{{Path: "notes in its metadata whose it is"}}
		steps = append(steps, step)
	} else if d.Record.Pending {
		steps = append(steps, d.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, taskNote))
	}
	if !d.spec.Create {
		return steps // it stays as it is
	}
	before := d.spec
	if d.applied != nil {
		before = *d.applied
	}
	differs := func(t task, same, applied bool, from, to string) *reconcile.Step {
		if same {
			return nil
		}
		step := d.step(reconcile.ActionUpdate, reconcile.ReasonConfig, t)
		if applied && d.applied != nil {
			step = d.step(reconcile.ActionHeal, reconcile.ReasonEdited, t)
		}
		path := string(t)
		if t == taskNothing {
			path = "region"
		}
		step.Object += ", " + path
		step.Reason.Paths = []string{path}
		step.Changes = []reconcile.Change{{Path: path, From: from, To: to}}
		steps = append(steps, step)
		return &steps[len(steps)-1]
	}
	differs(taskPlan, d.Live.PlanID == d.planID, before.Plan == d.spec.Plan, d.Live.Plan, d.spec.Plan)
	has, wants := d.readRegions(), d.wantsRegions(d.spec)
	differs(taskRegions, slices.Equal(has, wants), slices.Equal(wants, d.wantsRegions(before)), list(has), list(wants))
	evicts, _ := d.Live.Options[optionEviction].(bool)
	differs(taskEvict, evicts == d.spec.Evict, before.Evict == d.spec.Evict, fmt.Sprint(evicts), fmt.Sprint(d.spec.Evict))
	if asked := d.spec.ProdPack; asked != nil {
		pack, _ := d.Live.Options[optionProdPack].(bool)
		differs(taskProdPack, pack == *asked, before.ProdPack != nil && *before.ProdPack == *asked, fmt.Sprint(pack), fmt.Sprint(*asked))
	}
	if step := differs(taskNothing, d.Live.PrimaryRegion == d.spec.Region, before.Region == d.spec.Region, d.Live.PrimaryRegion, d.spec.Region); step != nil {
		step.Late = true // nothing waits for it
		step.Blocked = fmt.Sprintf("a Redis database cannot move to another primary region: it is in %s; write services.redis.region: %q, or another services.redis.name for an empty one there", d.Live.PrimaryRegion, d.Live.PrimaryRegion)
	}
	return steps
}

func list(regions []string) string { return strings.Join(regions, ", ") }

// readRegions are those that the database has, sorted.
func (d *database) readRegions() []string { return slices.Sorted(slices.Values(d.Live.ReadRegions)) }

// wantsRegions are those that it is to have: the primary one is none of them.
func (d *database) wantsRegions(spec forge.UpstashRedisSpec) []string {
	var all []string
	for _, r := range spec.ReadRegions {
		if r != d.Live.PrimaryRegion && !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	slices.Sort(all)
	return all
}

// removal takes away what forged made, and lets go of the rest.
func (d *database) removal() []reconcile.Step {
	if !d.Recorded {
		return nil
	}
	if (d.place == fly.AddOnKnown || d.place == fly.AddOnBegun) && d.owner() != another {
		step := d.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, taskDelete)
		step.Deletes = 1
		step.Destroys = []string{fmt.Sprintf("Redis database %s (plan %s, %s), at once and without a backup", d.Live.Name, d.Live.Plan, d.Live.PrimaryRegion)}
		return []reconcile.Step{step}
	}
	return []reconcile.Step{d.step(reconcile.ActionForget, reconcile.ReasonUnwanted, taskForget)}
}
