package flypostgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// roleOf every user here: each makes the tables of its own databases.
const roleOf = api.PostgresSchemaAdmin

// Kinds of entries in the inventory. Their identity is empty until they were
// seen to be there.
const (
	entryCluster    = "cluster"
	entryUser       = "user"
	entryDatabase   = "database"
	entryExtension  = "extension" // database/extension
	entryAttachment = "attachment"
)

// Keys of the inventory's data.
const (
	dataCluster = "cluster" // id of the cluster that is used, whoever made it
	dataAsked   = "asked"   // when Fly was asked for it, without an answer since
	dataMade    = "made"    // when it was, until it was seen to be ready
	dataServed  = "served"  // it was ready once: there may be data in it
)

// cluster is what was found of a cluster, and for whom.
type cluster struct {
	fly.Look
	spec    forge.FlyPostgresSpec
	applied *forge.FlyPostgresSpec // what was applied last; nil: nothing

	place   place
	cluster facts     // unless it is absent, gone or crowded
	in      *contents // nil: not ready
	others  []string  // ids of clusters of its name that are not it
}

// ours tells whether the cluster was made by forged, or taken over.
func (s *cluster) ours() bool {
	e := s.entry(entryCluster, s.spec.Name)
	return e != nil && e.Identity != ""
}

func (s *cluster) entry(kind, name string) *fly.Entry { return entryOf(s.Record, kind, name) }

func (s *cluster) made(kind, name string) bool { return madeIn(s.Record, kind, name) }

func (s *cluster) users() []string { return usersOf(s.spec.User, s.spec.Further) }

func (s *cluster) databases() []string {
	return named(homesOf(s.spec.Database, s.spec.User, s.spec.Further))
}

func (s *cluster) step(action reconcile.Action, code reconcile.ReasonCode, t task, text string) reconcile.Step {
	step := reconcile.Step{
		ID: s.ID(), Action: action, Object: t.kind + " " + t.name, Reason: reconcile.Reason{Code: code},
		Changes: []reconcile.Change{{Path: text}}, Detail: t, Token: s.token(t),
	}
	if action == reconcile.ActionHeal {
		step.Reason.Writer = somebody
	}
	return step
}

