package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
)

// flyRegions are the regions of Fly when this build was made: docs, Regions,
// August 2026. Fly opens and closes some, so others are only warned about.
var flyRegions = []string{
	"ams", "arn", "bom", "cdg", "dfw", "ewr", "fra", "gru", "iad", "jnb", "lax", "lhr", "nrt", "ord", "sin", "sjc", "syd", "yyz",
}

// managedRegions are those that have Managed Postgres: docs, Managed Postgres,
// August 2026.
var managedRegions = []string{"ams", "fra", "gru", "iad", "lax", "lhr", "nrt", "ord", "sin", "sjc", "syd", "yyz"}

const (
	maxFlyDrain   = 5 * time.Minute // kill_timeout: docs, Machine configuration
	maxFlyVolume  = 500             // GB: docs, Volumes
	maxManagedGB  = 500             // GB at creation: docs, Managed Postgres
	flyOwnPrefix  = "fks-"          // apps that Fly Kubernetes makes
	flyNames      = ".fly.dev"      // names that Fly gives to apps: docs, Custom domains
	sharedStep    = 256             // MiB: docs, Machine sizing
	dedicatedStep = 1024            // MiB: docs, Machine sizing
)

func (l *loader) checkFly(p path, e *wireEnv, app *wireApp) {
	l.checkGuest(p.with("platform", "guest"), e.Platform.Guest)
	regions := p.with("regions")
	names := slices.Sorted(maps.Keys(e.Regions))
	var primary []string
	for _, name := range names {
		l.checkRegion(regions.with(name), name, flyRegions, true)
		if e.Regions[name].Primary {
			primary = append(primary, name)
		}
	}
	home := e.home()
	switch {
	case len(names) == 0:
		l.ruleAt(p, "fly-primary", "it runs in no region", "write regions: iad: {}, with the code of your region")
	case len(names) > 1 && len(primary) == 0:
		l.ruleAt(regions, "fly-primary", "none of "+strings.Join(names, ", ")+" is the primary one", "write primary: true in the region of the database")
	case len(primary) > 1:
		l.ruleAt(regions.with(primary[1], "primary"), "fly-primary", fmt.Sprintf("%s is the primary region already", primary[0]), "keep one of them")
	default:
		if n := e.Regions[home].Machines; e.Scaling.MinRunning > n {
			l.rule(p.with("scaling", "minRunning"), "scaling",
				fmt.Sprintf("%d machines cannot stay awake where there are %d: %s is the primary region", e.Scaling.MinRunning, n, home), "")
		}
	}
	if app != nil {
		at := p.with("platform", "appName")
		l.checkFlyName(at, e.Platform.AppName, e.instance(app.Name))
	}
	if len(e.Volumes) > 0 && (e.Platform.Strategy == "bluegreen" || e.Platform.Strategy == "canary") {
		l.rule(p.with("platform", "strategy"), "fly-strategy", fmt.Sprintf("%s starts machines beside the old ones, which hold the volume", e.Platform.Strategy),
			`write strategy: "rolling", or leave the volume out`)
	}
	l.checkFlyVolumes(p.with("volumes"), e)
	machines := 0
	for _, r := range e.Regions {
		machines += r.Machines
	}
	if names := slices.Sorted(maps.Keys(e.Volumes)); machines > 1 && len(names) > 0 {
		l.ruleAt(p.with("volumes", names[0]), "fly-volume-each", fmt.Sprintf("each of the %d machines has a disk of its own, with data of its own", machines), "keep what they share in a service")
	}
	if e.Expose.Kind == forge.ExposeFly && e.Expose.PublicIPv4 == "none" && !e.Expose.PublicIPv6 {
		l.ruleAt(p.with("expose"), "fly-address", "without an address nobody can reach it", `write expose: kind: "none" when nobody is to`)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Workers)) {
		if d := e.Workers[name].Drain; duration(d) > maxFlyDrain && l.written(p.with("workers", name, "drain")) {
			l.rule(p.with("workers", name, "drain"), "fly-drain", fmt.Sprintf("Fly kills a machine after %s, and not after %s", short(maxFlyDrain), d), `write drain: "5m", and let the work begin again where it was cut off`)
		}
	}
	l.checkFlyServices(p.with("services"), e)
}

