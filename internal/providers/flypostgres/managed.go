package flypostgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
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
	case s.begunCluster():
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
		storageGB: c.DiskGB, postGIS: c.PostGIS,
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

// Observed implements fly.View.
func (s *cluster) Observed() reconcile.Observed {
	o := reconcile.Observed{Health: s.health()}
	o.Exists = s.cluster.id != "" && s.place != foreign && (s.Recorded || o.Health.Status == reconcile.Ready)
	if s.Request.Remove {
		o.Exists = s.Recorded && s.cluster.id != ""
		return o
	}
	if s.in == nil || !o.Exists {
		return o
	}
	o.Outputs = s.outputs()
	for _, e := range s.Record.Entries {
		if e.Identity != "" {
			o.Objects++
		}
	}
	if b := s.in.backup; b != nil && broken(*b) {
		o.Notices = append(o.Notices, reconcile.Notice{
			Code: "backup", Object: entryCluster + " " + s.cluster.name,
			Message: "its last backup, of " + b.StartedAt.UTC().Format(time.RFC3339) + ", has failed; see Fly's dashboard, or make one with \"fly mpg backup create " + s.cluster.id + "\"",
		})
	}
	return o
}

func (s *cluster) health() reconcile.Health {
	object := "cluster " + s.spec.Name
	switch s.place {
	case absent, crowded, foreign:
		return reconcile.Health{Status: reconcile.Unknown}
	case gone:
		return reconcile.Health{Status: reconcile.Failed, Message: object + " was deleted"}
	}
	switch s.cluster.status {
	case statusReady:
	case statusCreating, statusInitializing:
		return reconcile.Health{Status: reconcile.Progressing, Message: "Fly is making " + object + " (" + s.cluster.status + ")"}
	case statusFailed, statusError:
		return reconcile.Health{Status: reconcile.Failed, Message: fmt.Sprintf(
			"Fly says that %s (%s) has failed; ask Fly's support, or delete it with \"fly mpg destroy %s\": if it never was ready, another one is made", object, s.cluster.id, s.cluster.id)}
	default:
		return reconcile.Health{Status: reconcile.Unknown, Message: fmt.Sprintf("Fly says that %s is %q, which forged does not know", object, s.cluster.status)}
	}
	var missing []string
	for _, user := range s.users() {
		if _, ok := s.in.passwords[user]; !ok {
			missing = append(missing, "user "+user)
		}
	}
	for _, database := range s.databases() {
		if !slices.Contains(s.in.databases, database) {
			missing = append(missing, "database "+database)
		}
	}
	if len(missing) > 0 {
		return reconcile.Health{Status: reconcile.Progressing, Message: object + " has no " + strings.Join(missing, ", no ") + " yet"}
	}
	if s.cluster.host == "" {
		return reconcile.Health{Status: reconcile.Progressing, Message: object + " has no address yet"}
	}
	message := "no backup yet"
	if b := s.in.backup; b != nil && !broken(*b) {
		message = "last backup " + b.FinishedAt.UTC().Format(time.RFC3339)
	}
	return reconcile.Health{Status: reconcile.Ready, Message: message}
}

// outputs are what clients need; none until all of it is known.
func (s *cluster) outputs() reconcile.Outputs {
	if s.cluster.host == "" || !slices.Contains(s.in.databases, s.spec.Database) {
		return nil
	}
	port := s.cluster.port
	if port == 0 {
		port = 5432
	}
	o := reconcile.Outputs{
		forge.OutputHost:     {Value: s.cluster.host},
		forge.OutputPort:     {Value: fmt.Sprint(port)},
		forge.OutputDatabase: {Value: s.spec.Database},
		forge.OutputUser:     {Value: s.spec.User},
	}
	if s.cluster.poolerHost != "" {
		o[forge.OutputPoolerHost] = reconcile.Output{Value: s.cluster.poolerHost}
	}
	return withPasswords(o, s.spec.User, s.spec.Further, s.in.passwords)
}

// withPasswords adds the passwords; nil when one is missing.
func withPasswords(o reconcile.Outputs, user string, further []forge.FlyPostgresUser, passwords map[string]secret.Value) reconcile.Outputs {
	names := map[string]string{user: forge.OutputPassword}
	for _, f := range further {
		if f.Name != user {
			names[f.Name] = forge.OutputPassword + "/" + f.Name
		}
	}
	for name, output := range names {
		password, ok := passwords[name]
		if !ok {
			return nil
		}
		o[output] = reconcile.Output{Secret: password}
	}
	return o
}

// Print implements fly.View.
func (s *cluster) Print() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %+v %v\n", s.place, s.cluster, s.others)
	if s.in != nil {
		fmt.Fprintf(h, "%v %v %v %+v\n", s.in.users, s.in.databases, s.in.extensions, s.in.backup)
		for _, user := range slices.Sorted(maps.Keys(s.in.passwords)) {
			fmt.Fprintf(h, "%s %x\n", user, sha256.Sum256(s.in.passwords[user].Reveal()))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
