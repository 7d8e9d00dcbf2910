package fly

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
)

// absent is the print of what a listing says is not there.
const absent = "absent"

// listMachines tells of the machines of all apps, and of the inventories, which
// are machines, too. A region that did not answer has the machines that it had.
func (o *Org) listMachines(ctx context.Context, p part) (prints, error) {
	list, err := o.Client().OrgMachines(ctx, o.Slug(), api.OrgQuery{})
	if err != nil {
		return nil, err
	}
	now := make(map[string]api.OrgMachine, len(list.All))
	for _, m := range list.All {
		if m.State != api.StateDestroyed {
			now[m.ID] = m
		}
	}
	o.mu.Lock()
	before := o.polled.machines
	for id, m := range before {
		if _, ok := now[id]; !ok && slices.Contains(list.ErrorRegions, m.Region) {
			now[id] = m
		}
	}
	o.polled.machines = now
	o.mu.Unlock()

	o.judgeInventories(now, len(list.ErrorRegions) == 0)
	o.vanished(before, now)
	byApp := map[string][]api.OrgMachine{}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		byApp[now[id].App] = append(byApp[now[id].App], now[id])
	}
	got := prints{}
	for _, t := range p.topics {
		got[t] = printOfMachines(byApp[t.App])
	}
	return got, nil
}

// printOfMachines is made of all that a listing tells but for the time: it moves
// without anything else.
func printOfMachines(machines []api.OrgMachine) string {
	type kept struct {
		ID, Name, State, Region, InstanceID, PrivateIP string
		Metadata                                       map[string]string
	}
	all := make([]kept, 0, len(machines))
	for _, m := range machines {
		all = append(all, kept{m.ID, m.Name, m.State, m.Region, m.InstanceID, m.PrivateIP, m.Config.Metadata})
	}
	return printOf(all)
}

// vanished has everything about an app looked at that has lost all of its
// machines: it may have been deleted, which would be told of much later.
func (o *Org) vanished(before, now map[string]api.OrgMachine) {
	gone := map[string]bool{}
	for _, m := range before {
		gone[m.App] = true
	}
	for _, m := range now {
		delete(gone, m.App)
	}
	if len(gone) == 0 {
		return
	}
	moved := map[Topic]bool{}
	o.mu.Lock()
	for t, p := range o.topics {
		if gone[t.App] {
			p.moves++
			moved[t] = true
		}
	}
	o.mu.Unlock()
	o.accounts.tell(o.key, moved, false)
}

// listApps tells of apps and of what belongs to them but machines and volumes.
func (o *Org) listApps(ctx context.Context, p part) (prints, error) {
	all, err := o.Client().Snapshot(ctx, o.Slug(), appsOf(p.topics))
	if err != nil {
		return nil, err
	}
	got := prints{}
	for _, t := range p.topics {
		app, ok := all[t.App]
		k := api.KindOf(app.Err)
		switch {
		case !ok || app.Err != nil && k != api.NotFound && k != api.Gone:
			continue
		case app.Err != nil:
			got[t] = absent
			continue
		}
		switch t.Section {
		case SectionSecrets:
			got[t] = app.Number + " " + app.Secrets
		case SectionIPs:
			got[t] = app.Number + " " + app.IPs
		case SectionCertificates:
			got[t] = app.Number + " " + app.Certificates
		default:
			got[t] = app.Number
		}
	}
	return got, nil
}

// listVolumes tells of the volumes of all apps. Where a region did not answer it
// tells nothing: which volumes it has is not remembered.
func (o *Org) listVolumes(ctx context.Context, p part) (prints, error) {
	list, err := o.Client().OrgVolumes(ctx, o.Slug(), api.OrgQuery{})
	if err != nil {
		return nil, err
	}
	if len(list.ErrorRegions) > 0 {
		return o.lastPrints(p), nil
	}
	type kept struct {
		ID, Name, State, Region, Zone, Machine, Host string
		Size, Retention                              int
		Backup, Encrypted                            bool
	}
	byApp := map[string][]kept{}
	for _, v := range list.All {
		byApp[v.App] = append(byApp[v.App], kept{
			v.ID, v.Name, v.State, v.Region, v.Zone, v.AttachedMachine, v.HostStatus,
			v.SizeGB, v.SnapshotRetention, v.AutoBackup, v.Encrypted,
		})
	}
	got := prints{}
	for _, t := range p.topics {
		slices.SortFunc(byApp[t.App], func(a, b kept) int { return cmp.Compare(a.ID, b.ID) })
		got[t] = printOf(byApp[t.App])
	}
	return got, nil
}

// lastPrints are those that a listing which told only a part leaves as they are.
func (o *Org) lastPrints(p part) prints {
	o.mu.Lock()
	defer o.mu.Unlock()
	got := prints{}
	for _, t := range p.topics {
		if known := o.topic(t); known.covered {
			got[t] = known.print
		}
	}
	return got
}

