package compile_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
)

// TestServicesOnFKS: every way to have the three services there. What connects
// to them comes from where they are made, waits for them, and a change of it
// restarts who reads it and nobody else.
func TestServicesOnFKS(t *testing.T) {
	combinations := 0
	for _, env := range matrix(t) {
		if env.Platform.Kind != forge.PlatformFKS {
			continue
		}
		combinations++
		env.App.Migrate = forge.Migrate{Run: forge.MigrateBeforeDeploy, Args: []string{"migrate"}}
		for _, sets := range []bool{false, true} {
			env.Platform.StatefulSets = sets
			s := env.Services
			s.Redis.Persistence = true
			env.Services = s
			t.Run(fmt.Sprintf("%s/%s/%s/%t", s.Postgres.Mode, s.Redis.Mode, s.Temporal.Mode, sets), func(t *testing.T) {
				resources, err := compile.Environment(env)
				if err != nil {
					t.Fatal(err)
				}
				newWired(t, env, resources).check()
			})
		}
	}
	if combinations < 60 {
		t.Errorf("only %d combinations", combinations)
	}
}

// wired is what an environment compiles to, as one asks how it hangs together.
type wired struct {
	t       *testing.T
	env     forge.Environment
	all     map[string]forge.Resource // by kind/name
	secrets forge.SecretsSpec
}

func newWired(t *testing.T, env forge.Environment, resources []forge.Resource) *wired {
	w := &wired{t: t, env: env, all: map[string]forge.Resource{}}
	for _, r := range resources {
		w.all[r.ID.Kind+"/"+r.ID.Name] = r
		if spec, ok := r.Spec.(forge.SecretsSpec); ok {
			w.secrets = spec
		}
	}
	return w
}

func (w *wired) check() {
	w.t.Helper()
	s := w.env.Services
	temporal := s.Temporal.Mode == forge.ModeInCluster
	app, migrate := "release/app", "job/migrate"
	needs := func(who string, what ...string) {
		w.t.Helper()
		closure := map[string]bool{}
		w.reach(who, closure)
		for _, name := range what {
			if !closure[name] {
				w.t.Errorf("%s does not wait for %s", who, name)
			}
		}
	}
	restarts := func(source string, want ...string) {
		w.t.Helper()
		slices.Sort(want)
		if got := w.restarted(source); !slices.Equal(got, want) {
			w.t.Errorf("a new %s restarts %v, want %v", source, got, want)
		}
	}

	// PostgreSQL.
	var database string
	switch s.Postgres.Mode {
	case forge.ModeFlyManaged:
		database = "fly-postgres/" + s.Postgres.Cluster
		restarts(database+" password", "app")
	case forge.ModeInCluster:
		database = "job/postgres-ready"
		needs(database, "release/postgres")
		restarts("shop-postgres/password", "app", "postgres")
	case forge.ModeExternal:
		database = "check/postgres"
		restarts("URL of postgres", w.both("app", temporal, "temporal")...) // which takes the host from it
	}
	// Redis.
	var cache string
	switch s.Redis.Mode {
	case forge.ModeUpstash:
		cache = "upstash-redis/" + s.Redis.Name
		restarts(cache+" url", "app")
	case forge.ModeInCluster:
		cache = "job/redis-ready"
		needs(cache, "release/redis")
		restarts("shop-redis/password", "app", "redis")
	case forge.ModeExternal:
		cache = "check/redis"
		restarts("shop-env/REDIS_URL", "app")
	}
	// Temporal.
	if temporal {
		needs("job/temporal-schema", database)
		needs("release/temporal", database, "job/temporal-schema")
		needs("job/temporal-namespace", "release/temporal")
		needs(app, "job/temporal-namespace")
		needs(migrate, "job/temporal-namespace")
		switch s.Postgres.Mode {
		case forge.ModeFlyManaged:
			restarts(database+" password/temporal", "temporal")
			restarts(database+" host", "app", "temporal")
		case forge.ModeInCluster:
			restarts("shop-temporal/POSTGRES_PWD", "postgres", "temporal")
		default:
			restarts("shop-temporal/POSTGRES_PWD", "temporal")
		}
	}
	restarts("shop-env/SESSION_SIGNING_SECRET", "app")

	for _, who := range []string{app, migrate} {
		needs(who, "secrets/shop")
		for _, what := range []string{database, cache} {
			if what != "" {
				needs(who, what)
			}
		}
	}
	needs(app, migrate)
	// Nothing is bought for an app that has no place to run in.
	for name, r := range w.all {
		if bought := r.ID.Kind == forge.KindFlyPostgres || r.ID.Kind == forge.KindUpstashRedis; bought &&
			!slices.ContainsFunc(r.After, func(id forge.ID) bool { return id.Kind == forge.KindNamespace }) {
			w.t.Errorf("%s is made before there is a way into the cluster", name)
		}
	}
	w.pods()
	w.disks()
}

