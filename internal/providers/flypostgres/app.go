package flypostgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// NewApp makes the provider of kind "fly-postgres-app": what an environment has
// in a PostgreSQL that runs as an app of postgres-flex, and that app, if it is
// to be made.
func NewApp(a *fly.Accounts) *fly.Service {
	return &fly.Service{Accounts: a, Kind: forge.KindFlyPostgresApp, Every: every, Look: lookAtApp}
}

// Kinds of entries in the inventory, besides the databases.
const (
	entryApp     = "app"
	entryRole    = "role"
	entrySecrets = "secrets"
	entryAddress = "address"
	entryVolume  = "volume"  // by its place among them
	entryMachine = "machine" // by its name
)

// ofClusters is what the names of apps begin with that Fly makes for its own
// clusters.
const ofClusters = "fks-"

// flex is what was found of a PostgreSQL in an app, and for whom.
type flex struct {
	fly.Look
	spec    forge.FlyPostgresAppSpec
	applied *forge.FlyPostgresAppSpec // what was applied last; nil: nothing

	place place
	parts *parts // nil: there is no app
}

// parts are what an app is made of.
type parts struct {
	asked    string // what was asked about
	app      api.App
	machines []api.Machine // that are not destroyed, sorted by id
	leader   string        // id
	trouble  string        // why nobody leads, or the leader cannot be asked
	survey   *survey       // nil: it could not be asked

	// Only of an app that forged makes.
	volumes []api.Volume // of its databases
	beside  []api.Volume // that somebody else has put there
	secrets []string     // names
	flycast bool
}

// section is that of what no listing tells of: it is good for a moment.
const section fly.Section = "postgres-app"

func lookAtApp(ctx context.Context, l fly.Look) (fly.View, error) {
	spec, ok := l.Request.Resource.Spec.(forge.FlyPostgresAppSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "observe", "its spec is a %T", l.Request.Resource.Spec)
	}
	s := &flex{Look: l, spec: spec}
	if strings.HasPrefix(spec.App, ofClusters) {
		return nil, &reconcile.Error{Kind: reconcile.Invalid, Op: "observe", Object: s.object(), Err: errors.New("an app of this name belongs to a cluster of Fly Kubernetes, and is never touched")}
	}
	if l.Recorded && len(l.Record.Spec) > 0 {
		applied, err := fly.DecodeSpec(forge.KindFlyPostgresApp, l.Record.Spec, l.Account)
		if err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "read the inventory of", Object: s.object(), Err: err}
		}
		before := applied.(forge.FlyPostgresAppSpec)
		s.applied = &before
	}
	machines := fly.Topic{App: spec.App, Section: fly.SectionMachines}
	l.Accounts.Follow(l.ID(), l.Account, machines)
	topic := fly.Topic{App: spec.App, Section: section}
	if l.Fresh {
		l.Org.Touch(machines, topic)
	}
	asked := fmt.Sprint(s.making(), s.roles(), s.homes())
	read := func() (*parts, error) {
		return fly.Read(ctx, l.Org, topic, func(ctx context.Context) (*parts, error) {
			p, err := s.read(ctx, l.Org.Client())
			if err == nil {
				p.asked = asked
			}
			return p, err
		})
	}
	p, err := read()
	if err == nil && p.asked != asked { // somebody asked about something else
		l.Org.Touch(topic)
		p, err = read()
	}
	if err != nil {
		return nil, fly.Classify("look at", s.object(), err)
	}
	if p.app.Name != "" {
		s.parts = p
	}
	return s, s.stand()
}

func (s *flex) object() string { return entryApp + " " + s.spec.App }

func (s *flex) roles() []string { return usersOf(s.spec.User, s.spec.Further) }

func (s *flex) homes() []home { return homesOf(s.spec.Database, s.spec.User, s.spec.Further) }

// making tells whether the app is forged's to make and to keep.
func (s *flex) making() bool { return s.spec.Create || entryOf(s.Record, entryApp, s.spec.App) != nil }

// stand finds where the app stands.
func (s *flex) stand() error {
	entry := entryOf(s.Record, entryApp, s.spec.App)
	if s.parts == nil {
		s.place = absent
		if entry != nil && entry.Identity != "" || s.Record.Data[dataCluster] != "" {
			s.place = gone
		}
		return nil
	}
	if org := s.parts.app.Organization.Slug; org != "" && org != s.Org.Slug() && s.Org.Slug() != "personal" {
		return &reconcile.Error{
			Kind: reconcile.Denied, Op: "use", Object: s.object(), Err: fmt.Errorf("it belongs to the organization %s", org),
			Hint: "write another services.postgres.appName",
		}
	}
	id := identityOf(s.parts.app)
	switch {
	case entry != nil && entry.Identity == id:
		s.place = known
	case entry != nil && entry.Identity != "", entry == nil && s.Record.Data[dataCluster] != "" && s.Record.Data[dataCluster] != id:
		s.place = gone // another app has its name
	case entry != nil && s.empty():
		s.place = begun
	case s.spec.Create && !s.Request.Remove:
		s.place = foreign
	default:
		s.place = used
	}
	return nil
}

