package main

import (
	"fmt"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// showLeft shows what stands where an environment was before, place by place, and
// what becomes of it.
func showLeft(p *printer, env reconcile.EnvironmentPlan, shown map[forge.ID]bool) {
	places := slices.Clone(env.Former)
	for _, item := range env.Items {
		if item.Left != nil && !slices.Contains(places, *item.Left) {
			places = append(places, *item.Left)
		}
	}
	for _, at := range places {
		where := fmt.Sprintf("namespace %s of %s", at.Namespace, at.Cluster)
		var items []reconcile.Item
		kept, found := true, false // found without the word of forge.cue: it is in the cluster where the environment is
		for _, item := range env.Items {
			if item.Left != nil && *item.Left == at {
				items = append(items, item)
				kept = kept && item.Kept != ""
				_, _, cluster, _ := item.ID.Home()
				found = found || cluster == ""
			}
		}
		switch {
		case len(items) > 0:
			p.wrapped(bold, "", "left in "+where+", where "+env.Name+" was before; data stays there, and is copied nowhere")
		case slices.ContainsFunc(env.Items, func(i reconcile.Item) bool { return i.Left != nil && i.Left.Namespace == at.Namespace }):
			continue // two contexts may lead to one cluster: this may be the place that is shown under its name now
		case env.Error == nil && env.Mode != forge.ModePaused:
			p.wrapped(dim, "  ", "nothing of "+env.Name+" is in "+where+": if it was there, platform.movedFrom can be taken out of forge.cue now")
			continue
		default:
			continue
		}
		for _, item := range items {
			if !shown[item.ID] {
				showItem(p, item)
			}
		}
		hint, rest := "it goes after all that is asked for in "+env.Name+" is ready, and nothing goes that cannot be read", "what stays"
		if kept {
			hint, rest = `when nobody needs it any more, policy.prune: "owned" removes it, but for its data`, "it"
		}
		if !found {
			hint += "; without platform.movedFrom " + rest + " is left alone for good"
		}
		p.wrapped(cyan, "  hint: ", hint)
	}
}

// nameOf names a resource to a person: what was left where its environment was
// before has the name that it had there.
func nameOf(id forge.ID) string {
	home, namespace, cluster, left := id.Home()
	name := home.Kind + "/" + home.Name
	switch {
	case left && cluster != "":
		name += fmt.Sprintf(" (left in %s of %s)", namespace, cluster)
	case left:
		name += fmt.Sprintf(" (left in %s)", namespace)
	}
	return name
}