// token is all that a step was planned on.
func (s *cluster) token(t task) string {
	state := []string{string(s.place), s.cluster.id, s.cluster.status, fmt.Sprint(s.in != nil)}
	if s.in != nil {
		switch t.kind {
		case entryUser:
			state = append(state, s.in.users[t.name])
		case entryDatabase, entryExtension, entryAttachment:
			state = append(state, fmt.Sprint(s.has(t.kind, t.name)))
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(state, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// Plan implements fly.View.
func (s *cluster) Plan() ([]reconcile.Step, error) {
	if s.Request.Remove {
		return s.removal(), nil
	}
	steps := s.plan()
	doing := func(step reconcile.Step) bool { return step.Blocked == "" }
	if s.Record.Pending && (s.place == known || s.place == used) && s.in != nil && !slices.ContainsFunc(steps, doing) {
		// All that was begun is there, and nobody has written so down.
		t := task{kind: entryCluster, name: s.spec.Name, do: doNote}
		steps = append([]reconcile.Step{s.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, t, "notes what was made")}, steps...)
	}
	return steps, nil
}

func (s *cluster) plan() []reconcile.Step {
	t := task{kind: entryCluster, name: s.spec.Name}
	switch s.place {
	case absent:
		t.do = doMake
		step := s.step(reconcile.ActionCreate, reconcile.ReasonAbsent, t, fmt.Sprintf(
			"makes a cluster of plan %s with %d GB in %s; it costs money every month", s.spec.Plan, s.spec.StorageGB, s.spec.Region))
		if !s.spec.Create {
			step.Changes = nil
			step.Blocked = fmt.Sprintf("organization %s has no cluster %s; make one with \"fly mpg create\", or write services.postgres.create: true, and pay for it", s.spec.Account.Org, s.spec.Name)
		}
		return []reconcile.Step{step}
	case gone:
		return []reconcile.Step{s.lost()}
	case crowded:
		step := s.step(reconcile.ActionUpdate, reconcile.ReasonConfig, t, "uses one cluster")
		step.Blocked = fmt.Sprintf("organization %s has several clusters called %s (%s), and forged does not guess which; rename or delete the others", s.spec.Account.Org, s.spec.Name, strings.Join(s.others, ", "))
		return []reconcile.Step{step}
	case foreign:
		t.do = doNote
		step := s.step(reconcile.ActionUpdate, reconcile.ReasonOwnership, t, "takes over cluster "+s.cluster.id)
		if !adopts(s.Request.Policy) {
			step.Blocked = fmt.Sprintf("cluster %s is there already (%s), and forged did not make it; write services.postgres.create: false to use it and leave it as it is, or policy.adopt: \"if-unowned\" to take it over", s.spec.Name, s.cluster.id)
		}
		return []reconcile.Step{step}
	case begun:
		t.do = doNote
		return []reconcile.Step{s.step(reconcile.ActionRepair, reconcile.ReasonInterrupted, t, "notes that cluster "+s.cluster.id+" was made")}
	}
	return slices.Concat(s.inside(), s.unchangeable(), s.leftovers())
}

// lost is about a cluster that somebody deleted.
func (s *cluster) lost() reconcile.Step {
	t := task{kind: entryCluster, name: s.spec.Name, do: doNote}
	step := s.step(reconcile.ActionHeal, reconcile.ReasonDeleted, t, "uses another cluster of this name")
	id := s.Record.Data[dataCluster]
	if len(s.others) == 1 {
		step.Reason.Code = reconcile.ReasonReplaced
		if adopts(s.Request.Policy) || !s.spec.Create {
			return step
		}
		step.Blocked = fmt.Sprintf("cluster %s (%s) is gone with its data, and %s has its name now; if that one is its restored backup, write policy.adopt: \"if-unowned\" to use it", s.spec.Name, id, s.others[0])
		return step
	}
	step.Blocked = fmt.Sprintf("cluster %s (%s) was deleted, with all its data; forged puts no empty one in its place: restore a backup under this name with \"fly mpg restore\", or write another services.postgres.cluster for an empty one", s.spec.Name, id)
	return step
}

// inside plans for what is in a cluster that is ready.
func (s *cluster) inside() []reconcile.Step {
	if s.in == nil {
		return nil
	}
	var steps []reconcile.Step
	for _, user := range s.users() {
		steps = append(steps, s.user(user)...)
	}
	for _, database := range s.databases() {
		if slices.Contains(s.in.databases, database) {
			continue
		}
		t := task{kind: entryDatabase, name: database, do: doMake}
		if s.made(entryDatabase, database) {
			step := s.step(reconcile.ActionHeal, reconcile.ReasonDeleted, t, "")
			step.Changes = nil
			step.Blocked = fmt.Sprintf("database %s was deleted, with all its data; forged puts no empty one in its place: restore a backup of cluster %s, or make the database by hand (\"fly mpg databases create\")", database, s.cluster.id)
			steps = append(steps, step)
			continue
		}
		steps = append(steps, s.step(reconcile.ActionCreate, reconcile.ReasonAbsent, t, "makes database "+database))
	}
	for _, extension := range s.spec.Extensions {
		name := s.spec.Database + "/" + extension
		if s.has(entryExtension, name) || !slices.Contains(s.in.databases, s.spec.Database) && s.made(entryDatabase, s.spec.Database) {
			continue
		}
		t := task{kind: entryExtension, name: name, do: doMake}
		action, code := reconcile.ActionCreate, reconcile.ReasonAbsent
		if s.made(entryExtension, name) {
			action, code = reconcile.ActionHeal, reconcile.ReasonDeleted
		}
		steps = append(steps, s.step(action, code, t, "makes extension "+extension+" in database "+s.spec.Database))
	}
	if app := s.spec.AttachTo; app != "" && !slices.Contains(s.cluster.attached, app) {
		t := task{kind: entryAttachment, name: app, do: doMake}
		action, code := reconcile.ActionCreate, reconcile.ReasonAbsent
		if s.made(entryAttachment, app) {
			action, code = reconcile.ActionHeal, reconcile.ReasonDeleted
		}
		steps = append(steps, s.step(action, code, t, "shows the cluster at app "+app+"; its secrets are set by forged"))
	}
	return steps
}

// user plans for one user.
func (s *cluster) user(name string) []reconcile.Step {
	role, there := s.in.users[name]
	t := task{kind: entryUser, name: name}
	switch made := s.made(entryUser, name); {
	case !there && made:
		t.do = doMake
		return []reconcile.Step{s.step(reconcile.ActionHeal, reconcile.ReasonDeleted, t, "makes user "+name+" with role "+roleOf+" and a new password")}
	case !there:
		t.do = doMake
		return []reconcile.Step{s.step(reconcile.ActionCreate, reconcile.ReasonAbsent, t, "makes user "+name+" with role "+roleOf)}
	case role == roleOf:
		return nil
	case made:
		t.do = doChange
		step := s.step(reconcile.ActionHeal, reconcile.ReasonEdited, t, "role")
		step.Changes[0].From, step.Changes[0].To = role, roleOf
		step.Reason.Paths = []string{"role"}
		return []reconcile.Step{step}
	default:
		t.do = doChange
		step := s.step(reconcile.ActionUpdate, reconcile.ReasonConfig, t, "role")
		step.Changes[0].From, step.Changes[0].To = role, roleOf
		if s.entry(entryUser, name) == nil && !adopts(s.Request.Policy) {
			step.Blocked = fmt.Sprintf("user %s is there already with role %s, and forged did not make it; give it role %s, or write policy.adopt: \"if-unowned\" to let forged do so", name, role, roleOf)
		}
		return []reconcile.Step{step}
	}
}

// leftovers are what forge.cue asked for once: they go last.
func (s *cluster) leftovers() []reconcile.Step {
	if s.in == nil {
		return nil
	}
	var steps []reconcile.Step
	for _, kind := range []string{entryAttachment, entryExtension, entryDatabase, entryUser} {
		for _, e := range s.Record.Entries {
			if e.Kind != kind || s.wants(e) {
				continue
			}
			step := s.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, task{kind: kind, name: e.Name, do: doDelete}, "")
			step.Changes, step.Deletes, step.Late = nil, 1, true
			switch {
			case !s.has(kind, e.Name):
				step.Action, step.Deletes = reconcile.ActionForget, 0
			case kind == entryDatabase:
				step.Destroys = []string{s.lossOf(e.Name)}
			}
			steps = append(steps, step)
		}
	}
	return steps
}

// wants tells whether forge.cue asks for something in the cluster.
func (s *cluster) wants(e fly.Entry) bool {
	switch e.Kind {
	case entryUser:
		return slices.Contains(s.users(), e.Name)
	case entryDatabase:
		return slices.Contains(s.databases(), e.Name)
	case entryExtension:
		database, extension, _ := strings.Cut(e.Name, "/")
		return database == s.spec.Database && slices.Contains(s.spec.Extensions, extension)
	case entryAttachment:
		return s.spec.AttachTo == e.Name
	}
	return true
}

func (s *cluster) has(kind, name string) bool {
	switch kind {
	case entryUser:
		_, ok := s.in.users[name]
		return ok
	case entryDatabase:
		return slices.Contains(s.in.databases, name)
	case entryExtension:
		database, extension, _ := strings.Cut(name, "/")
		return database == s.spec.Database && slices.Contains(s.in.extensions, extension)
	case entryAttachment:
		return slices.Contains(s.cluster.attached, name)
	}
	return false
}

// removal takes away what forged owns: the cluster with all that is in it, or
// what it has made in somebody else's.
func (s *cluster) removal() []reconcile.Step {
	t := task{kind: entryCluster, name: s.spec.Name, do: doDelete}
	if !s.Recorded {
		return nil
	}
	forget := s.step(reconcile.ActionForget, reconcile.ReasonUnwanted, t, "")
	forget.Changes = nil
	switch {
	case s.place == absent || s.place == gone:
		return []reconcile.Step{forget}
	case s.place == crowded:
		return s.plan()
	case s.ours() || s.place == begun:
		step := s.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, t, "")
		step.Changes, step.Deletes = nil, 1
		step.Destroys = []string{s.loss()}
		return []reconcile.Step{step}
	case len(s.Record.Entries) == 0:
		return []reconcile.Step{forget}
	case s.in == nil:
		return nil // what is in it can be taken away when it is ready
	}
	step := s.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, t, "")
	step.Changes = nil
	for _, e := range s.leaving() {
		if s.has(e.Kind, e.Name) {
			step.Deletes++
			step.Changes = append(step.Changes, reconcile.Change{Path: "deletes " + e.Kind + " " + e.Name})
		}
		if e.Kind == entryDatabase && s.has(e.Kind, e.Name) {
			step.Destroys = append(step.Destroys, s.lossOf(e.Name))
		}
	}
	if step.Deletes == 0 {
		return []reconcile.Step{forget}
	}
	return []reconcile.Step{step}
}

// leaving is what forged made in somebody else's cluster, in the order in which
// it goes. Extensions go with their databases.
func (s *cluster) leaving() []fly.Entry {
	var all []fly.Entry
	for _, kind := range []string{entryAttachment, entryDatabase, entryUser} {
		for _, e := range s.Record.Entries {
			if e.Kind == kind {
				all = append(all, e)
			}
		}
	}
	return all
}

func (s *cluster) lossOf(database string) string {
	return fmt.Sprintf("database %s of cluster %s", database, s.cluster.name)
}

// loss names what goes with a cluster.
func (s *cluster) loss() string {
	text := fmt.Sprintf("cluster %s (%s, %d GB", s.cluster.name, s.cluster.id, s.cluster.storageGB)
	if s.in != nil && len(s.in.databases) > 0 {
		text += "; databases " + strings.Join(s.in.databases, ", ")
	}
	return text + ") with its backups"
}
