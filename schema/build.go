package schema

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
)

// forge builds the model. Defaults that need two places of the file, such as
// names made of two others, and the overlay are laid here and nowhere else.
func (w wire) forge(dir string) *forge.Forge {
	f := &forge.Forge{App: w.app.app()}
	for _, e := range w.envs {
		f.Environments = append(f.Environments, e.environment(f.App, dir))
	}
	for _, name := range slices.Sorted(maps.Keys(w.notifications)) {
		n := w.notifications[name]
		f.Notifications = append(f.Notifications, forge.Notification{
			Name: name, Kind: n.Kind, URL: n.URL.ref(), On: n.On, Environments: n.Environments,
		})
	}
	return f
}

func (a *wireApp) app() forge.App {
	return forge.App{
		Name: a.Name,
		Image: forge.Image{
			Repository: a.Image.Repository, Tag: a.Image.Tag, Digest: a.Image.Digest,
			PullPolicy: a.Image.PullPolicy, PullSecret: a.Image.PullSecret.ref(),
		},
		Port: a.Port, Args: a.Args, Env: a.Env, Secrets: secrets(a.Secrets), ConfigFiles: configFiles(a.ConfigFiles),
		Resources: forge.Resources(a.Resources),
		Health: forge.Health{
			Live: a.Health.Live, Ready: a.Health.Ready, Startup: duration(a.Health.Startup),
			Interval: duration(a.Health.Interval), Timeout: duration(a.Health.Timeout), Failures: a.Health.Failures,
		},
		Migrate: forge.Migrate{Run: a.Migrate.Run, Args: a.Migrate.Args, Timeout: duration(a.Migrate.Timeout)},
	}
}

func configFiles(in map[string]wireConfigFile) []forge.ConfigFile {
	var out []forge.ConfigFile
	for _, at := range slices.Sorted(maps.Keys(in)) {
		f := forge.ConfigFile{Path: at, File: in[at].File}
		if in[at].Text != nil {
			f.Text = *in[at].Text
		}
		out = append(out, f)
	}
	return out
}

// overlay is the app as the environment runs it.
func (e *wireEnv) overlay(app forge.App, dir string) forge.App {
	o := e.App
	if o.Image.Tag != "" || o.Image.Digest != "" {
		app.Image.Tag, app.Image.Digest = o.Image.Tag, o.Image.Digest
	}
	if o.Args != nil {
		app.Args = o.Args
	}
	// A name is one variable: whichever way the environment sets it replaces
	// both ways of the shared app.
	app.Env, app.Secrets = maps.Clone(app.Env), maps.Clone(app.Secrets)
	for k := range o.Secrets {
		delete(app.Env, k)
	}
	for k := range o.Env {
		delete(app.Secrets, k)
	}
	maps.Copy(app.Env, o.Env)
	maps.Copy(app.Secrets, secrets(o.Secrets))
	app.ConfigFiles = slices.DeleteFunc(slices.Clone(app.ConfigFiles), func(f forge.ConfigFile) bool {
		_, replaced := o.ConfigFiles[f.Path]
		return replaced
	})
	if len(o.ConfigFiles) > 0 {
		app.ConfigFiles = append(app.ConfigFiles, configFiles(o.ConfigFiles)...)
		slices.SortFunc(app.ConfigFiles, func(a, b forge.ConfigFile) int { return cmp.Compare(a.Path, b.Path) })
	}
	r := &app.Resources
	r.CPU = cmp.Or(o.Resources.CPU, r.CPU)
	r.Memory = cmp.Or(o.Resources.Memory, r.Memory)
	r.CPULimit = cmp.Or(o.Resources.CPULimit, r.CPULimit)
	r.MemoryLimit = cmp.Or(o.Resources.MemoryLimit, r.MemoryLimit)
	app.Needs = orNil(o.Needs)
	if o.Chart != nil {
		c := o.Chart.chart(dir)
		app.Chart = &c
	}
	return app
}

// instance is the name of this environment of the app, in places that are
// shared with others.
func (e *wireEnv) instance(app string) string { return app + "-" + e.name }

func (e *wireEnv) namespace(app string) string {
	if !e.onKubernetes() {
		return ""
	}
	return cmp.Or(e.Platform.Namespace, e.instance(app))
}

func (e *wireEnv) onKubernetes() bool { return forge.Platform{Kind: e.Platform.Kind}.OnKubernetes() }
func (e *wireEnv) onFly() bool        { return e.Platform.Kind == forge.PlatformFly }

