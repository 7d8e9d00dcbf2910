package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

// fly compiles for Fly Machines: one app of Fly for the app and its workers,
// in which each group of machines has a region, and one for each service that
// forged runs.
func fly(env forge.Environment) ([]forge.Resource, error) {
	f := flyBuilder{
		builder: builder{env: env, at: place{target: forge.Target{Org: env.Platform.Org}, domains: env.Domains}},
		parts:   &parts{},
	}
	f.regions = slices.Clone(env.Regions)
	slices.SortStableFunc(f.regions, func(x, y forge.Region) int {
		switch {
		case x.Primary == y.Primary:
			return 0
		case x.Primary:
			return -1
		default:
			return 1
		}
	})
	f.surrounded = f.surroundings(
		servicePlace{},
		servicePlace{f.redisApp() + ".internal", f.redisApp(), envRedisPassword},
		servicePlace{host: f.temporalApp() + ".internal"},
	)
	app := f.app(env.Platform.AppName)
	f.flyServices(f.parts)
	secrets := f.secrets()
	f.secretsID = f.add("", f.resource(forge.KindFlySecrets, env.App.Name, secrets, slices.Concat(f.apps, sources(secrets.Apps))...))
	for _, check := range f.externalChecks("", f.secretsID, func(object, key string) forge.SecretPart {
		return forge.SecretPart{From: f.secretsID, Output: "value/" + object + "/" + key}
	}) {
		f.add(check.part, check.resource)
	}
	f.redis()
	if err := f.temporal(); err != nil {
		return nil, err
	}
	needs := slices.Concat([]forge.ID{app, f.secretsID}, f.services())
	if f.migrates() {
		spec := forge.FlyJobSpec{
			Process: f.process(env.App.Migrate.Args), Account: f.account(), App: env.Platform.AppName, Name: "migrate",
			Region: f.home(), Guest: env.Platform.Guest, Files: f.files(), Timeout: env.App.Migrate.Timeout,
			Secrets: f.version(env.Platform.AppName),
		}
		needs = append(needs, f.add("", f.resource(forge.KindFlyJob, "migrate", spec, needs...)))
	}
	f.machines(needs)
	f.workers(needs)
	if env.Expose.Kind == forge.ExposeFly {
		f.add("", f.resource(forge.KindFlyIPs, env.Platform.AppName, forge.FlyIPsSpec{
			Account: f.account(), App: env.Platform.AppName, V4: env.Expose.PublicIPv4, V6: env.Expose.PublicIPv6,
		}, app))
		for _, domain := range env.Domains {
			spec := forge.FlyCertificateSpec{Account: f.account(), App: env.Platform.AppName, Hostname: domain}
			for _, own := range env.Expose.Certificates {
				if own.Domain == domain {
					spec.Chain, spec.Key = own.Chain, own.Key
				}
			}
			f.add("", f.resource(forge.KindFlyCertificate, domain, spec, app, f.id(forge.KindFlyIPs, env.Platform.AppName)))
		}
	}
	return f.resources, nil
}

// envRedisPassword is the secret of the app that runs Redis.
const envRedisPassword = "REDIS_PASSWORD"

// flyBuilder compiles what lives on Fly Machines.
type flyBuilder struct {
	builder
	*parts
	regions    []forge.Region // the primary one first
	surrounded surroundings
	secretsID  forge.ID
	apps       []forge.ID
}

func (f *flyBuilder) home() string { return f.regions[0].Name }

func (f *flyBuilder) redisApp() string       { return f.env.Platform.AppName + "-redis" }
func (f *flyBuilder) temporalApp() string    { return f.env.Platform.AppName + "-temporal" }
func (f *flyBuilder) temporalWebApp() string { return f.env.Platform.AppName + "-temporal-web" }

// app adds the apps of Fly, and returns the one of the app itself.
func (f *flyBuilder) app(name string) forge.ID {
	names := []string{name}
	if f.env.Services.Redis.Mode == forge.ModeFlyApp {
		names = append(names, f.redisApp())
	}
	if f.hasTemporal() {
		names = append(names, f.temporalApp())
		if f.env.Services.Temporal.Web {
			names = append(names, f.temporalWebApp())
		}
	}
	for _, name := range names {
		f.apps = append(f.apps, f.add("", f.resource(forge.KindFlyApp, name, forge.FlyAppSpec{
			Account: f.account(), Name: name, Network: f.env.Platform.Network,
		})))
	}
	return f.apps[0]
}

// secrets are those of every app of the environment.
func (f *flyBuilder) secrets() forge.FlySecretsSpec {
	entries := slices.Clone(f.surrounded.entries)
	for _, file := range f.surrounded.files {
		entries = append(entries, forge.SecretEntry{Key: fileSecret(file.key), Ref: &file.ref, MultiLine: true})
	}
	sortEntries(entries)
	apps := []forge.SecretObject{{Name: f.env.Platform.AppName, Entries: entries}}
	if redis := f.env.Services.Redis; redis.Mode == forge.ModeFlyApp {
		apps = append(apps, forge.SecretObject{Name: f.redisApp(), Entries: []forge.SecretEntry{{Key: envRedisPassword, Ref: &redis.Password}}})
	}
	if f.hasTemporal() {
		entries := f.temporalEntries(servicePlace{})
		if postgres := f.env.Services.Postgres; postgres.Mode == forge.ModeExternal && !postgres.CABundle.IsZero() {
			entries = append(entries, forge.SecretEntry{Key: fileSecret("postgres-ca.crt"), Ref: &postgres.CABundle, MultiLine: true})
			sortEntries(entries)
		}
		apps = append(apps, forge.SecretObject{Name: f.temporalApp(), Entries: entries})
	}
	for _, app := range apps {
		for i, e := range app.Entries {
			if e.Ref != nil && e.Ref.Generate != nil {
				app.Entries[i].Field = f.generatedField(app.Name, e.Key)
			}
		}
	}
	return forge.FlySecretsSpec{Account: f.account(), Apps: sortObjects(apps)}
}