// empty tells that there is nothing in the app. One that was not seen to be made
// is forged's only as long as it is: nothing is put into it before that.
func (s *flex) empty() bool {
	return len(s.parts.machines)+len(s.parts.volumes)+len(s.parts.beside)+len(s.parts.secrets) == 0
}

// identityOf tells an app from another one of its name.
func identityOf(a api.App) string {
	if a.NumericID != 0 {
		return strconv.FormatInt(a.NumericID, 10)
	}
	return a.ID
}

// read reads what the app is made of, and asks the leader.
func (s *flex) read(ctx context.Context, client *api.Client) (*parts, error) {
	p := &parts{}
	var err error
	if p.app, err = client.App(ctx, s.spec.App); err != nil {
		switch api.KindOf(err) {
		case api.NotFound, api.Gone:
			return &parts{}, nil
		case api.Denied:
			return nil, &reconcile.Error{
				Kind: reconcile.Denied, Op: "look at", Object: s.object(), Err: err,
				Hint: "the name belongs to somebody else, or the token does not cover it: write another services.postgres.appName",
			}
		}
		return nil, err
	}
	machines, err := client.Machines(ctx, s.spec.App, api.MachinesQuery{})
	if err != nil {
		return nil, err
	}
	for _, m := range machines {
		if m.State != api.StateDestroyed && m.State != api.StateDestroying {
			p.machines = append(p.machines, m)
		}
	}
	slices.SortFunc(p.machines, func(a, b api.Machine) int { return strings.Compare(a.ID, b.ID) })
	if s.making() {
		if err := s.readMade(ctx, client, p); err != nil {
			return nil, err
		}
	}
	if p.leader, p.trouble = leaderOf(p.machines); p.leader == "" {
		return p, nil
	}
	var said *sqlError
	p.survey, err = console{s.Org, s.spec.App, p.leader}.look(ctx, s.roles(), named(s.homes()))
	if errors.As(err, &said) {
		p.trouble = said.Error()
		return p, nil
	}
	return p, err
}

func (s *flex) readMade(ctx context.Context, client *api.Client, p *parts) error {
	volumes, err := client.Volumes(ctx, s.spec.App)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		switch {
		case v.Deleted():
		case v.Name == volumeName:
			p.volumes = append(p.volumes, v)
		default:
			p.beside = append(p.beside, v)
		}
	}
	slices.SortFunc(p.volumes, func(a, b api.Volume) int { return strings.Compare(a.ID, b.ID) })
	secrets, err := client.Secrets(ctx, s.spec.App, 0)
	if err != nil {
		return err
	}
	for _, one := range secrets {
		p.secrets = append(p.secrets, one.Name)
	}
	ips, err := client.IPs(ctx, s.spec.App)
	p.flycast = slices.ContainsFunc(ips, func(ip api.IP) bool { return ip.Type() == api.PrivateIP })
	return err
}

// Checks of a machine of postgres-flex.
const (
	checkPostgres = "pg"
	checkRole     = "role"
	checkVM       = "vm"
)

// leaderOf is the machine that says it leads; or why there is none.
func leaderOf(machines []api.Machine) (id, trouble string) {
	var leaders, others []string
	for _, m := range machines {
		role := "is " + m.State
		for _, c := range m.Checks {
			switch says := strings.ToLower(c.Output); {
			case c.Name != checkRole:
			case c.Status == "passing" && (strings.Contains(says, "primary") || strings.Contains(says, "leader")):
				role = "leads"
			case c.Status == "passing":
				role = "stands by"
			default:
				role = "does not know its role"
			}
		}
		if role == "leads" && m.State == api.StateStarted {
			leaders = append(leaders, m.ID)
		} else {
			others = append(others, "machine "+m.ID+" "+role)
		}
	}
	switch {
	case len(leaders) == 1:
		return leaders[0], ""
	case len(leaders) > 1:
		return "", "several machines say that they lead: " + strings.Join(leaders, ", ")
	case len(others) == 0:
		return "", "it has no machines"
	}
	return "", "no machine leads: " + strings.Join(others, ", ")
}

// unwell says what is wrong with a machine; empty: nothing.
func unwell(m api.Machine) string {
	if m.HostStatus != "" && m.HostStatus != api.HostOK {
		return "its host does not answer"
	}
	if m.State != api.StateStarted {
		return "it is " + m.State
	}
	var failing []string
	for _, c := range m.Checks {
		if (c.Name == checkPostgres || c.Name == checkRole || c.Name == checkVM) && c.Status != "passing" {
			failing = append(failing, c.Name)
		}
	}
	if len(failing) > 0 {
		slices.Sort(failing)
		return "its checks fail: " + strings.Join(failing, ", ")
	}
	return ""
}
