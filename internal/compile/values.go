package compile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// Values are JSON-shaped, complete and without null: every key that a chart
// knows is written, so that a chart's own default never decides anything.

// How a worker's command is asked. It often starts an interpreter, so it is
// asked less often than a port.
const (
	workerProbeInterval = 30 * time.Second
	workerProbeTimeout  = 10 * time.Second
	workerProbeFailures = 3
)

// What happens around the end of one of the app's replicas.
const (
	appPreStop = 5 * time.Second  // it still serves, until endpoints are updated everywhere
	appGrace   = 30 * time.Second // then it may finish what it has begun
)

// containerUser is the user and group of the app's containers. They never
// start as root, and images that name their user by a word need the number.
const containerUser = 1001

func (b builder) appValues() map[string]any {
	app := b.env.App
	workers := map[string]any{}
	for _, worker := range b.env.Workers {
		workers[worker.Name] = map[string]any{
			"args":         texts(worker.Args),
			"scaling":      scalingValues(worker.Scaling),
			"resources":    resourcesValues(worker.Resources),
			"drainSeconds": seconds(worker.Drain),
			"health": map[string]any{
				"exec":            texts(worker.HealthExec),
				"startupSeconds":  atLeastOne(seconds(app.Health.Startup)),
				"intervalSeconds": seconds(workerProbeInterval),
				"timeoutSeconds":  seconds(workerProbeTimeout),
				"failures":        int64(workerProbeFailures),
			},
		}
	}
	values := map[string]any{
		"partOf":      app.Name,
		"environment": b.env.Name,
		"image":       imageValues(app.Image.Reference(), app.Image.PullPolicy),
		"user":        map[string]any{"uid": int64(containerUser), "gid": int64(containerUser)},
		// Entrypoints of Python images write below their own directory.
		"readOnlyRootFilesystem": false,
		"port":                   int64(app.Port),
		"args":                   texts(app.Args),
		"env":                    textMap(b.clusterSurroundings().env),
		"secretNames":            texts(b.appSecretNames()),
		"secretChecksums":        map[string]any{},
		"resources":              resourcesValues(app.Resources),
		"health": map[string]any{
			"live":            app.Health.Live,
			"ready":           app.Health.Ready,
			"startupSeconds":  atLeastOne(seconds(app.Health.Startup)),
			"intervalSeconds": atLeastOne(seconds(app.Health.Interval)),
			"timeoutSeconds":  atLeastOne(seconds(app.Health.Timeout)),
			"failures":        int64(app.Health.Failures),
		},
		"preStopSeconds": seconds(b.preStop()),
		"graceSeconds":   seconds(appGrace),
		"scaling":        scalingValues(b.at.scaling),
		"service":        b.serviceValues(),
		"ingress":        b.ingressValues(),
		"networkPolicy":  b.appNetworkValues(),
		"workers":        workers,
	}
	b.addOptional(values)
	return values
}

// addOptional writes keys only where they mean something. Values of a release
// that runs must not change because forged has learned something new.
func (b builder) addOptional(values map[string]any) {
	app := b.env.App
	if !app.Image.PullSecret.IsZero() {
		values["imagePullSecret"] = b.pullSecretName()
	}
	if files := b.mountedFiles(b.clusterSurroundings()); len(files) > 0 {
		values["files"] = fileValues(files)
	}
	if len(app.ConfigFiles) > 0 {
		values["configChecksum"] = ""
	}
	var volumes []any
	for _, volume := range b.env.Volumes {
		volumes = append(volumes, map[string]any{"claim": app.Name + "-" + volume.Name, "mount": volume.Mount, "access": volume.Access})
	}
	if volumes != nil {
		values["volumes"] = volumes
	}
	b.volumeValues(values)
	if b.env.Expose.Kind == forge.ExposeGateway {
		values["route"] = b.routeValues()
	}
}

// preStop is none where nobody would wait for it.
func (b builder) preStop() time.Duration {
	if b.onFKS() {
		return 0
	}
	return appPreStop
}

func (b builder) appNetworkValues() map[string]any {
	values := b.networkValues()
	if b.strictNetwork() {
		values["egress"] = b.egress(chartPostgres, chartRedis, chartTemporal)
	}
	return values
}