// generatedField is the field of forge.cue that a generated value comes from.
func (f *flyBuilder) generatedField(app, name string) string {
	field := "app.secrets." + name
	switch app {
	case f.redisApp():
		field = "services.redis.password"
	case f.temporalApp():
		field = "services.temporal.password"
	}
	return "environments." + f.env.Name + "." + field
}

// fileSecret is the name of the secret that a file is written from.
func fileSecret(key string) string {
	return "FORGED_FILE_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(key))
}

// version is that of the secrets which machines of an app must have seen.
func (f *flyBuilder) version(app string) forge.Input {
	return forge.Input{From: f.secretsID, Output: "version/" + app}
}

func (f *flyBuilder) process(args []string) forge.Process {
	return forge.Process{Image: f.env.App.Image.Reference(), Args: slices.Clone(args), Env: maps.Clone(f.surrounded.env)}
}

func (f *flyBuilder) files() []forge.FlyFile {
	var files []forge.FlyFile
	for _, file := range f.env.App.ConfigFiles {
		files = append(files, forge.FlyFile{Path: file.Path, File: file.File, Text: file.Text})
	}
	for _, file := range f.surrounded.files {
		files = append(files, forge.FlyFile{Path: file.path, Secret: fileSecret(file.key)})
	}
	return files
}

// machines adds the machines of the app, region by region.
func (f *flyBuilder) machines(needs []forge.ID) []forge.ID {
	app := f.env.App
	var all []forge.ID
	for i, region := range f.regions {
		spec := forge.FlyMachinesSpec{
			Process: f.process(app.Args), Account: f.account(), App: f.env.Platform.AppName, Group: partApp,
			Region: region.Name, Primary: f.home(), Count: region.Machines, Guest: f.env.Platform.Guest,
			Check: &forge.FlyCheck{
				Type: "http", Port: app.Port, Path: app.Health.Ready,
				Grace: app.Health.Startup, Interval: app.Health.Interval, Timeout: app.Health.Timeout,
			},
			Files: f.files(), Strategy: f.env.Platform.Deployment, Drain: appGrace, Restart: "always",
			Secrets: f.version(f.env.Platform.AppName),
		}
		if f.env.Expose.Kind == forge.ExposeFly {
			spec.Service = &forge.FlyService{
				Port: app.Port, ForceHTTPS: f.env.Expose.RedirectHTTP, PublicOnPort: []int{servicePort, servicePortTLS},
				Idle: f.env.Scaling.Idle,
			}
			if region.Name == f.home() { // it counts nowhere else
				spec.Service.MinRunning = f.env.Scaling.MinRunning
			}
		}
		wants := slices.Clone(needs)
		if len(f.env.Volumes) > 0 {
			volume := f.env.Volumes[0] // Fly has room for one
			spec.Volume, spec.Mount = volumeName(volume.Name), volume.Mount
			wants = append(wants, f.volume(f.env.Platform.AppName, partApp, spec.Volume, region, gigabytes(volume.Size), f.env.Platform.Guest))
		}
		r := f.resource(forge.KindFlyMachines, partApp+"@"+region.Name, spec, wants...)
		if i > 0 {
			r.After = []forge.ID{all[i-1]}
		}
		all = append(all, f.add(partApp, r))
	}
	return all
}

// workers run where the databases are. Nobody can tell when a new one is well
// enough for the old one to go, so none is made beside it.
func (f *flyBuilder) workers(needs []forge.ID) {
	strategy := f.env.Platform.Deployment
	if strategy != "immediate" {
		strategy = "rolling"
	}
	for _, worker := range f.env.Workers {
		group := "worker-" + worker.Name
		f.add("", f.resource(forge.KindFlyMachines, group+"@"+f.home(), forge.FlyMachinesSpec{
			Process: f.process(worker.Args), Account: f.account(), App: f.env.Platform.AppName, Group: group,
			Region: f.home(), Primary: f.home(), Count: worker.Scaling.Min, Guest: worker.Guest, Files: f.files(),
			Strategy: strategy, Drain: worker.Drain, Restart: "always",
			Secrets: f.version(f.env.Platform.AppName),
		}, needs...))
	}
}

// volume adds the disks of one group in one region, one for each machine.
func (f *flyBuilder) volume(app, group, name string, region forge.Region, sizeGB int, guest forge.Guest) forge.ID {
	return f.add("", f.resource(forge.KindFlyVolume, group+"@"+region.Name, forge.FlyVolumeSpec{
		Account: f.account(), App: app, Name: name, Region: region.Name, Count: region.Machines, SizeGB: sizeGB, Guest: guest,
	}, f.id(forge.KindFlyApp, app)))
}

func volumeName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// gigabytes are those that a quantity needs; Fly knows no others.
func gigabytes(quantity string) int {
	digits := strings.TrimRight(quantity, "KMGTi")
	var n int
	if _, err := fmt.Sscanf(digits, "%d", &n); err != nil {
		return 1
	}
	switch quantity[len(digits):] {
	case "Ti", "T":
		return n * 1024
	case "Mi", "M":
		return (n + 1023) / 1024
	default:
		return n
	}
}
