package flypostgres

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/scram"
)

func (s *flex) step(action reconcile.Action, code reconcile.ReasonCode, t task, text string) reconcile.Step {
	step := reconcile.Step{ID: s.ID(), Action: action, Object: t.kind + " " + t.name, Reason: reconcile.Reason{Code: code}, Detail: t, Token: s.token(t)}
	if text != "" {
		step.Changes = []reconcile.Change{{Path: text}}
	}
	if action == reconcile.ActionHeal {
		step.Reason.Writer = somebody
	}
	return step
}

// token is all that a step was planned on.
func (s *flex) token(t task) string {
	h := sha256.New()
	fmt.Fprintln(h, s.place)
	if p := s.parts; p != nil {
		fmt.Fprintln(h, identityOf(p.app))
		switch t.kind {
		case entryApp:
			if t.do == doDelete {
				for _, m := range p.machines {
					fmt.Fprintln(h, m.ID)
				}
			}
		case entrySecrets:
			fmt.Fprintln(h, p.secrets, len(p.machines))
		case entryAddress:
			fmt.Fprintln(h, p.flycast)
		case entryVolume, entryMachine:
			for _, v := range p.volumes {
				fmt.Fprintln(h, v.ID)
			}
			if t.kind == entryMachine {
				for _, m := range p.machines {
					fmt.Fprintln(h, m.ID, m.InstanceID, m.State)
				}
			}
		case entryRole:
			if p.survey != nil {
				fmt.Fprintln(h, p.survey.Roles[t.name])
			}
		case entryDatabase:
			if p.survey != nil {
				fmt.Fprintln(h, p.survey.Databases[t.name].OID, p.survey.Databases[t.name].Owner)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Plan implements fly.View.
func (s *flex) Plan() ([]reconcile.Step, error) {
	if s.Request.Remove {
		return s.removal(), nil
	}
	steps := s.plan()
	doing := func(step reconcile.Step) bool { return step.Blocked == "" }
	settled := s.place == known && s.whole() || s.place == used
	if s.Record.Pending && settled && s.parts.survey != nil && !slices.ContainsFunc(steps, doing) {
		steps = append([]reconcile.Step{s.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, task{entryApp, s.spec.App, doNote}, "notes what was made")}, steps...)
	}
	return steps, nil
}

func (s *flex) plan() []reconcile.Step {
	t := task{entryApp, s.spec.App, doMake}
	switch s.place {
	case absent:
		step := s.step(reconcile.ActionCreate, reconcile.ReasonAbsent, t, "")
		if !s.spec.Create {
			step.Blocked = fmt.Sprintf("there is no app %s; make it with \"fly postgres create\", or write services.postgres.create: true", s.spec.App)
			return []reconcile.Step{step}
		}
		step.Changes = []reconcile.Change{{Path: fmt.Sprintf("makes an app of postgres-flex with %d machines and %d GB for each in %s", s.spec.Machines, s.spec.StorageGB, s.spec.Region)}}
		return []reconcile.Step{step}
	case gone:
		t.do = doNote
		step := s.step(reconcile.ActionHeal, reconcile.ReasonDeleted, t, "uses another app of this name")
		if s.parts == nil {
			step.Blocked = fmt.Sprintf("app %s was deleted, with all its data; forged puts no empty one in its place: restore a snapshot of its volume (\"fly postgres create --snapshot-id\"), or write another services.postgres.appName for an empty one", s.spec.App)
			return []reconcile.Step{step}
		}
		step.Reason.Code = reconcile.ReasonReplaced
		if !adopts(s.Request.Policy) {
			step.Blocked = fmt.Sprintf("app %s was deleted with its data, and another one has its name now; if that one has the restored data, write policy.adopt: \"if-unowned\" to use it", s.spec.App)
		}
		return []reconcile.Step{step}
	case foreign:
		t.do = doNote
		step := s.step(reconcile.ActionUpdate, reconcile.ReasonOwnership, t, "uses it; the app stays somebody else's")
		step.Blocked = fmt.Sprintf("app %s is there already, and forged did not make it; write services.postgres.create: false to use it as it is", s.spec.App)
		return []reconcile.Step{step}
	case begun:
		t.do = doNote
		return []reconcile.Step{s.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, t, "notes that it was made")}
	}
	return slices.Concat(s.building(), s.inside(), s.unchangeable(), s.leftovers())
}

// mark is the comment of a role that forged has made.
func (s *flex) mark() string { return "forged: " + s.Org.Instance() + "/" + s.ID().Environment }

// right tells whether a role lets its clients in.
func (s *flex) right(role string) bool {
	f, ok := s.parts.survey.Roles[role]
	return ok && f.Login && !f.Expired && scram.Matches(f.Verifier, s.password(role))
}

// inside plans for what is in the database.
func (s *flex) inside() []reconcile.Step {
	if s.parts.survey == nil || s.parts.survey.ReadOnly || s.parts.survey.Standby {
		return nil
	}
	var steps []reconcile.Step
	for _, role := range s.roles() {
		if step, ok := s.role(role); ok {
			steps = append(steps, step)
		}
	}
	for _, h := range s.homes() {
		if step, ok := s.database(h); ok {
			steps = append(steps, step)
		}
	}
	return steps
}

func (s *flex) role(name string) (reconcile.Step, bool) {
	f, there := s.parts.survey.Roles[name]
	made, t := madeIn(s.Record, entryRole, name), task{entryRole, name, doMake}
	begun := entryOf(s.Record, entryRole, name) != nil
	if !there {
		action, code := reconcile.ActionCreate, reconcile.ReasonAbsent
		if made {
			action, code = reconcile.ActionHeal, reconcile.ReasonDeleted
		}
		return s.step(action, code, t, "makes role "+name+", which may log in with a password that forged derives"), true
	}
	ours := f.Comment == s.mark()
	t.do = doChange
	step := s.step(reconcile.ActionUpdate, reconcile.ReasonConfig, t, "")
	if made {
		step = s.step(reconcile.ActionHeal, reconcile.ReasonEdited, t, "")
	}
	note := func(text, path string) {
		step.Changes = append(step.Changes, reconcile.Change{Path: text})
		step.Reason.Paths = append(step.Reason.Paths, path)
	}
	if !scram.Matches(f.Verifier, s.password(name)) {
		note("gives role "+name+" the password that forged derives", "password")
	}
	if !f.Login {
		note("lets role "+name+" log in", "login")
	}
	if f.Expired {
		note("lets the password of role "+name+" not expire", "expires")
	}
	if (made || begun) && !ours {
		note("notes at role "+name+" whose it is", "comment")
	}
	if len(step.Changes) == 0 {
		return step, false
	}
	switch {
	case f.Mighty:
		step.Blocked = fmt.Sprintf("role %s may do more than an app needs (it is a superuser, makes roles, replicates or bypasses row security), so that forged does not change it; drop it, or take these rights from it", name)
	case strings.HasPrefix(f.Comment, "forged: ") && !ours:
		step.Blocked = fmt.Sprintf("role %s belongs to another forged or another environment (%s); give one of them a database of its own", name, strings.TrimPrefix(f.Comment, "forged: "))
	case !ours && !made && !begun && !adopts(s.Request.Policy):
		step.Blocked = fmt.Sprintf("role %s is there already, and forged did not make it; drop it, or write policy.adopt: \"if-unowned\" to let forged give it a password", name)
	}
	return step, true
}

func (s *flex) database(h home) (reconcile.Step, bool) {
	f, there := s.parts.survey.Databases[h.database]
	made, t := madeIn(s.Record, entryDatabase, h.database), task{entryDatabase, h.database, doMake}
	if !there {
		if !made {
			return s.step(reconcile.ActionCreate, reconcile.ReasonAbsent, t, "makes database "+h.database+", of role "+h.owner), true
		}
		step := s.step(reconcile.ActionHeal, reconcile.ReasonDeleted, t, "")
		step.Blocked = fmt.Sprintf("database %s was dropped, with all its data; forged puts no empty one in its place: restore it, or make it by hand (CREATE DATABASE %s)", h.database, h.database)
		return step, true
	}
	if f.Owner == h.owner {
		return reconcile.Step{}, false
	}
	t.do = doChange
	step := s.step(reconcile.ActionUpdate, reconcile.ReasonConfig, t, "owner")
	if made {
		code := reconcile.ReasonEdited
		if _, there := s.parts.survey.Roles[h.owner]; !there { // it went with the role
			code = reconcile.ReasonDeleted
		}
		step = s.step(reconcile.ActionHeal, code, t, "owner")
	}
	step.Changes[0].From, step.Changes[0].To = f.Owner, h.owner
	step.Reason.Paths = []string{"owner"}
	if !made && entryOf(s.Record, entryDatabase, h.database) == nil && !adopts(s.Request.Policy) {
		step.Blocked = fmt.Sprintf("database %s is there already and belongs to role %s; give it to role %s, or write policy.adopt: \"if-unowned\" to let forged do so", h.database, f.Owner, h.owner)
	}
	return step, true
}

// unchangeable are the differences that forged does not remove. Nothing waits
// for them.
func (s *flex) unchangeable() []reconcile.Step {
	a := s.applied
	if a == nil || s.place != known {
		return nil
	}
	var steps []reconcile.Step
	differs := func(path string, has, wants any, why string) {
		if has == wants {
			return
		}
		step := s.step(reconcile.ActionUpdate, reconcile.ReasonConfig, task{entryApp, s.spec.App, doChange}, path)
		step.Object += ", " + path
		step.Changes[0].From, step.Changes[0].To = fmt.Sprint(has), fmt.Sprint(wants)
		step.Reason.Paths, step.Blocked, step.Late = []string{path}, why, true
		steps = append(steps, step)
	}
	const move = "; to have it, write another services.postgres.appName and move the data there"
	differs("region", a.Region, s.spec.Region, "the database cannot move to another region: its disks are in "+a.Region+move)
	differs("version", a.Version, s.spec.Version, "forged does not upgrade PostgreSQL "+a.Version+" to another major version"+move)
	differs("network", a.Network, s.spec.Network, "an app cannot move to another network"+move)
	differs("guest", a.Guest, s.spec.Guest, "forged does not change the size of machines that databases run on: use \"fly machine update\" on one after the other, the leader last")
	differs("storageGB", a.StorageGB, s.spec.StorageGB, fmt.Sprintf("forged does not change the disks of a database, which have %d GB: use \"fly volumes extend\"; they cannot be made smaller", a.StorageGB))
	if s.spec.Machines < a.Machines {
		differs("machines", a.Machines, s.spec.Machines, "forged does not take machines away from a database: fail over to the one that is to stay, and destroy the others with their volumes")
	}
	return steps
}

// leftovers are what forge.cue asked for once: they go last.
func (s *flex) leftovers() []reconcile.Step {
	if s.parts.survey == nil {
		return nil
	}
	var steps []reconcile.Step
	for _, e := range s.leaving() {
		wanted := e.Kind == entryRole && slices.Contains(s.roles(), e.Name) || e.Kind == entryDatabase && slices.Contains(named(s.homes()), e.Name)
		if wanted {
			continue
		}
		step := s.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, task{e.Kind, e.Name, doDelete}, "")
		step.Deletes, step.Late = 1, true
		if e.Kind == entryDatabase {
			step.Destroys = []string{"database " + e.Name + " of app " + s.spec.App}
		}
		steps = append(steps, step)
	}
	return steps
}

// leaving is what forged has made in the database, in the order in which it can
// go.
func (s *flex) leaving() []fly.Entry {
	var all []fly.Entry
	for _, kind := range []string{entryDatabase, entryRole} {
		for _, e := range s.Record.Entries {
			if e.Kind == kind {
				all = append(all, e)
			}
		}
	}
	return all
}

// strangers are the machines in the app that forged did not make.
func (s *flex) strangers() []string {
	var all []string
	for _, m := range s.parts.machines {
		config := m.Config
		if config == nil {
			config = m.Incomplete // its host does not answer
		}
		if config == nil || config.Metadata[fly.MarkInstance] != s.Org.Instance() {
			all = append(all, cmp.Or(m.Name, m.ID))
		}
	}
	return all
}

// removal takes away what forged owns: the app with all that is in it, or what
// it has made in somebody else's.
func (s *flex) removal() []reconcile.Step {
	if !s.Recorded {
		return nil
	}
	t := task{entryApp, s.spec.App, doDelete}
	forget := s.step(reconcile.ActionForget, reconcile.ReasonUnwanted, t, "")
	switch {
	case s.parts == nil, s.place == gone:
		return []reconcile.Step{forget}
	case s.place == used && !madeIn(s.Record, entryApp, s.spec.App) && entryOf(s.Record, entryApp, s.spec.App) != nil:
		return []reconcile.Step{forget} // that it is forged's is certain only while it is empty
	case s.place == known, s.place == begun:
		step := s.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, t, "")
		all := slices.Concat(s.parts.volumes, s.parts.beside)
		step.Deletes = 1 + len(s.parts.machines) + len(all)
		for _, v := range all {
			step.Destroys = append(step.Destroys, fmt.Sprintf("volume %s/%s (%s, %d GB)", s.spec.App, v.Name, v.ID, v.SizeGB))
		}
		for _, e := range s.leaving() {
			if e.Kind == entryDatabase {
				step.Destroys = append(step.Destroys, "database "+e.Name+" of app "+s.spec.App)
			}
		}
		if len(step.Destroys) == 0 && len(s.parts.machines) > 0 {
			step.Destroys = []string{"app " + s.spec.App}
		}
		if theirs := s.strangers(); len(theirs) > 0 {
			step.Blocked = fmt.Sprintf("machines run in app %s that forged did not make: %s; destroy them, or keep the app (\"fly machine list --app %s\")", s.spec.App, strings.Join(theirs, ", "), s.spec.App)
		}
		return []reconcile.Step{step}
	case len(s.leaving()) == 0:
		return []reconcile.Step{forget}
	case s.parts.survey == nil:
		step := s.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, t, "")
		step.Blocked = "what forged has made in it cannot be taken away now: " + s.parts.trouble
		return []reconcile.Step{step}
	}
	step := s.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, t, "")
	for _, e := range s.leaving() {
		step.Deletes++
		step.Changes = append(step.Changes, reconcile.Change{Path: "drops " + e.Kind + " " + e.Name})
		if e.Kind == entryDatabase {
			step.Destroys = append(step.Destroys, "database "+e.Name+" of app "+s.spec.App)
		}
	}
	return []reconcile.Step{step}
}
