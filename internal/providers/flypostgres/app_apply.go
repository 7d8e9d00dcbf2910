package flypostgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/scram"
	"forged.dev/forged/internal/secret"
)

// dataSecrets is the key of the version of the secrets that machines must have
// seen.
const dataSecrets = "secrets"

// listed is how long it may take until what is new is in a list.
const listed = 10 * time.Second

// Apply implements fly.View.
func (s *flex) Apply(ctx context.Context, step reconcile.Step) error {
	t, ok := step.Detail.(task)
	if !ok {
		return reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	op := string(step.Action)
	switch {
	case t.kind == entryApp && t.do == doDelete:
		return s.remove(ctx, op)
	case t.kind == entryApp && t.do == doNote:
		return s.note(ctx)
	case t.do == doDelete:
		if err := s.drop(ctx, op, t.kind, t.name); err != nil {
			return err
		}
		r := s.next()
		unset(&r, t.kind, t.name)
		return s.put(ctx, r)
	}
	r := s.next()
	again := entryOf(r, t.kind, t.name) != nil // an action before this one may have made it
	if t.do == doMake {
		enter(&r, t.kind, t.name)
	}
	for _, e := range s.begins() {
		enter(&r, e.Kind, e.Name)
	}
	if err := s.Inventory.Begin(ctx, r); err != nil {
		return err
	}
	identity, err := s.do(ctx, op, t, &r, again)
	if err != nil {
		return err
	}
	set(&r, fly.Entry{Kind: t.kind, Name: t.name, Identity: identity})
	return s.put(ctx, r)
}

// begins are the roles and databases that are about to be made.
func (s *flex) begins() []fly.Entry {
	if s.parts == nil || s.parts.survey == nil {
		return nil
	}
	var all []fly.Entry
	for _, role := range s.roles() {
		if _, there := s.parts.survey.Roles[role]; !there {
			all = append(all, fly.Entry{Kind: entryRole, Name: role})
		}
	}
	for _, h := range s.homes() {
		if _, there := s.parts.survey.Databases[h.database]; !there {
			all = append(all, fly.Entry{Kind: entryDatabase, Name: h.database})
		}
	}
	return all
}

// next is the record as it is to be written. What forged does not change is
// written down as it was made.
func (s *flex) next() fly.Record {
	r := copied(s.Record, s.Request.Resource.Needs)
	if s.place == known || s.place == used {
		r.Data[dataCluster] = identityOf(s.parts.app)
	}
	if s.Request.Remove {
		return r
	}
	spec := s.spec
	if a := s.applied; a != nil && s.place == known {
		spec.Region, spec.Version, spec.Network, spec.Guest, spec.StorageGB = a.Region, a.Version, a.Network, a.Guest, a.StorageGB
		spec.Machines = max(a.Machines, spec.Machines)
	}
	r.Spec = fly.EncodeSpec(spec)
	return r
}

func (s *flex) put(ctx context.Context, r fly.Record) error {
	if waits(r) {
		return s.Inventory.Begin(ctx, r)
	}
	return s.Inventory.Commit(ctx, r)
}

// do carries out a task, and returns the identity of what it made.
func (s *flex) do(ctx context.Context, op string, t task, r *fly.Record, again bool) (identity string, err error) {
	object := t.kind + " " + t.name
	switch t.kind {
	case entryApp:
		identity, err = s.makeApp(ctx)
		r.Data[dataCluster] = identity
		return identity, err
	case entrySecrets:
		return madeEntry, s.makeSecrets(ctx, r)
	case entryAddress:
		_, err := s.Org.Client().AssignIP(ctx, s.spec.App, api.AssignIP{Type: api.PrivateIP, Org: s.Org.Slug(), Network: s.spec.Network})
		if k := api.KindOf(err); k == api.Taken || k == api.Conflict {
			err = nil
		}
		return madeEntry, fly.Classify(op, object, err)
	case entryVolume:
		return s.makeVolume(ctx, t.name, again)
	case entryMachine:
		return s.putMachine(ctx, op, t, r)
	case entryRole:
		return madeEntry, s.putRole(ctx, op, t)
	case entryDatabase:
		for _, h := range s.homes() {
			if h.database == t.name {
				return madeEntry, s.script(ctx, op, object, databaseScript(h.database, h.owner, t.do == doMake))
			}
		}
	}
	return "", reconcile.Errorf(reconcile.Internal, op, "%s is nothing that an app has", t.kind)
}

func (s *flex) script(ctx context.Context, op, object, script string) error {
	_, _, err := console{s.Org, s.spec.App, s.parts.leader}.run(ctx, script)
	return explainSQL(op, object, err)
}

func (s *flex) putRole(ctx context.Context, op string, t task) error {
	verifier := ""
	if f, there := s.parts.survey.Roles[t.name]; !there || !scram.Matches(f.Verifier, s.password(t.name)) {
		var err error
		if verifier, err = scram.Verifier(s.password(t.name)); err != nil {
			return err
		}
	}
	return s.script(ctx, op, entryRole+" "+t.name, roleScript(t.name, verifier, s.mark(), t.do == doMake))
}

func (s *flex) drop(ctx context.Context, op, kind, name string) error {
	script := "DROP DATABASE IF EXISTS %s WITH (FORCE);\n"
	if kind == entryRole {
		script = "DROP ROLE IF EXISTS %s;\n"
	}
	return s.script(ctx, op, kind+" "+name, preamble+fmt.Sprintf(script, identifier(name)))
}

// makeApp makes the app itself. Names are unique on all of Fly, so that there
// never are two.
func (s *flex) makeApp(ctx context.Context) (string, error) {
	const op = "create"
	client := s.Org.Client()
	_, failed := client.CreateApp(ctx, api.CreateApp{Name: s.spec.App, Org: s.Org.Slug(), Network: s.spec.Network, Role: appRole})
	switch api.KindOf(failed) {
	case "", api.Taken, api.Ambiguous:
	default:
		return "", fly.Classify(op, s.object(), failed)
	}
	app, err := client.App(ctx, s.spec.App)
	switch k := api.KindOf(err); {
	case k == api.Denied || err == nil && app.Organization.Slug != "" && app.Organization.Slug != s.Org.Slug() && s.Org.Slug() != "personal":
		return "", &reconcile.Error{
			Kind: reconcile.Conflict, Op: op, Object: s.object(), Err: errors.New("the name belongs to somebody else on Fly"),
			Hint: "write another services.postgres.appName",
		}
	case failed != nil && api.KindOf(failed) == api.Taken && err == nil:
		return "", &reconcile.Error{Kind: reconcile.Stale, Op: op, Object: s.object(), Err: failed}
	case err != nil:
		return "", fly.Classify(op, s.object(), err)
	}
	return identityOf(app), nil
}

// makeSecrets makes up the passwords, before there is a machine that needs
// them. They are kept nowhere else: who may act in the machines can read them.
func (s *flex) makeSecrets(ctx context.Context, r *fly.Record) error {
	const op = "set the secrets of"
	values := map[string]*secret.Value{}
	for _, name := range s.lacks() {
		value := secret.New([]byte(rand.Text()))
		if name == secretConsul {
			var err error
			if value, err = s.Org.Client().EnablePostgresConsul(ctx, s.spec.App, s.spec.Region); err != nil {
				return fly.Classify(op, s.object(), err)
			}
		}
		values[name] = &value
	}
	written, err := s.Org.Client().SetSecrets(ctx, s.spec.App, values)
	r.Data[dataSecrets] = strconv.FormatUint(written.Version, 10)
	return fly.Classify(op, s.object(), err)
}

// makeVolume makes a disk, once: names of volumes are not unique.
func (s *flex) makeVolume(ctx context.Context, number string, again bool) (string, error) {
	const op = "create"
	object := entryVolume + " " + volumeName + " " + number + " of app " + s.spec.App
	client := s.Org.Client()
	before := map[string]bool{}
	for _, v := range s.parts.volumes {
		before[v.ID] = true
	}
	appeared := func() (string, error) {
		if err := fly.Pause(ctx, listed); err != nil {
			return "", fly.Classify(op, object, err)
		}
		volumes, err := client.Volumes(ctx, s.spec.App)
		if err != nil {
			return "", fly.Classify(op, object, err)
		}
		for _, v := range volumes {
			if v.Name == volumeName && !v.Deleted() && !before[v.ID] {
				return v.ID, nil
			}
		}
		return "", nil
	}
	if again {
		if id, err := appeared(); id != "" || err != nil {
			return id, err
		}
	}
	unique, guest := s.spec.Machines > 1, s.spec.Guest
	v, err := client.CreateVolume(ctx, s.spec.App, api.CreateVolume{
		Name: volumeName, Region: s.spec.Region, SizeGB: s.spec.StorageGB, RequireUniqueZone: &unique,
		Compute: &api.Guest{CPUKind: guest.CPUKind, CPUs: guest.CPUs, MemoryMB: guest.MemoryMB},
	})
	if api.KindOf(err) == api.Ambiguous {
		if id, lost := appeared(); id != "" || lost != nil {
			return id, lost
		}
	}
	return v.ID, fly.Classify(op, object, err)
}

// putMachine makes a machine on its disk, or starts it. Names are unique in an
// app, so that there never are two.
func (s *flex) putMachine(ctx context.Context, op string, t task, r *fly.Record) (string, error) {
	client, object := s.Org.Client(), entryMachine+" "+t.name+" of app "+s.spec.App
	for _, m := range s.members() {
		switch {
		case m.name() != t.name:
		case m.machine != nil:
			return m.machine.ID, fly.Classify(op, object, client.StartMachine(ctx, s.spec.App, m.machine.ID, ""))
		case m.volume != nil:
			// A number that cannot be read asks for nothing: secrets are seen soon.
			version, _ := strconv.ParseUint(r.Data[dataSecrets], 10, 64)
			set(r, fly.Entry{Kind: entryVolume, Name: m.number, Identity: m.volume.ID})
			made, err := client.CreateMachine(ctx, s.spec.App, api.CreateMachine{
				Name: t.name, Region: s.spec.Region, Config: s.config(m.volume.ID), MinSecretsVersion: version,
			})
			if k := api.KindOf(err); k == api.Taken {
				return "", &reconcile.Error{Kind: reconcile.Stale, Op: op, Object: object, Err: err}
			}
			return made.ID, fly.Classify(op, object, err)
		}
	}
	return "", reconcile.Errorf(reconcile.Stale, op, "%s has no volume any more", object)
}

// note writes down which app is used, and what of what was begun is there.
func (s *flex) note(ctx context.Context) error {
	r := s.next()
	id := identityOf(s.parts.app)
	r.Data[dataCluster] = id
	if entryOf(r, entryApp, s.spec.App) != nil {
		set(&r, fly.Entry{Kind: entryApp, Name: s.spec.App, Identity: id})
	}
	for i, e := range r.Entries {
		if e.Identity != "" {
			continue
		}
		there := false
		switch v := s.parts.survey; e.Kind {
		case entrySecrets:
			there = len(s.lacks()) == 0
		case entryAddress:
			there = s.parts.flycast
		case entryRole:
			there = v != nil && v.Roles[e.Name].Comment == s.mark()
		case entryDatabase:
			there = v != nil && v.Databases[e.Name].OID != ""
		}
		if there {
			r.Entries[i].Identity = madeEntry
		}
	}
	if s.place == known {
		for _, m := range s.members() {
			if m.volume != nil {
				set(&r, fly.Entry{Kind: entryVolume, Name: m.number, Identity: m.volume.ID})
			}
			if m.machine != nil {
				set(&r, fly.Entry{Kind: entryMachine, Name: m.name(), Identity: m.machine.ID})
			}
		}
	}
	return s.put(ctx, r)
}

// remove takes away what forged owns, and lets go of the rest.
func (s *flex) remove(ctx context.Context, op string) error {
	switch {
	case s.parts == nil, s.place == gone:
	case s.place == known, s.place == begun:
		if err := s.Org.Client().DeleteApp(ctx, s.spec.App); err != nil {
			return fly.Classify(op, s.object(), err)
		}
		if err := s.vanished(ctx, op); err != nil {
			return err
		}
	case s.parts.survey != nil:
		for _, e := range s.leaving() {
			if err := s.drop(ctx, op, e.Kind, e.Name); err != nil {
				return err
			}
		}
	}
	return s.Inventory.Drop(ctx, s.ID())
}

// vanished waits a moment until an app that is deleted is gone.
func (s *flex) vanished(ctx context.Context, op string) error {
	for range 10 {
		app, err := s.Org.Client().App(ctx, s.spec.App)
		switch k := api.KindOf(err); {
		case slices.Contains([]api.Kind{api.NotFound, api.Gone, api.Denied}, k), err == nil && identityOf(app) != identityOf(s.parts.app):
			return nil
		case err != nil:
			return fly.Classify(op, s.object(), err)
		}
		if err := fly.Pause(ctx, time.Second); err != nil {
			return fly.Classify(op, s.object(), err)
		}
	}
	return reconcile.Errorf(reconcile.Unavailable, op, "Fly has taken the request, and %s is still there", s.object())
}
