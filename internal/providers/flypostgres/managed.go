package flypostgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// every is how often it is looked at what is in a cluster: no listing tells of
// users, databases, extensions and backups.
const every = 5 * time.Minute

// NewManaged makes the provider of kind "fly-postgres": clusters of Managed
// Postgres, and what an environment has in them.
func NewManaged(a *fly.Accounts) *fly.Service {
	return &fly.Service{Accounts: a, Kind: forge.KindFlyPostgres, Every: every, Look: lookAtCluster}
}

// facts are what Fly tells of a cluster.
type facts struct {
	id, name, status      string
	plan, region, version string
	storageGB             int
	postGIS               bool
	host, poolerHost      string
	port                  int
	attached              []string
	created               time.Time
}

// contents are what is in a cluster.
type contents struct {
	asked      string            // what was asked about
	users      map[string]string // role by name
	databases  []string
	extensions []string                // of the app's database
	passwords  map[string]secret.Value // of the users that are asked for, as far as there are any
	backup     *api.PostgresBackup     // the last one that is not under way
}

// Statuses of a cluster.
const (
	statusCreating     = "creating"
	statusInitializing = "initializing"
	statusReady        = api.PostgresReady
	statusDeleting     = "deleting"
	statusDeleted      = "deleted"
	statusFailed       = api.PostgresFailed
	statusError        = api.PostgresError
)

// existing tells whether a cluster is there, or on its way to be.
func existing(status string) bool { return status != statusDeleting && status != statusDeleted }

func lookAtCluster(ctx context.Context, l fly.Look) (fly.View, error) {
	spec, ok := l.Request.Resource.Spec.(forge.FlyPostgresSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "observe", "its spec is a %T", l.Request.Resource.Spec)
	}
	s := &cluster{Look: l, spec: spec}
	if l.Recorded && len(l.Record.Spec) > 0 {
		applied, err := fly.DecodeSpec(forge.KindFlyPostgres, l.Record.Spec, l.Account)
		if err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "read the inventory of", Object: entryCluster + " " + spec.Name, Err: err}
		}
		before := applied.(forge.FlyPostgresSpec)
		s.applied = &before
	}
	l.Accounts.Follow(l.ID(), l.Account, fly.Topic{Section: fly.SectionPostgres})
	if l.Fresh {
		l.Org.Touch(fly.Topic{Section: fly.SectionPostgres})
	}
	if err := s.find(ctx); err != nil {
		return nil, err
	}
	if s.cluster.id == "" || s.cluster.status != statusReady {
		return s, nil
	}
	return s, s.lookInside(ctx)
}

// find looks for the cluster: by the id that is known of it, else by its name.
func (s *cluster) find(ctx context.Context) error {
	id := s.Record.Data[dataCluster]
	if id != "" {
		there, err := s.get(ctx, id)
		switch {
		case err != nil:
			return err
		case there:
			s.place = used
			if s.ours() {
				s.place = known
			}
			return nil
		}
	}
	listed, err := s.list(ctx)
	if err != nil {
		return err
	}
	var named []string
	for _, c := range listed {
		switch {
		case !existing(c.Status):
		case c.ID == id:
			return reconcile.Errorf(reconcile.Unavailable, "read", "cluster %s is listed and cannot be read", id)
		case c.Name == s.spec.Name:
			named = append(named, c.ID)
		}
	}
	slices.Sort(named)
	if made, err := time.Parse(time.RFC3339, s.Record.Data[dataMade]); err == nil && time.Since(made) < young {
		return &reconcile.Error{
			Kind: reconcile.Unavailable, Op: "read", Object: entryCluster + " " + s.spec.Name,
			Err: fmt.Errorf("Fly made it (%s) a moment ago, and does not know it yet", id), //nolint:staticcheck // a name
		}
	}
	// If there never was anything in it, it is as if it had not been.
	if id != "" && s.Record.Data[dataServed] != "" {
		s.place, s.others = gone, named
		return nil
	}
	switch len(named) {
	case 0:
		s.place = absent
		return nil
	case 1:
	default:
		s.place, s.others = crowded, named
		return nil
	}
	there, err := s.get(ctx, named[0])
	switch {
	case err != nil:
		return err
	case !there:
		return reconcile.Errorf(reconcile.Unavailable, "read", "cluster %s is listed and cannot be read", named[0])
	case s.claims():
		s.place = begun
	case s.spec.Create && !s.Request.Remove:
		s.place = foreign
	default:
		s.place = used
	}
	return nil
}

// begunCluster tells whether forged has asked Fly for the cluster, and has not
// seen it since.
func (s *cluster) begunCluster() bool {
	e := s.entry(entryCluster, s.spec.Name)
	return e != nil && e.Identity == ""
}

// claims tells whether the cluster was made when forged had asked for it.
func (s *cluster) claims() bool {
	asked, err := time.Parse(time.RFC3339, s.Record.Data[dataAsked])
	return s.begunCluster() && err == nil && s.cluster.created.Before(asked.Add(claimAfter))
}

