package fly

import (
	"cmp"
	"context"
	"fmt"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
)

// admission says whether an app that is there already, and that no inventory of
// ours lists, may be taken over.
type admission struct {
	what    string // it is, for the reason of the step
	refused string // why not; empty: it may
	hint    string // what to do about that
}

// blocked is the refusal as a step shows it; empty if there is none.
func (a admission) blocked() string {
	if a.refused == "" || a.hint == "" {
		return a.refused
	}
	return a.refused + "; " + a.hint
}

// contents are what an app holds.
type contents struct {
	machines []api.Machine
	volumes  []api.Volume
}

func (s *appSight) contents(ctx context.Context) (contents, error) {
	var in contents
	c := s.org.Client()
	machines, err := c.Machines(ctx, s.spec.Name, api.MachinesQuery{})
	if err != nil {
		return in, Classify("list the machines of", s.object(), err)
	}
	for _, m := range machines {
		if !over(m) {
			in.machines = append(in.machines, m)
		}
	}
	volumes, err := c.Volumes(ctx, s.spec.Name)
	if err != nil {
		return in, Classify("list the volumes of", s.object(), err)
	}
	for _, v := range volumes {
		if !v.Deleted() {
			in.volumes = append(in.volumes, v)
		}
	}
	return in, nil
}

// admit decides whether the app that is there may be taken over:
//
//   - always: one that is empty, one in which only machines of ours are;
//   - if-unowned: also one with things in it that no tool has marked;
//   - force: also one that fly deploy looks after.
//
// One in which machines of another forged are is refused while the inventory of
// that one is left in the organization. It changes nothing.
func (s *appSight) admit(ctx context.Context, id forge.ID, adopt string) (admission, error) {
	a, err := s.admitSibling(ctx, id)
	if err != nil || a.refused != "" {
		return a, err
	}
	in, err := s.contents(ctx)
	if err != nil {
		return a, err
	}
	secrets, err := s.org.Client().Secrets(ctx, s.spec.Name, 0)
	if err != nil {
		return a, Classify("list the secrets of", s.object(), err)
	}
	if len(in.machines)+len(in.volumes)+len(secrets) == 0 {
		a.what = "and empty"
		return a, nil
	}
	var ours, unmarked int
	tool := ""
	for _, m := range in.machines {
		marks := marksOf(m)
		switch instance, environment := marks[MarkInstance], marks[MarkEnvironment]; {
		case instance != "" && instance != s.org.Instance():
			return s.admitForged(ctx, instance, adopt)
		case instance != "" && environment != id.Environment && adopt != forge.AdoptForce:
			a.refused = "it exists and belongs to the environment " + environment + " of this forged"
			a.hint = `give the environments different names of apps; if that environment is gone, set policy.adopt to "force" to take it over`
			return a, nil
		case instance != "":
			ours++
		case marks["fly_platform_version"] != "" || marks["fly_release_id"] != "" || marks["fly_flyctl_version"] != "":
			tool = "fly deploy"
		default:
			unmarked++
		}
	}
	a.what = fmt.Sprintf("with %d machines, %d volumes and %d secrets", len(in.machines), len(in.volumes), len(secrets))
	switch {
	case tool != "" && adopt != forge.AdoptForce:
		a.refused = "it exists and belongs to " + tool
		a.hint = `delete or rename it, or set policy.adopt to "force" to take it over`
	case ours > 0 && unmarked == 0 && tool == "":
	case adopt != forge.AdoptForce && adopt != forge.AdoptIfUnowned:
		a.refused = "it exists and forged did not make it (it has " + a.what[len("with "):] + ")"
		a.hint = `choose another name in platform.appName; or, to hand it over, set policy.adopt to "if-unowned"`
	}
	return a, nil
}

// admitSibling refuses what another environment of this forged owns: one that was
// renamed in forge.cue, for example, and of which nobody has let go.
func (s *appSight) admitSibling(ctx context.Context, id forge.ID) (admission, error) {
	var a admission
	op := "look for other environments of forged in"
	all, err := s.org.Client().OrgMachines(ctx, s.org.Slug(), api.OrgQuery{})
	if err != nil {
		return a, Classify(op, s.org.object(), err)
	}
	if len(all.ErrorRegions) > 0 {
		a.refused = "whether another environment of this forged owns it cannot be seen, since not all regions answer"
		return a, nil
	}
	for _, m := range all.All {
		marks := m.Config.Metadata
		if marks[MarkKind] != kindInventory || marks[MarkInstance] != s.org.Instance() || marks[MarkEnvironment] == id.Environment {
			continue
		}
		whole, err := s.org.Client().Machine(ctx, m.App, m.ID)
		if k := api.KindOf(err); k == api.NotFound || err == nil && over(whole) {
			continue
		}
		if err != nil {
			return a, Classify(op, s.org.object(), err)
		}
		d, err := s.inv.unpack(whole)
		if err != nil {
			return a, err
		}
		for _, r := range d.Records {
			if r.ID.Kind == forge.KindFlyApp && r.ID.Name == s.spec.Name {
				a.refused = "it exists and belongs to the environment " + d.Environment + " of this forged"
				a.hint = fmt.Sprintf("give the environment that name again; or, when nobody runs it any more, have forged forget what it owned there, which deletes nothing else: fly machine destroy --force %s --app %s", m.ID, m.App)
				return a, nil
			}
		}
	}
	return a, nil
}

// admitForged decides about what another forged has marked: it may be taken over
// by force when no inventory of that one is left in the organization.
func (s *appSight) admitForged(ctx context.Context, instance, adopt string) (admission, error) {
	a := admission{
		what:    "of another forged, " + instance,
		refused: "it exists and belongs to another forged, " + instance,
		hint:    "delete or rename it, or remove it from the other forge.cue",
	}
	if adopt != forge.AdoptForce {
		return a, nil
	}
	all, err := s.org.Client().OrgMachines(ctx, s.org.Slug(), api.OrgQuery{})
	if err != nil {
		return a, Classify("look for inventories of forged "+instance+" in", s.org.object(), err)
	}
	if len(all.ErrorRegions) > 0 {
		a.refused += "; whether that one is still there cannot be seen"
		return a, nil
	}
	for _, m := range all.All {
		if m.Config.Metadata[MarkKind] == kindInventory && m.Config.Metadata[MarkInstance] == instance {
			a.refused += ", which keeps its inventory in the app " + cmp.Or(m.App, m.ID)
			return a, nil
		}
	}
	a.refused, a.hint, a.what = "", "", "of another forged, "+instance+", which is gone"
	return a, nil
}