func (w *wired) both(one string, more bool, other string) []string {
	if more {
		return []string{one, other}
	}
	return []string{one}
}

// reach collects what a resource waits for, also by others.
func (w *wired) reach(name string, closure map[string]bool) {
	for _, need := range w.all[name].Needs {
		key := need.Kind + "/" + need.Name
		if !closure[key] {
			closure[key] = true
			w.reach(key, closure)
		}
	}
}

// restarted are the releases that a change of one value restarts: their pods
// bear the checksum of a Secret that it goes into.
func (w *wired) restarted(source string) []string {
	objects := map[string]bool{}
	for _, object := range w.secrets.Secrets {
		for _, entry := range object.Entries {
			if object.Name+"/"+entry.Key == source {
				objects[object.Name] = true
			}
			for _, part := range entry.Join {
				from := part.From.Kind + "/" + part.From.Name + " " + part.Output
				if part.Secret+"/"+part.Key == source || from == source || part.Ref != nil && source == "URL of postgres" && strings.HasPrefix(part.Ref.Env, "URL") {
					objects[object.Name] = true
				}
			}
		}
	}
	if len(objects) == 0 {
		w.t.Errorf("%s goes into no Secret", source)
	}
	found := map[string]bool{}
	for _, r := range w.all {
		spec, ok := r.Spec.(forge.ReleaseSpec)
		if !ok {
			continue
		}
		for _, input := range spec.Inputs {
			if name, ok := strings.CutPrefix(input.Output, "checksum/"); ok && objects[name] {
				found[r.ID.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// pods: what runs to its end is a plain pod, and what is rendered or run is
// fitted.
func (w *wired) pods() {
	w.t.Helper()
	for name, r := range w.all {
		switch spec := r.Spec.(type) {
		case forge.JobSpec:
			if !spec.Pod || spec.Rules.Table != forge.TableFKS {
				w.t.Errorf("%s is a Job, or not fitted", name)
			}
		case forge.ReleaseSpec:
			if spec.Rules.Table != forge.TableFKS || spec.Values["temporaryVolumes"] != false {
				w.t.Errorf("%s is not fitted, or has emptyDir volumes: %v", name, spec.Values["temporaryVolumes"])
			}
		}
	}
}

// disks: one claim for each server with data, that no release owns and that
// stays; none where StatefulSets make them, of the same name.
func (w *wired) disks() {
	w.t.Helper()
	for part, mode := range map[string]string{"postgres": w.env.Services.Postgres.Mode, "redis": w.env.Services.Redis.Mode} {
		r, there := w.all["claim/"+part+"-data"]
		want := mode == forge.ModeInCluster && !w.env.Platform.StatefulSets
		if there != want {
			w.t.Errorf("%s: a claim of its own: %t, want %t", part, there, want)
		}
		if mode != forge.ModeInCluster {
			continue
		}
		release := w.all["release/"+part]
		values := release.Spec.(forge.ReleaseSpec).Values
		storage := values["storage"].(map[string]any)
		if storage["access"] != "ReadWriteOncePod" || storage["className"] != "flyio-volume-retain" {
			w.t.Errorf("%s: %v", part, storage)
		}
		if !want {
			if values["workload"] != nil || storage["claim"] != nil {
				w.t.Errorf("%s: a StatefulSet with %v", part, storage)
			}
			continue
		}
		spec := r.Spec.(forge.ClaimSpec)
		if !spec.Retain || spec.Access != "ReadWriteOncePod" || spec.StorageClass != "flyio-volume-retain" || spec.Name != storage["claim"] ||
			spec.Name != "data-shop-"+part+"-0" || spec.Labels["forged.dev/data"] != part || values["workload"] != "Deployment" {
			w.t.Errorf("%s: %+v, %v", part, spec, storage)
		}
		if !slices.Contains(release.Needs, r.ID) {
			w.t.Errorf("%s does not wait for its claim", part)
		}
	}
}