func (b builder) postgresValues() (map[string]any, error) {
	postgres := b.env.Services.Postgres
	image, err := imageFor(postgresImages, postgres.Version)
	if err != nil {
		return nil, fmt.Errorf("environment %q: services.postgres.version %w", b.env.Name, err)
	}
	values := map[string]any{
		"partOf":          b.env.App.Name,
		"environment":     b.env.Name,
		"image":           imageValues(image, "IfNotPresent"),
		"user":            databaseUser,
		"database":        postgres.Database,
		"schema":          databaseSchema,
		"secretName":      b.postgresName(),
		"secretChecksums": map[string]any{},
		"storage":         b.storageValues(b.postgresName(), postgres.Storage, postgres.StorageClass),
		"sharedMemory":    "256Mi",
		"resources":       resourcesValues(b.sizes.postgres),
		"networkPolicy":   b.clientsValues(partPostgres),
	}
	if postgres.TLS {
		values["tlsSecret"] = b.postgresTLSSecretName()
	}
	if b.dumps() {
		values["backup"] = map[string]any{
			"schedule": postgres.Backup.Schedule, "keepDays": int64(postgres.Backup.KeepDays), "claim": b.backupClaimName(),
		}
	}
	if ranges := b.env.Platform.PodCIDRs; len(ranges) > 0 {
		values["podCIDRs"] = texts(ranges)
	}
	if b.hasTemporal() {
		values["roles"] = []any{map[string]any{
			"name": temporalUser, "secretName": b.temporalName(), "key": envTemporalDatabasePassword, "databases": texts(temporalDatabases()),
		}}
	}
	b.workloadValues(values)
	return values, nil
}

func (b builder) redisValues() (map[string]any, error) {
	redis := b.env.Services.Redis
	image, err := imageFor(redisImages, redis.Version)
	if err != nil {
		return nil, fmt.Errorf("environment %q: services.redis.version %w", b.env.Name, err)
	}
	resources := b.sizes.redis
	if resources.MemoryLimit, err = redisMemoryLimit(redis.MaxMemory); err != nil {
		return nil, fmt.Errorf("environment %q: services.redis.maxMemory %w", b.env.Name, err)
	}
	if b.onFKS() {
		resources.MemoryLimit = fmt.Sprintf("%dMi", redisMemoryMB(redis.MaxMemory))
	}
	storage := b.storageValues(b.redisName(), redis.Storage, redis.StorageClass)
	if !redis.Persistence {
		delete(storage, "claim")
		if redis.Storage == "" {
			storage["size"] = "1Gi" // nobody reads it, but the chart's values are complete
		}
	}
	values := map[string]any{
		"partOf":          b.env.App.Name,
		"environment":     b.env.Name,
		"image":           imageValues(image, "IfNotPresent"),
		"secretName":      b.redisName(),
		"secretChecksums": map[string]any{},
		"persistence":     redis.Persistence,
		"storage":         storage,
		"maxMemory":       redis.MaxMemory,
		"eviction":        redis.Eviction,
		"resources":       resourcesValues(resources),
		"networkPolicy":   b.clientsValues(partRedis),
	}
	b.workloadValues(values)
	return values, nil
}

func imageValues(reference, pullPolicy string) map[string]any {
	return map[string]any{"reference": reference, "pullPolicy": pullPolicy}
}

func resourcesValues(r forge.Resources) map[string]any {
	return map[string]any{"cpu": r.CPU, "memory": r.Memory, "cpuLimit": r.CPULimit, "memoryLimit": r.MemoryLimit}
}

func fileValues(files []forge.MountedFile) []any {
	values := make([]any, 0, len(files))
	for _, file := range files {
		values = append(values, map[string]any{"path": file.Path, "secret": file.Secret, "config": file.Config, "key": file.Key})
	}
	return values
}

func scalingValues(s forge.Scaling) map[string]any {
	return map[string]any{
		"min":              int64(s.Min),
		"max":              int64(max(s.Min, s.Max)),
		"cpuTarget":        int64(s.CPUTarget),
		"memoryTarget":     int64(s.MemoryTarget),
		"scaleDownSeconds": seconds(s.ScaleDownWindow),
	}
}

// seconds rounds up: a shorter time than asked for could be too short.
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

func atLeastOne(n int64) int64 { return max(n, 1) }

func texts(list []string) []any {
	values := make([]any, 0, len(list))
	for _, text := range list {
		values = append(values, text)
	}
	return values
}

func textMap(m map[string]string) map[string]any {
	values := make(map[string]any, len(m))
	for key, text := range m {
		values[key] = text
	}
	return values
}

// redisUnits are Redis's own: k is a thousand, kb is 1024.
var redisUnits = []struct {
	suffix string
	bytes  int64
}{
	{"kb", 1 << 10},
	{"mb", 1 << 20},
	{"gb", 1 << 30},
	{"k", 1e3},
	{"m", 1e6},
	{"g", 1e9},
	{"", 1},
}

// redisMemoryLimit is the container's memory limit for a Redis that may hold
// maxMemory: twice that, since rewriting the append-only file copies what is
// written meanwhile, and 64 MiB for the server itself.
func redisMemoryLimit(maxMemory string) (string, error) {
	const mebibyte = 1 << 20
	for _, unit := range redisUnits {
		digits, ok := strings.CutSuffix(strings.ToLower(maxMemory), unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 1 || n > math.MaxInt64/4/unit.bytes {
			break
		}
		return fmt.Sprintf("%dMi", (2*n*unit.bytes+mebibyte-1)/mebibyte+64), nil
	}
	return "", fmt.Errorf("%q is not a Redis memory size above zero, such as \"512mb\"", maxMemory)
}
