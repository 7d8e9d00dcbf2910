package schema

import (
	"cmp"
	"maps"
	"slices"

	"forged.dev/forged/internal/forge"
)

// home is the region of the environment's databases, empty when there is none.
func (e *wireEnv) home() string {
	if e.Platform.Region != "" || !e.onFly() {
		return e.Platform.Region
	}
	names := slices.Sorted(maps.Keys(e.Regions))
	for _, name := range names {
		if e.Regions[name].Primary || len(names) == 1 {
			return name
		}
	}
	return ""
}

func (e *wireEnv) postgres(app string) forge.Postgres {
	pg := e.Services.Postgres
	out := forge.Postgres{
		Mode: pg.Mode, Version: pg.Version, Database: pg.Database,
		Storage: pg.Storage, StorageClass: pg.StorageClass, Password: pg.Password.ref(), TLS: pg.TLS,
		Backup:  forge.Backup(pg.Backup),
		Cluster: pg.Cluster, Create: pg.Create, Plan: pg.Plan, Region: pg.Region, StorageGB: pg.StorageGB,
		PoolMode: pg.PoolMode, PostGIS: pg.PostGIS, Extensions: orNil(pg.Extensions), Pooler: pg.Pooler,
		AppName: pg.AppName, Standby: pg.Standby, Guest: forge.Guest(pg.Guest),
		URL: pg.URL.ref(), SSLMode: pg.SSLMode, CABundle: pg.CABundle.ref(), ManageRoles: pg.ManageRoles, Admin: pg.Admin.ref(), Check: pg.Check,
	}
	switch pg.Mode {
	case forge.ModeInCluster:
		out.Password = pg.Password.or(generated())
	case forge.ModeFlyManaged:
		out.Cluster = cmp.Or(pg.Cluster, e.instance(app)+"-db")
		out.Region = cmp.Or(pg.Region, e.home())
	case forge.ModeFlyUnmanaged:
		if pg.Create {
			out.Region = cmp.Or(pg.Region, e.home())
		}
	}
	return out
}

func (e *wireEnv) redis(app string) forge.Redis {
	r := e.Services.Redis
	out := forge.Redis{
		Mode: r.Mode, Version: r.Version, Persistence: r.Persistence, Storage: r.Storage, StorageClass: r.StorageClass,
		StorageGB: r.StorageGB, MaxMemory: r.MaxMemory, Eviction: r.Eviction, Password: r.Password.ref(),
		Name: r.Name, Create: r.Create, Plan: r.Plan, Region: r.Region, ReadRegions: orNil(r.ReadRegions), Evict: r.Evict, ProdPack: r.ProdPack,
		URL: r.URL.ref(), CABundle: r.CABundle.ref(), Check: r.Check,
	}
	switch r.Mode {
	case forge.ModeInCluster, forge.ModeFlyApp:
		out.Password = r.Password.or(generated())
	case forge.ModeUpstash:
		out.Name = cmp.Or(r.Name, e.instance(app)+"-redis")
		out.Region = cmp.Or(r.Region, e.home())
	}
	return out
}

func (e *wireEnv) temporal() forge.Temporal {
	t := e.Services.Temporal
	out := forge.Temporal{
		Mode: t.Mode, Namespace: t.Namespace, Version: t.Version, HistoryShards: t.HistoryShards,
		Retention: duration(t.Retention), Password: t.Password.ref(), Web: t.Web.Enabled, WebPublic: t.Web.Public,
		Address: t.Address, APIKey: t.APIKey.ref(), TLS: t.TLS, CABundle: t.CABundle.ref(), Check: t.Check,
	}
	switch t.Mode {
	case forge.ModeInCluster, forge.ModeFlyApp:
		out.Password = t.Password.or(generated())
	case forge.ModeCloud:
		out.TLS = true
		if t.MTLS != nil {
			out.ClientCert, out.ClientKey = t.MTLS.Cert.ref(), t.MTLS.Key.ref()
		}
	}
	return out
}

func secrets(in map[string]wireSecret) map[string]forge.SecretRef {
	out := make(map[string]forge.SecretRef, len(in))
	for k, s := range in {
		out[k] = s.ref()
	}
	return out
}

// ref is the reference, or none.
func (s *wireSecret) ref() forge.SecretRef {
	if s == nil {
		return forge.SecretRef{}
	}
	r := forge.SecretRef{Env: s.Env, File: s.File, OP: s.OP, Exec: s.Exec}
	if x := s.SOPS; x != nil {
		r.SOPS = &forge.SOPSRef{File: x.File, Key: x.Key}
	}
	if k := s.Kubernetes; k != nil {
		r.Kubernetes = &forge.KubernetesRef{Name: k.Name, Key: k.Key, Namespace: k.Namespace}
	}
	if g := s.Generate; g != nil {
		r.Generate = &forge.Generate{Alphabet: g.Alphabet, Length: g.Length, Rotation: g.Rotation}
	}
	return r
}

// or is the reference, or other when there is none.
func (s *wireSecret) or(other forge.SecretRef) forge.SecretRef {
	if s == nil {
		return other
	}
	return s.ref()
}

// generated is a value of letters and digits only, which need no quoting in a
// URL.
func generated() forge.SecretRef {
	return forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32}}
}