// beside is a path that starts at the directory of forge.cue, not where the
// process happens to run.
func beside(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (e *wireEnv) environment(app forge.App, dir string) forge.Environment {
	env := forge.Environment{
		Name:     e.name,
		Platform: e.platform(app.Name, dir),
		App:      e.overlay(app, dir),
		Domains:  e.Domains,
		Expose:   e.expose(app.Name),
		Services: forge.Services{
			Postgres: e.postgres(app.Name),
			Redis:    e.redis(app.Name),
			Temporal: e.temporal(),
		},
		Scaling:       e.scaling(),
		NetworkPolicy: e.NetworkPolicy,
		Policy:        e.Policy.policy(),
	}
	if env.NetworkPolicy == "" {
		env.NetworkPolicy = "none"
	}
	for _, name := range slices.Sorted(maps.Keys(e.Regions)) {
		env.Regions = append(env.Regions, e.Regions[name].region(name, &env, e.Scaling, dir))
	}
	if len(env.Regions) == 1 && e.onFly() {
		env.Regions[0].Primary = true
	}
	for _, name := range slices.Sorted(maps.Keys(e.Workers)) {
		w := e.Workers[name]
		env.Workers = append(env.Workers, forge.Worker{
			Name: name, Args: w.Args, Scaling: w.Scaling.scaling(), Resources: forge.Resources(w.Resources),
			Guest: forge.Guest(w.Guest), Drain: duration(w.Drain), HealthExec: w.Health.Exec,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Volumes)) {
		v := e.Volumes[name]
		if e.Platform.Kind == forge.PlatformFKS {
			v.Access = "ReadWriteOncePod" // there is no other
		}
		env.Volumes = append(env.Volumes, forge.Volume{
			Name: name, Mount: v.Mount, Size: v.Size, StorageClass: v.StorageClass, Access: v.Access, Retain: v.Retain, Region: v.Region,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Charts)) {
		c := e.Charts[name]
		env.Charts = append(env.Charts, forge.NamedChart{Name: name, Chart: c.chart(dir), Needs: orNil(c.Needs)})
	}
	return env
}

func (e *wireEnv) platform(app, dir string) forge.Platform {
	p := e.Platform
	out := forge.Platform{
		Kind: p.Kind, Distribution: p.Distribution,
		Context: p.Context, Kubeconfig: beside(dir, p.Kubeconfig),
		Namespace: e.namespace(app), CreateNamespace: p.CreateNamespace,
		StorageClass: p.StorageClass, Impersonate: p.Impersonate, PodCIDRs: orNil(p.PodCIDRs), LoadImages: p.LoadImages,
		Org: p.Org, Cluster: p.Cluster, Create: p.Create, Region: p.Region, AcceptsBeta: p.AcceptsBeta,
		StatefulSets: p.StatefulSets, Allow: orNil(slices.Compact(slices.Sorted(slices.Values(p.Allow)))),
		AppName: p.AppName, Network: p.Network, Guest: forge.Guest(p.Guest), Deployment: p.Strategy,
		Project: p.Project, DataDir: beside(dir, p.DataDir), Bind: p.Bind,
	}
	if was := p.MovedFrom; was != nil {
		out.MovedFrom = &forge.Former{
			Context: was.Context, Kubeconfig: beside(dir, was.Kubeconfig), Impersonate: was.Impersonate,
			Namespace: cmp.Or(was.Namespace, out.Namespace),
		}
	}
	switch p.Kind {
	case forge.PlatformCompose:
		out.Project = cmp.Or(p.Project, e.instance(app))
	case forge.PlatformFly:
		out.AppName = cmp.Or(p.AppName, e.instance(app))
		out.Token = p.Token.or(forge.SecretRef{Env: tokenVariable})
		out.Inventory = cmp.Or(p.Inventory, inventoryPrefix+out.AppName)
	case forge.PlatformFKS:
		out.Token = p.Token.or(forge.SecretRef{Env: tokenVariable})
		out.Inventory = cmp.Or(p.Inventory, inventoryPrefix+e.instance(app))
	}
	return out
}

// inventoryPrefix is how the names of apps begin that hold an inventory.
const inventoryPrefix = "forged-"

// tokenVariable is where Fly's own tools look for a token.
const tokenVariable = "FLY_API_TOKEN"

func (r wireRegion) region(name string, env *forge.Environment, everywhere wireScaling, dir string) forge.Region {
	out := forge.Region{
		Name: name, Domains: r.Domains, Machines: r.Machines, Primary: r.Primary,
	}
	if r.Context != "" {
		out.Context = r.Context
		out.Kubeconfig = cmp.Or(beside(dir, r.Kubeconfig), env.Platform.Kubeconfig)
		out.Namespace = cmp.Or(r.Namespace, env.Platform.Namespace)
	}
	if r.ARN != "" {
		tls := env.Expose.TLS
		tls.ARN = r.ARN
		out.TLS = &tls
	}
	if r.Scaling.Min != nil || r.Scaling.Max != nil {
		// One by one: without max anywhere it is what min is, of the region too.
		if r.Scaling.Min != nil {
			everywhere.Min = r.Scaling.Min
		}
		if r.Scaling.Max != nil {
			everywhere.Max = r.Scaling.Max
		}
		s := everywhere.scaling()
		if s.Max < s.Min && r.Scaling.Max == nil {
			s.Max = s.Min
		}
		out.Scaling = &s
	}
	return out
}

func (e *wireEnv) expose(app string) forge.Expose {
	x := e.Expose
	out := forge.Expose{
		Kind: x.Kind, Port: x.Port, ClassName: x.ClassName, Annotations: x.Annotations,
		Gateway:    forge.ObjectRef{Name: x.Gateway.Name, Namespace: x.Gateway.Namespace},
		PublicIPv4: x.PublicIPv4, PublicIPv6: x.PublicIPv6, Certificates: certificates(x.Certificates),
		TLS: forge.TLS{
			Mode: x.TLS.Mode, Secret: cmp.Or(x.TLS.SecretName, x.TLS.Name), Valid: duration(x.TLS.Validity),
			ARN: x.TLS.ARN, Certificate: x.TLS.Certificate, StaticIP: x.TLS.StaticIP,
			Issuer: forge.Issuer{Kind: x.TLS.Issuer.Kind, Name: x.TLS.Issuer.Name},
		},
		Edge: forge.Edge{
			Concurrency: x.Concurrency.Kind, SoftLimit: x.Concurrency.Soft, HardLimit: x.Concurrency.Hard,
			ALPN: orNil(x.TLS.ALPN), TLSVersions: orNil(x.TLS.Versions), SelfSigned: x.TLS.SelfSigned,
		},
	}
	if c := x.TLS.Issuer.Create; c != nil {
		out.TLS.Issuer.Create, out.TLS.Issuer.Email, out.TLS.Issuer.Server = true, c.Email, c.Server
	}
	switch x.Kind {
	case forge.ExposeGateway:
		out.Gateway.Kind = "Gateway"
	case forge.ExposeFly:
		out.TLS.Mode = forge.TLSFly
	}
	switch out.TLS.Mode {
	case forge.TLSSelfSigned, forge.TLSCertManager:
		out.TLS.Secret = cmp.Or(out.TLS.Secret, app+"-tls")
	case forge.TLSGKEManaged:
		out.TLS.Certificate = cmp.Or(out.TLS.Certificate, e.instance(app))
	}
	if x.RedirectHTTP != nil {
		out.RedirectHTTP = *x.RedirectHTTP
	} else if x.Kind == forge.ExposeIngress {
		out.RedirectHTTP = out.TLS.Mode != forge.TLSNone
	}
	return out
}

func certificates(in map[string]wireCertificate) []forge.OwnCertificate {
	var all []forge.OwnCertificate
	for _, domain := range slices.Sorted(maps.Keys(in)) {
		all = append(all, forge.OwnCertificate{Domain: domain, Chain: in[domain].Chain.ref(), Key: in[domain].Key.ref()})
	}
	return all
}

func (c wireChart) chart(dir string) forge.Chart {
	return forge.Chart{
		Kind: c.Kind, Path: beside(dir, c.Path), URL: c.URL, Name: c.Name, Version: c.Version, Digest: c.Digest,
		Username: c.Username.ref(), Password: c.Password.ref(), Values: c.Values,
	}
}

func (e *wireEnv) scaling() forge.Scaling {
	switch e.Platform.Kind {
	case forge.PlatformFly:
		// How many there are is the regions' business.
		return forge.Scaling{Idle: e.Scaling.Idle, MinRunning: e.Scaling.MinRunning}
	case forge.PlatformCompose:
		return forge.Scaling{Min: 1, Max: 1} // one container owns the published port
	}
	return e.Scaling.scaling()
}

func (s wireScaling) min() int {
	if s.Min == nil {
		return 1
	}
	return *s.Min
}

func (s wireScaling) max() int {
	if s.Max == nil {
		return s.min()
	}
	return *s.Max
}

func (s wireScaling) scaling() forge.Scaling {
	return forge.Scaling{
		Min: s.min(), Max: s.max(), CPUTarget: s.CPUTarget, MemoryTarget: s.MemoryTarget,
		ScaleDownWindow: duration(s.ScaleDownWindow),
	}
}

func (p wirePolicy) policy() forge.Policy {
	out := forge.Policy{
		Mode: forge.Mode(p.Mode), Interval: duration(p.Interval), Timeout: duration(p.Timeout),
		Prune: p.Prune == "owned", MaxDelete: p.MaxDelete, Pin: p.Pin,
		DestroyData: p.DestroyData, Recreate: p.Recreate, Rollback: p.Rollback, Adopt: p.Adopt,
	}
	for _, w := range p.Windows {
		out.Windows = append(out.Windows, w.window())
	}
	for _, r := range p.Ignore {
		out.Ignore = append(out.Ignore, forge.FieldRule(r))
	}
	for _, r := range p.Strict {
		out.Strict = append(out.Strict, forge.FieldRule(r))
	}
	return out
}

// weekdays are the words of the language, in the order of [time.Weekday].
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (w wireWindow) window() forge.Window {
	out := forge.Window{From: clock(w.From), To: clock(w.To), Zone: w.Timezone}
	for _, d := range w.Days {
		out.Days = append(out.Days, time.Weekday(slices.Index(weekdays, d)))
	}
	return out
}

// duration reads what the schema has let through, or nothing.
func duration(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		panic("duration " + s + ": " + err.Error())
	}
	return d
}

// clock reads a time of day that the schema has let through.
func clock(s string) time.Duration {
	t, err := time.Parse("15:04", s)
	if err != nil {
		panic("clock " + s + ": " + err.Error())
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// orNil is a list, or nil when it is empty: what is not written and what is
// written empty are the same thing.
func orNil(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}