func (s *cluster) list(ctx context.Context) ([]api.PostgresCluster, error) {
	org := s.Org
	all, err := fly.Read(ctx, org, fly.Topic{Section: fly.SectionPostgres}, func(ctx context.Context) ([]api.PostgresCluster, error) {
		return org.Client().PostgresClusters(ctx, org.Slug())
	})
	return all, fly.Classify("list", "the clusters of organization "+org.Slug(), err)
}

// get reads a cluster; false: it is not there.
func (s *cluster) get(ctx context.Context, id string) (bool, error) {
	type answer struct {
		cluster *api.PostgresCluster
	}
	org := s.Org
	topic := s.topic(id)
	if s.Fresh {
		org.Touch(topic)
	}
	a, err := fly.Read(ctx, org, topic, func(ctx context.Context) (answer, error) {
		c, err := org.Client().PostgresCluster(ctx, id)
		switch api.KindOf(err) {
		case api.NotFound, api.Gone:
			return answer{}, nil
		case "":
			return answer{&c}, err
		}
		return answer{}, err
	})
	switch {
	case err != nil:
		return false, fly.Classify("read", entryCluster+" "+s.spec.Name, err)
	case a.cluster == nil || !existing(a.cluster.Status):
		return false, nil
	}
	s.cluster = factsOf(*a.cluster)
	return true, nil
}

// topic is what is in a cluster. It has no listing: what was read is good for a
// moment.
func (s *cluster) topic(id string) fly.Topic {
	return fly.Topic{App: "postgres/" + id, Section: fly.SectionPostgres}
}

func factsOf(c api.PostgresCluster) facts {
	f := facts{
		id: c.ID, name: c.Name, status: c.Status, plan: c.Plan, region: c.Region, version: c.Version,
		storageGB: c.DiskGB, postGIS: c.PostGIS, created: c.CreatedAt.Time,
		host: c.Endpoints.Primary.Direct.Host, poolerHost: c.Endpoints.Primary.Pooler.Host, port: c.Endpoints.Primary.Direct.Port,
	}
	for _, a := range c.AttachedApps {
		f.attached = append(f.attached, a.Name)
	}
	slices.Sort(f.attached)
	return f
}

// lookInside reads what is in the cluster.
func (s *cluster) lookInside(ctx context.Context) error {
	asked := fmt.Sprint(s.users(), s.spec.Database)
	org, id := s.Org, s.cluster.id
	read := func() (*contents, error) {
		return fly.Read(ctx, org, s.topic(id), func(ctx context.Context) (*contents, error) {
			in, err := s.contents(ctx, org.Client())
			if err == nil {
				in.asked = asked
			}
			return in, err
		})
	}
	in, err := read()
	if err == nil && in.asked != asked { // somebody asked about something else
		org.Touch(s.topic(id))
		in, err = read()
	}
	s.in = in
	return fly.Classify("look into", entryCluster+" "+s.spec.Name, err)
}

func (s *cluster) contents(ctx context.Context, client *api.Client) (*contents, error) {
	in := &contents{users: map[string]string{}, passwords: map[string]secret.Value{}}
	users, err := client.PostgresUsers(ctx, s.cluster.id)
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		in.users[u.Name] = u.Role
	}
	databases, err := client.PostgresDatabases(ctx, s.cluster.id)
	if err != nil {
		return nil, err
	}
	in.databases = slices.Sorted(slices.Values(databases))
	if slices.Contains(in.databases, s.spec.Database) {
		extensions, err := client.PostgresExtensions(ctx, s.cluster.id, s.spec.Database)
		if err != nil && api.KindOf(err) != api.NotFound {
			return nil, err
		}
		in.extensions = slices.Sorted(slices.Values(extensions))
	}
	for _, user := range s.users() {
		if _, ok := in.users[user]; !ok {
			continue
		}
		password, err := client.PostgresPassword(ctx, s.cluster.id, user)
		switch api.KindOf(err) {
		case api.NotFound, api.NotYet, api.Precondition: // Fly has not made them yet
		case "":
			if err != nil {
				return nil, err
			}
			if len(password.Reveal()) > 0 {
				in.passwords[user] = password
			}
		default:
			return nil, err
		}
	}
	backups, err := client.PostgresBackups(ctx, s.cluster.id)
	if err != nil {
		return nil, err
	}
	in.backup = lastBackup(backups)
	return in, nil
}

// lastBackup is the last one that has come to an end; nil: there is none.
func lastBackup(all []api.PostgresBackup) *api.PostgresBackup {
	var last *api.PostgresBackup
	for i, b := range all {
		if b.FinishedAt.IsZero() && !broken(b) {
			continue
		}
		if last == nil || b.StartedAt.After(last.StartedAt.Time) {
			last = &all[i]
		}
	}
	return last
}

func broken(b api.PostgresBackup) bool {
	status := strings.ToLower(b.Status)
	return strings.Contains(status, "fail") || strings.Contains(status, "error")
}