func (l *loader) checkFKS(p path, e *wireEnv, app *wireApp) {
	l.checkRegion(p.with("platform", "region"), e.Platform.Region, flyRegions, false)
	if !e.Platform.AcceptsBeta {
		l.ruleAt(p.with("platform"), "fks-beta", "Fly Kubernetes is a closed beta and not for critical production", "write acknowledgeClosedBeta: true when you know")
	}
	for i, id := range e.Platform.Allow {
		if !slices.ContainsFunc(fks.Rules(), func(r fks.Rule) bool { return r.ID == id }) {
			l.rule(p.with("platform", "allowUnsupported", strconv.Itoa(i)), "fks-rule", fmt.Sprintf("there is no rule %s", id), "forged validate names the rule that refuses")
		}
	}
	if e.Platform.Context != "" && e.Platform.Kubeconfig == "" {
		l.ruleAt(p.with("platform", "context"), "unread-key", "it is read only when kubeconfig is written", "leave it out: Fly gives out a kubeconfig with one context")
	}
	if c := e.Expose.Concurrency; c.Soft > c.Hard {
		l.ruleAt(p.with("expose", "concurrency"), "fks-limits", fmt.Sprintf("other pods are preferred from %d on, and more than %d a pod never gets", c.Soft, c.Hard), "write hard: "+strconv.Itoa(c.Soft)+" or more")
	}
	const oneDisk = "its volume would be a disk of one host, without a copy"
	if e.Services.Postgres.Mode == forge.ModeInCluster {
		l.ruleAt(p.with("services", "postgres"), "fks-data", oneDisk, `write mode: "fly-managed"`)
	}
	if r := e.Services.Redis; r.Mode == forge.ModeInCluster && r.Persistence {
		l.ruleAt(p.with("services", "redis"), "fks-data", oneDisk, `write mode: "upstash", or persistence: false`)
	}
	l.checkFlyVolumes(p.with("volumes"), e)
	for _, name := range slices.Sorted(maps.Keys(e.Volumes)) {
		l.checkRegion(p.with("volumes", name, "region"), e.Volumes[name].Region, flyRegions, false)
	}
	l.checkFlyServices(p.with("services"), e)
	if e.Services.Postgres.Backup.Enabled {
		l.ruleAt(p.with("services", "postgres", "backup"), "fks-support", "Fly Kubernetes has no CronJob, so that no dump is made", `write mode: "fly-managed", which keeps backups`)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Workers)) {
		if len(e.Workers[name].Health.Exec) > 0 {
			l.ruleAt(p.with("workers", name, "health", "exec"), "fks-support", "Fly Kubernetes ignores probes, so that nobody asks the worker", "leave it out, or let the worker end when it is ill")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Charts)) {
		if e.Charts[name].Kind == forge.ChartPath {
			continue // it can be looked at
		}
		l.ruleAt(p.with("charts", name), "fks-support", "charts often hold what Fly Kubernetes does not have: init containers, sidecars, Ingresses", "forged plan looks at it, and refuses what cannot run")
	}
}

// checkRegion warns of a region that this build does not know.
func (l *loader) checkRegion(p path, name string, known []string, label bool) {
	if name == "" || slices.Contains(known, name) {
		return
	}
	hint := didYouMean(name, known)
	if hint == "" {
		hint = "known when forged was built: " + strings.Join(known, ", ")
	}
	l.add(p, l.pos(p, label), "fly-region", fmt.Sprintf("%q is not a region that forged knows", name), hint)
}

func (l *loader) checkFlyName(p path, written, made string) {
	name := written
	if name == "" {
		name = made
	}
	switch {
	case strings.HasPrefix(name, flyOwnPrefix):
		l.ruleAt(p, "fly-name", fmt.Sprintf("%s would be one of the apps of Fly Kubernetes, which forged never touches", name), "choose a name that does not begin with "+flyOwnPrefix)
	case len(name) > maxLabel:
		l.ruleAt(p, "fly-name", fmt.Sprintf("the Fly app %s would have a name of more than %d characters", name, maxLabel), "write a shorter platform.appName")
	}
}

