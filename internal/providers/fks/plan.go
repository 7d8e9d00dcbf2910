package fks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/reconcile"
)

// somebody is the writer of what Fly does not say who wrote it.
const somebody = "somebody on Fly"

// task is what one step does; it travels in Step.Detail.
type task string

const (
	taskMake    task = "make"
	taskNote    task = "note" // in the inventory
	taskDelete  task = "delete"
	taskForget  task = "forget"
	taskNothing task = "nothing" // there is no way to do it
)

func (c *cluster) step(action reconcile.Action, code reconcile.ReasonCode, t task) reconcile.Step {
	sum := sha256.Sum256(fmt.Append(nil, t, c.place, c.Live.ID, c.Live.Status, c.Live.PrimaryRegion))
	step := reconcile.Step{
		ID: c.ID(), Action: action, Object: c.Object, Reason: reconcile.Reason{Code: code}, Detail: t,
		Token: hex.EncodeToString(sum[:8]),
	}
	if action == reconcile.ActionHeal {
		step.Reason.Writer = somebody
	}
	return step
}

// Plan implements fly.View.
func (c *cluster) Plan() ([]reconcile.Step, error) {
	if c.Request.Remove {
		return c.removal(), nil
	}
	adopts := c.Request.Policy.Adopt == forge.AdoptIfUnowned || c.Request.Policy.Adopt == forge.AdoptForce
	name := c.spec.Name
	switch c.place {
	case fly.AddOnAbsent:
		step := c.step(reconcile.ActionCreate, reconcile.ReasonAbsent, taskMake)
		switch {
		case !c.spec.Create:
			step.Blocked = fmt.Sprintf("organization %s has no cluster %s; make one with \"fly ext kubernetes create --name %s\", or write platform.create: true, and pay for it", c.Org.Slug(), name, name)
		case !c.beta:
			step.Blocked = fmt.Sprintf("Fly Kubernetes is a closed beta, and organization %s is not in it; ask for that by mail to beta@fly.io", c.Org.Slug())
		default:
			step.Changes = []reconcile.Change{{Path: fmt.Sprintf("makes a cluster of Fly Kubernetes in %s; it costs money every month", c.spec.Region)}}
		}
		return []reconcile.Step{step}, nil
	case fly.AddOnGone:
		step := c.step(reconcile.ActionHeal, reconcile.ReasonDeleted, taskNote)
		if !c.There {
			step.Blocked = fmt.Sprintf("cluster %s was deleted, with all that was in it; forged puts no empty one in its place: write another platform.cluster for an empty one, or make one by hand (\"fly ext kubernetes create --name %s\") and write policy.adopt: \"if-unowned\"", name, name)
			return []reconcile.Step{step}, nil
		}
		step.Reason.Code = reconcile.ReasonReplaced
		step.Changes = []reconcile.Change{{Path: "uses the other cluster of this name"}}
		if !adopts {
			step.Blocked = fmt.Sprintf("cluster %s was deleted with all that was in it, and another one has its name now; write policy.adopt: \"if-unowned\" to use it", name)
		}
		return []reconcile.Step{step}, nil
	case fly.AddOnForeign:
		step := c.step(reconcile.ActionUpdate, reconcile.ReasonOwnership, taskNote)
		step.Changes = []reconcile.Change{{Path: "takes it over"}}
		if !adopts {
			step.Blocked = fmt.Sprintf("cluster %s is there already, and forged did not make it; write platform.create: false to use it and leave it as it is, or policy.adopt: \"if-unowned\" to look after it", name)
		}
		return []reconcile.Step{step}, nil
	case fly.AddOnBegun:
		return []reconcile.Step{c.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, taskNote)}, nil
	}
	return c.elsewhere(), nil
}

// elsewhere says that a cluster is not where it is asked for: nothing can be
// done about that, and nothing waits for it.
func (c *cluster) elsewhere() []reconcile.Step {
	has, wants := c.Live.PrimaryRegion, c.spec.Region
	if wants == "" || has == "" || has == wants {
		return nil
	}
	step := c.step(reconcile.ActionUpdate, reconcile.ReasonConfig, taskNothing)
	step.Object += ", region"
	step.Reason.Paths = []string{"region"}
	step.Changes = []reconcile.Change{{Path: "region", From: has, To: wants}}
	step.Late = true
	step.Blocked = fmt.Sprintf("the region of a cluster can never change: it is in %s; write platform.region: %q, or another platform.cluster for an empty one in %s", has, has, wants)
	return []reconcile.Step{step}
}

// destroys tells that the removal of the cluster is its end: forged has made it.
func (c *cluster) destroys() bool {
	return c.place == fly.AddOnBegun || c.place == fly.AddOnKnown && c.Record.Data[dataMade] != ""
}

// removal takes away what forged made, and lets go of the rest.
func (c *cluster) removal() []reconcile.Step {
	if !c.Recorded {
		return nil
	}
	if c.destroys() {
		step := c.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, taskDelete)
		step.Deletes = 1
		step.Destroys = []string{fmt.Sprintf("cluster %s of Fly Kubernetes (%s) with everything in it, volumes too, at once and without a backup", c.Live.Name, c.Live.PrimaryRegion)}
		step.Blocked = c.kept
		return []reconcile.Step{step}
	}
	return []reconcile.Step{c.step(reconcile.ActionForget, reconcile.ReasonUnwanted, taskForget)}
}
