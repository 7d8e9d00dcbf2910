package flypostgres

import (
	"fmt"
	"strings"

	"forged.dev/forged/internal/reconcile"
)

// unchangeable are the differences that Fly has no way to remove. Nothing waits
// for them.
func (s *cluster) unchangeable() []reconcile.Step {
	if !s.ours() {
		return nil // what somebody else's is like is their business
	}
	var steps []reconcile.Step
	differs := func(path, has, wants, before, why string) {
		if has == wants {
			return
		}
		action, code := reconcile.ActionUpdate, reconcile.ReasonConfig
		if s.applied != nil && before == wants {
			action, code = reconcile.ActionHeal, reconcile.ReasonEdited
		}
		step := s.step(action, code, task{kind: entryCluster, name: s.spec.Name, do: doChange}, path)
		step.Object = entryCluster + " " + s.spec.Name + ", " + path
		step.Changes[0].From, step.Changes[0].To = has, wants
		step.Reason.Paths = []string{path}
		step.Blocked, step.Late = why, true
		steps = append(steps, step)
	}
	before := s.spec
	if s.applied != nil {
		before = *s.applied
	}
	const move = "; to have it, make another cluster (another services.postgres.cluster) and move the data there"
	c := s.cluster
	differs("plan", c.plan, wirePlan(s.spec.Plan), wirePlan(before.Plan),
		fmt.Sprintf("the plan of a cluster cannot change: it is %q%s, or write services.postgres.plan: %q", c.plan, move, strings.ToLower(c.plan)))
	differs("region", c.region, s.spec.Region, before.Region,
		fmt.Sprintf("a cluster cannot move to another region: it is in %s%s, or write services.postgres.region: %q", c.region, move, c.region))
	if c.storageGB > 0 && c.storageGB < s.spec.StorageGB { // Fly makes it larger by itself when it fills up
		differs("storageGB", fmt.Sprint(c.storageGB), fmt.Sprint(s.spec.StorageGB), fmt.Sprint(before.StorageGB),
			fmt.Sprintf("the disk of a cluster cannot be made larger by hand: it has %d GB, and Fly makes it larger when it fills up%s, or write services.postgres.storageGB: %d", c.storageGB, move, c.storageGB))
	}
	if c.version != "" {
		differs("version", c.version, s.spec.Version, before.Version,
			fmt.Sprintf("a cluster cannot change to another major version: it is PostgreSQL %s%s, or write services.postgres.version: %q", c.version, move, c.version))
	}
	differs("postgis", fmt.Sprint(c.postGIS), fmt.Sprint(s.spec.PostGIS), fmt.Sprint(before.PostGIS),
		fmt.Sprintf("PostGIS is chosen when a cluster is made: it is %s here%s, or write services.postgres.postgis: %t", onOff(c.postGIS), move, c.postGIS))
	differs("name", c.name, s.spec.Name, before.Name,
		fmt.Sprintf("somebody has renamed cluster %s to %s; forged uses it under its id, and cannot name it: rename it back in Fly's dashboard", s.spec.Name, c.name))
	if s.applied != nil { // Fly does not tell it
		differs("poolMode", before.PoolMode, s.spec.PoolMode, before.PoolMode,
			fmt.Sprintf("how the pooler of a cluster shares connections is chosen when it is made: %q%s, or write services.postgres.poolMode: %q", before.PoolMode, move, before.PoolMode))
	}
	return steps
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// wirePlan is a plan as Fly's API writes it.
func wirePlan(plan string) string {
	if plan == "performance" {
		return "Performance"
	}
	return plan
}