// listPostgres tells of the clusters of Managed Postgres: of all of them, and of
// each by its id.
func (o *Org) listPostgres(ctx context.Context, p part) (prints, error) {
	all, err := o.Client().PostgresClusters(ctx, o.Slug())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b api.PostgresCluster) int { return cmp.Compare(a.ID, b.ID) })
	got := prints{}
	for _, t := range p.topics {
		if t.App == "" {
			got[t] = printOf(all)
			continue
		}
		got[t] = absent
		if i := slices.IndexFunc(all, func(c api.PostgresCluster) bool { return c.ID == t.App }); i >= 0 {
			got[t] = printOf(all[i])
		}
	}
	return got, nil
}

// listAddOns tells of the databases of Upstash for Redis: of all of them, and of
// each by its name.
func (o *Org) listAddOns(ctx context.Context, p part) (prints, error) {
	all, err := o.Client().AddOns(ctx, o.Slug(), api.AddOnRedis)
	if err != nil {
		return nil, err
	}
	type kept struct {
		ID, Name, Status, Error, Region, PlanID string
		Read                                    []string
		Options, Metadata                       map[string]any
		URL                                     [sha256.Size]byte // with its password, which may be made anew
	}
	list := make([]kept, 0, len(all))
	for _, a := range all {
		list = append(list, kept{a.ID, a.Name, a.Status, a.Error, a.PrimaryRegion, a.PlanID, a.ReadRegions, a.Options, a.Metadata, sha256.Sum256(a.PublicURL.Reveal())})
	}
	slices.SortFunc(list, func(a, b kept) int { return cmp.Compare(a.ID, b.ID) })
	got := prints{}
	for _, t := range p.topics {
		if t.App == "" {
			got[t] = printOf(list)
			continue
		}
		got[t] = absent
		if i := slices.IndexFunc(list, func(a kept) bool { return a.Name == t.App }); i >= 0 {
			got[t] = printOf(list[i])
		}
	}
	return got, nil
}

// listClusters tells of the clusters of Fly Kubernetes, of all of them together.
func (o *Org) listClusters(ctx context.Context, p part) (prints, error) {
	all, err := o.Client().AddOns(ctx, o.Slug(), api.AddOnKubernetes)
	if err != nil {
		return nil, err
	}
	type kept struct {
		ID, Name, Status, Error, Region string
		Way                             [sha256.Size]byte
	}
	list := make([]kept, 0, len(all))
	for _, a := range all {
		list = append(list, kept{a.ID, a.Name, a.Status, a.Error, a.PrimaryRegion, sha256.Sum256(a.Kubeconfig.Reveal())})
	}
	slices.SortFunc(list, func(a, b kept) int { return cmp.Compare(a.ID, b.ID) })
	got := prints{}
	for _, t := range p.topics {
		got[t] = printOf(list)
	}
	return got, nil
}

// openInventories are those that were read.
func (o *Org) openInventories() []*Inventory {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []*Inventory
	for _, slot := range o.inventories {
		if slot.inv != nil {
			all = append(all, slot.inv)
		}
	}
	return all
}

// judgeInventories notices what somebody else has done to inventories.
func (o *Org) judgeInventories(machines map[string]api.OrgMachine, whole bool) {
	inventories := o.openInventories()
	if len(inventories) == 0 {
		return
	}
	type place struct{ app, name string }
	versions := make(map[place]string, len(machines))
	kept := map[string][]string{} // apps that keep inventories of ours, by environment
	for _, m := range machines {
		versions[place{m.App, m.Name}] = m.InstanceID
		if marks := m.Config.Metadata; marks[MarkKind] == kindInventory && marks[MarkInstance] == o.Instance() {
			kept[marks[MarkEnvironment]] = append(kept[marks[MarkEnvironment]], m.App)
		}
	}
	for _, inv := range inventories {
		version := versions[place{inv.key.app, inv.machineName()}]
		if (version != "" || whole) && inv.listed(version) {
			// What another one left half done is seen in its records alone.
			o.accounts.tellOf(o.key, func(id forge.ID, _ *follow) bool { return id.Environment == inv.key.environment }, true)
		}
		o.tellOthers(inv, kept[inv.key.environment])
	}
}

// tellOthers tells, once, of inventories of an environment in apps that
// forge.cue does not name, or no more: what they list is looked after by nobody.
func (o *Org) tellOthers(inv *Inventory, apps []string) {
	for _, app := range apps {
		if app == inv.key.app {
			continue
		}
		o.mu.Lock()
		told := o.polled.others[app]
		if o.polled.others == nil {
			o.polled.others = map[string]bool{}
		}
		o.polled.others[app] = true
		o.mu.Unlock()
		if !told {
			o.log.Warn("another inventory of this environment is in the organization; nobody looks after what it lists and this one does not",
				"environment", inv.key.environment, "inventory", inv.key.app, "other", app,
				"hint", "name it in platform.inventory again; or, when nothing of it is wanted any more, fly apps destroy "+app)
		}
	}
}