// checkGuest knows the sizes of machines: docs, Machine sizing.
func (l *loader) checkGuest(p path, g wireGuest) {
	cpus, step, least, most := []int{1, 2, 4, 6, 8}, sharedStep, 256, 2048
	if g.CPUKind == "performance" {
		cpus, step, least, most = []int{1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64, 128}, dedicatedStep, 2048, 8192
	}
	switch {
	case !slices.Contains(cpus, g.CPUs):
		var all []string
		for _, n := range cpus {
			all = append(all, strconv.Itoa(n))
		}
		l.rule(p.with("cpus"), "fly-guest", fmt.Sprintf("a machine with %s CPUs has %s of them, not %d", g.CPUKind, strings.Join(all, ", "), g.CPUs), "")
	case g.MemoryMB < least*g.CPUs || g.MemoryMB > most*g.CPUs:
		l.rule(p.with("memoryMB"), "fly-guest",
			fmt.Sprintf("a machine with %d %s CPUs has from %d to %d MiB, not %d", g.CPUs, g.CPUKind, least*g.CPUs, most*g.CPUs, g.MemoryMB), "")
	case g.MemoryMB%step != 0:
		l.rule(p.with("memoryMB"), "fly-guest", fmt.Sprintf("memory of %s CPUs comes in steps of %d MiB", g.CPUKind, step),
			fmt.Sprintf("write %d or %d", g.MemoryMB/step*step, (g.MemoryMB/step+1)*step))
	}
}

func (l *loader) checkFlyVolumes(p path, e *wireEnv) {
	for i, name := range slices.Sorted(maps.Keys(e.Volumes)) {
		v, at := e.Volumes[name], p.with(name)
		if i > 0 {
			l.ruleAt(at, "fly-volume", "a machine mounts one volume, and there is another one before", "keep one of them, and use directories in it")
		}
		gb := quantity(v.Size) / (1 << 30)
		switch {
		case gb > maxFlyVolume:
			l.rule(at.with("size"), "fly-volume", fmt.Sprintf("%s is more than %d GB", v.Size, maxFlyVolume), "")
		case e.onFly() && gb != float64(int(gb)):
			l.rule(at.with("size"), "fly-volume", fmt.Sprintf("%s is not a whole number of Gi", v.Size), fmt.Sprintf("write %dGi", int(gb)+1))
		}
	}
}

func (l *loader) checkFlyServices(p path, e *wireEnv) {
	if pg, at := e.Services.Postgres, p.with("postgres"); pg.Mode == forge.ModeFlyManaged {
		l.checkRegion(at.with("region"), pg.Region, managedRegions, false)
		if pg.Region == "" && pg.Create {
			if home := e.home(); home != "" && !slices.Contains(managedRegions, home) {
				l.ruleAt(at, "fly-region", fmt.Sprintf("%s has no managed databases that forged knows of", home), "write region, one of "+strings.Join(managedRegions, ", "))
			}
		}
		if pg.StorageGB > maxManagedGB {
			l.rule(at.with("storageGB"), "fly-storage", fmt.Sprintf("Fly makes a cluster with at most %d GB", maxManagedGB), "begin smaller; the disk can grow later, by hand")
		}
	}
	if r, at := e.Services.Redis, p.with("redis"); r.Mode == forge.ModeUpstash {
		l.checkRegion(at.with("region"), r.Region, flyRegions, false)
		primary := r.Region
		if primary == "" {
			primary = e.home()
		}
		for i, name := range r.ReadRegions {
			where := at.with("readRegions", strconv.Itoa(i))
			l.checkRegion(where, name, flyRegions, false)
			switch {
			case name == primary:
				l.rule(where, "region-twice", name+" takes the writes already", "leave it out")
			case slices.Contains(r.ReadRegions[:i], name):
				l.rule(where, "region-twice", name+" is there twice", "")
			}
		}
	}
}
