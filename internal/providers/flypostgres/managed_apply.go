package flypostgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

const (
	// claimAfter so long after it was asked for, what appears under its name is
	// somebody else's: by then the request has come to its end.
	claimAfter = 10 * time.Minute

	// young is how long after it was made a cluster may not be told of by whoever
	// is asked: it is not made again for that.
	young = 2 * time.Minute
)

// Apply implements fly.View.
func (s *cluster) Apply(ctx context.Context, step reconcile.Step) error {
	t, ok := step.Detail.(task)
	if !ok {
		return reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	op := string(step.Action)
	if t.kind != entryCluster {
		return s.applyInside(ctx, op, t)
	}
	switch t.do {
	case doMake:
		return s.makeCluster(ctx)
	case doNote:
		return s.noteCluster(ctx)
	case doDelete:
		return s.remove(ctx, op)
	}
	return reconcile.Errorf(reconcile.Internal, op, "cannot %s a cluster", t.do)
}

// remove takes away what forged owns, and lets go of the rest.
func (s *cluster) remove(ctx context.Context, op string) error {
	switch {
	case s.cluster.id == "" || s.place == gone:
	case s.ours() || s.place == begun:
		if err := s.Org.Client().DeletePostgres(ctx, s.cluster.id); err != nil {
			return fly.Classify(op, entryCluster+" "+s.spec.Name, err)
		}
	case s.in != nil:
		for _, e := range s.leaving() {
			t := task{kind: e.Kind, name: e.Name, do: doDelete}
			if err := s.request(ctx, t); err != nil {
				return s.explain(op, t, err)
			}
		}
	}
	return s.Inventory.Drop(ctx, s.ID())
}

// next is the record as it is to be written: what is asked for, and what is
// owned. What cannot change is written down as it was made.
func (s *cluster) next() fly.Record {
	r := copied(s.Record, s.Request.Resource.Needs)
	if s.in != nil {
		r.Data[dataServed] = "true"
		delete(r.Data, dataMade)
	}
	if s.Request.Remove {
		return r
	}
	spec := s.spec
	if a := s.applied; a != nil && s.ours() {
		spec.Plan, spec.Region, spec.StorageGB, spec.Version, spec.PostGIS, spec.PoolMode = a.Plan, a.Region, a.StorageGB, a.Version, a.PostGIS, a.PoolMode
	}
	r.Spec = fly.EncodeSpec(spec)
	return r
}

// put writes a record down: one with entries that were not seen yet is pending.
func (s *cluster) put(ctx context.Context, r fly.Record) error {
	if waits(r) {
		return s.Inventory.Begin(ctx, r)
	}
	return s.Inventory.Commit(ctx, r)
}

// makeCluster asks for a cluster, once. It is written down before that, so that
// nobody asks for a second one.
func (s *cluster) makeCluster(ctx context.Context) error {
	const op = "create"
	object := entryCluster + " " + s.spec.Name
	r := s.next()
	if begun, err := time.Parse(time.RFC3339, r.Data[dataAsked]); err == nil && s.begunCluster() {
		if id, err := s.lookForCluster(ctx, begun.Add(fly.Unseen)); err != nil || id != "" {
			return s.madeCluster(ctx, r, id, err)
		}
	}
	delete(r.Data, dataCluster) // of one that never was ready
	r.Data[dataAsked] = time.Now().UTC().Format(time.RFC3339)
	set(&r, fly.Entry{Kind: entryCluster, Name: s.spec.Name})
	if err := s.Inventory.Begin(ctx, r); err != nil {
		return err
	}
	made, err := s.Org.Client().CreatePostgres(ctx, api.CreatePostgres{
		Org: s.Org.Slug(), Name: s.spec.Name, Plan: wirePlan(s.spec.Plan), Region: s.spec.Region,
		DiskGB: s.spec.StorageGB, Version: s.spec.Version, PoolMode: s.spec.PoolMode, PostGIS: s.spec.PostGIS,
	})
	s.Org.Touch(fly.Topic{Section: fly.SectionPostgres})
	switch api.KindOf(err) {
	case "":
	case api.Ambiguous:
		lost := err
		id, err := s.lookForCluster(ctx, time.Now().Add(fly.Unseen))
		if err == nil && id == "" {
			err = fly.Classify(op, object, lost)
		}
		return s.madeCluster(ctx, r, id, err)
	case api.Invalid, api.Taken, api.Payment, api.Capacity, api.Denied, api.Unauthenticated:
		// Fly has made nothing: nobody need look for it, and what appears under
		// its name is not ours.
		delete(r.Data, dataAsked)
		unset(&r, entryCluster, s.spec.Name)
		return errors.Join(fly.Classify(op, object, err), s.put(ctx, r))
	}
	if err != nil {
		return fly.Classify(op, object, err)
	}
	return s.madeCluster(ctx, r, made.ID, nil)
}

func (s *cluster) madeCluster(ctx context.Context, r fly.Record, id string, err error) error {
	if err != nil || id == "" {
		return err
	}
	r.Data[dataCluster] = id
	r.Data[dataMade] = time.Now().UTC().Format(time.RFC3339)
	delete(r.Data, dataAsked)
	delete(r.Data, dataServed)
	set(&r, fly.Entry{Kind: entryCluster, Name: s.spec.Name, Identity: id})
	return s.Inventory.Commit(ctx, r)
}

// lookForCluster looks for a cluster by its name until a time; empty: there is
// none.
func (s *cluster) lookForCluster(ctx context.Context, until time.Time) (string, error) {
	id, _, err := fly.LookFor(ctx, until, func(ctx context.Context) (string, bool, error) {
		s.Org.Touch(fly.Topic{Section: fly.SectionPostgres})
		listed, err := s.list(ctx)
		for _, c := range listed {
			if c.Name == s.spec.Name && existing(c.Status) {
				return c.ID, true, nil
			}
		}
		return "", false, err
	})
	return id, fly.Classify("look for", entryCluster+" "+s.spec.Name, err)
}

// noteCluster writes down which cluster is used, whose it is, and what of what
// was begun in it is there.
func (s *cluster) noteCluster(ctx context.Context) error {
	r := s.next()
	id := s.cluster.id
	if s.place == gone {
		id = s.others[0]
	}
	r.Data[dataCluster] = id
	delete(r.Data, dataAsked)
	switch s.place {
	case gone, foreign, begun:
		r.Entries = slices.DeleteFunc(r.Entries, func(e fly.Entry) bool { return e.Kind == entryCluster })
		if s.spec.Create {
			set(&r, fly.Entry{Kind: entryCluster, Name: s.spec.Name, Identity: id})
		}
	}
	if s.in != nil {
		for i, e := range r.Entries {
			if e.Identity == "" && s.has(e.Kind, e.Name) {
				r.Entries[i].Identity = madeEntry
			}
		}
	}
	return s.put(ctx, r)
}

// applyInside does what is done in a cluster.
func (s *cluster) applyInside(ctx context.Context, op string, t task) error {
	object := t.kind + " " + t.name
	r := s.next()
	r.Data[dataCluster] = s.cluster.id
	if t.do == doMake {
		s.begin(&r)
		if err := s.Inventory.Begin(ctx, r); err != nil {
			return err
		}
	}
	if err := s.request(ctx, t); err != nil {
		return s.explain(op, t, err)
	}
	switch t.do {
	case doMake:
		set(&r, fly.Entry{Kind: t.kind, Name: t.name, Identity: madeEntry})
	case doChange:
		if s.entry(t.kind, t.name) == nil {
			set(&r, fly.Entry{Kind: t.kind, Name: t.name, Identity: madeEntry})
		}
	case doDelete:
		unset(&r, t.kind, t.name)
	}
	if err := s.put(ctx, r); err != nil {
		return fmt.Errorf("%s %s: %w", op, object, err)
	}
	return nil
}

// begin enters all that is asked for and is not there: it is about to be made.
func (s *cluster) begin(r *fly.Record) {
	enter := func(kind, name string) {
		if !s.has(kind, name) {
			enter(r, kind, name)
		}
	}
	for _, user := range s.users() {
		enter(entryUser, user)
	}
	for _, database := range s.databases() {
		enter(entryDatabase, database)
	}
	for _, extension := range s.spec.Extensions {
		enter(entryExtension, s.spec.Database+"/"+extension)
	}
	if s.spec.AttachTo != "" {
		enter(entryAttachment, s.spec.AttachTo)
	}
}

// request makes one request about what is in the cluster.
func (s *cluster) request(ctx context.Context, t task) error {
	client, id := s.Org.Client(), s.cluster.id
	if t.do == doDelete && !s.has(t.kind, t.name) {
		return nil
	}
	switch database, extension, _ := strings.Cut(t.name, "/"); t.kind {
	case entryUser:
		switch t.do {
		case doMake:
			return client.CreatePostgresUser(ctx, id, t.name, roleOf)
		case doChange:
			return client.SetPostgresRole(ctx, id, t.name, roleOf)
		default:
			return client.DeletePostgresUser(ctx, id, t.name)
		}
	case entryDatabase:
		if t.do == doMake {
			return client.CreatePostgresDatabase(ctx, id, t.name)
		}
		return client.DeletePostgresDatabase(ctx, id, t.name)
	case entryExtension:
		if t.do == doMake {
			return client.EnablePostgresExtension(ctx, id, database, extension)
		}
		return client.DisablePostgresExtension(ctx, id, database, extension)
	case entryAttachment:
		if t.do == doMake {
			return client.AttachPostgres(ctx, id, t.name)
		}
		return client.DetachPostgres(ctx, id, t.name)
	}
	return reconcile.Errorf(reconcile.Internal, string(t.do), "%s is nothing that a cluster has", t.kind)
}

// explain says why something in the cluster could not be done, and what to do.
func (s *cluster) explain(op string, t task, err error) error {
	said := fly.Classify(op, t.kind+" "+t.name, err)
	var e *reconcile.Error
	if !errors.As(said, &e) {
		return said
	}
	of := *e
	switch kind := api.KindOf(err); {
	case t.kind == entryExtension && t.do == doMake && (kind == api.Conflict || kind == api.Taken):
		if strings.HasSuffix(t.name, "/postgis") {
			of.Kind, of.Hint = reconcile.Invalid, "PostGIS is chosen when a cluster is made: services.postgres.postgis"
			break
		}
		of.Kind = reconcile.Stale
	case t.kind == entryExtension && kind == api.Invalid:
		of.Hint = "see what Managed Postgres offers, and correct services.postgres.extensions"
	case t.kind == entryExtension && t.do == doDelete:
		of.Hint = "what uses it has to go first; forged does not force it"
	case kind == api.Taken && t.do == doMake: // somebody was faster
		of.Kind = reconcile.Stale
	case t.kind == entryAttachment && kind == api.NotFound:
		of.Kind = reconcile.Unavailable
	}
	return &of
}
