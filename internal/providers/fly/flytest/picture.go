package flytest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/providers/fly/api"
)

// Picture is all there is in an organization, in the apps that are asked for,
// without what chance has made: environments that are alike have pictures that
// are alike. What is there twice, and what an inventory holds that is pending,
// is an error.
func Picture(ctx context.Context, c *api.Client, org string, wanted func(app string) bool) (map[string]any, error) {
	p := &painter{ctx: ctx, client: c, all: map[string]any{}}
	apps := must(p, func() ([]api.App, error) { return c.Apps(ctx, org, "") })
	for _, a := range apps {
		if wanted(a.Name) {
			p.app("app "+a.Name, a.Name)
		}
	}
	for _, cluster := range must(p, func() ([]api.PostgresCluster, error) { return c.PostgresClusters(ctx, org) }) {
		if cluster.Status != "deleted" && cluster.Status != "deleting" {
			p.cluster("cluster "+cluster.Name, cluster)
		}
	}
	for _, r := range must(p, func() ([]api.AddOn, error) { return c.AddOns(ctx, org, "upstash_redis") }) {
		p.add("redis "+r.Name, map[string]any{"at": r.PrimaryRegion, "read": r.ReadRegions, "plan": r.Plan, "options": r.Options, "status": r.Status})
	}
	return p.all, errors.Join(p.wrong...)
}

// painter collects what there is, and what is wrong with it.
type painter struct {
	ctx    context.Context
	client *api.Client
	all    map[string]any
	wrong  []error
}

func must[T any](p *painter, read func() (T, error)) T {
	v, err := read()
	if err != nil {
		p.wrong = append(p.wrong, err)
	}
	return v
}

func (p *painter) add(name string, v any) {
	if _, twice := p.all[name]; twice {
		p.wrong = append(p.wrong, fmt.Errorf("%s is there twice", name))
	}
	p.all[name] = v
}

func (p *painter) app(at, app string) {
	p.add(at, true)
	for _, m := range must(p, func() ([]api.Machine, error) { return p.client.Machines(p.ctx, app, api.MachinesQuery{}) }) {
		switch {
		case m.State == api.StateDestroyed, m.State == api.StateDestroying:
		case m.Config == nil:
			p.wrong = append(p.wrong, fmt.Errorf("%s: the config of machine %s is not known", at, m.ID))
		case m.Config.Metadata["forged.dev/kind"] == "inventory":
			p.inventory(at+": "+m.Name, m)
		default:
			var mounts []string
			for _, mount := range m.Config.Mounts {
				mounts = append(mounts, mount.Path)
			}
			p.add(at+": machine "+m.Name+" in "+m.Region, []any{m.State, m.Config.Image, mounts})
		}
	}
	list := func(what string, all []string) {
		slices.Sort(all)
		p.add(at+": "+what, strings.Join(all, ", "))
	}
	var names []string
	for _, v := range must(p, func() ([]api.Volume, error) { return p.client.Volumes(p.ctx, app) }) {
		if !v.Deleted() {
			names = append(names, fmt.Sprintf("%s in %s of %d GB", v.Name, v.Region, v.SizeGB))
		}
	}
	list("volumes", names)
	names = nil
	for _, s := range must(p, func() ([]api.AppSecret, error) { return p.client.Secrets(p.ctx, app, 0) }) {
		names = append(names, s.Name)
	}
	list("secrets", names)
	names = nil
	for _, ip := range must(p, func() ([]api.IP, error) { return p.client.IPs(p.ctx, app) }) {
		names = append(names, ip.Type())
	}
	list("addresses", names)
	for _, c := range must(p, func() ([]api.CertificateSummary, error) { return p.client.Certificates(p.ctx, app) }) {
		p.add(at+": certificate "+c.Hostname, fmt.Sprintf("ACME %v, uploaded %v", c.ACMERequested, c.HasCustom))
	}
}

func (p *painter) cluster(at string, c api.PostgresCluster) {
	users := must(p, func() ([]api.PostgresUser, error) { return p.client.PostgresUsers(p.ctx, c.ID) })
	slices.SortFunc(users, func(a, b api.PostgresUser) int { return strings.Compare(a.Name, b.Name) })
	databases := must(p, func() ([]string, error) { return p.client.PostgresDatabases(p.ctx, c.ID) })
	slices.Sort(databases)
	extensions := map[string][]string{}
	for _, database := range databases {
		all := must(p, func() ([]string, error) { return p.client.PostgresExtensions(p.ctx, c.ID, database) })
		slices.Sort(all)
		extensions[database] = all
	}
	p.add(at, map[string]any{
		"is": fmt.Sprint(c.Status, " in ", c.Region, ", ", c.Plan, ", ", c.DiskGB, " GB, version ", c.Version), "attached": c.AttachedApps,
		"users": users, "databases": databases, "extensions": extensions,
	})
}

// inventory is what forged has written down.
func (p *painter) inventory(at string, m api.Machine) {
	d, err := recorded(m)
	if err != nil {
		p.wrong = append(p.wrong, fmt.Errorf("%s: %w", at, err))
	}
	for _, r := range d.Records {
		if r.Pending {
			p.wrong = append(p.wrong, fmt.Errorf("%s: %s is pending", at, r.ID))
		}
		var entries []string
		for _, e := range r.Entries {
			if e.Identity == "" && e.Kind != "secret" {
				p.wrong = append(p.wrong, fmt.Errorf("%s: %s has %s %s without an identity", at, r.ID, e.Kind, e.Name))
			}
			entries = append(entries, e.Kind+" "+e.Name)
		}
		slices.Sort(entries)
		p.add(at+": "+r.ID, map[string]any{"needs": r.Needs, "entries": entries})
	}
}

type record struct {
	ID      string
	Pending bool
	Needs   []string
	Entries []struct{ Kind, Name, Identity string }
}

func recorded(m api.Machine) (d struct{ Records []record }, err error) {
	if len(m.Config.Files) != 1 || m.Config.Files[0].RawValue == nil {
		return d, errors.New("it holds no file")
	}
	packed, err := base64.StdEncoding.DecodeString(*m.Config.Files[0].RawValue)
	if err != nil {
		return d, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return d, err
	}
	return d, json.NewDecoder(z).Decode(&d)
}
