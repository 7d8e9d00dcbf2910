package compile

import (
	"fmt"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
)

// Guests of the services that forged runs on Fly.
var (
	redisGuest    = forge.Guest{CPUKind: "shared", CPUs: 1}
	temporalGuest = forge.Guest{CPUKind: "shared", CPUs: 1, MemoryMB: 1024}
	toolsGuest    = forge.Guest{CPUKind: "shared", CPUs: 1, MemoryMB: 512}
)

// How a service that runs alone is asked and ended.
const (
	serviceGrace    = time.Minute
	serviceInterval = 15 * time.Second
	serviceTimeout  = 5 * time.Second
	redisDrain      = 30 * time.Second
)

// redisScript starts the server as the image does. Its settings come through a
// pipe, so that the password stands neither in the arguments, which ps shows,
// nor in a file or the configuration of a machine.
const redisScript = `
password=$(printf '%s' "$REDIS_PASSWORD" | sed 's/["\\]/\\&/g')
exec docker-entrypoint.sh redis-server - <<END
bind * -::*
dir /data
save ""
appendonly $1
maxmemory $2
maxmemory-policy $3
requirepass "$password"
END
`

func redisCommand(redis forge.Redis, persistence bool) (entrypoint, args []string) {
	appendOnly := "no"
	if persistence {
		appendOnly = "yes"
	}
	return shell(redisScript, appendOnly, redis.MaxMemory, redis.Eviction)
}

// redis is a machine with a disk, of an app of its own. It is never stopped:
// nobody wakes what is reached by its name alone.
func (f *flyBuilder) redis() {
	redis := f.env.Services.Redis
	if redis.Mode != forge.ModeFlyApp {
		return
	}
	guest := redisGuest
	guest.MemoryMB = redisMemoryMB(redis.MaxMemory)
	entrypoint, args := redisCommand(redis, true)
	one := forge.Region{Name: f.home(), Machines: 1}
	disk := f.volume(f.redisApp(), partRedis, "redis_data", one, redis.StorageGB, guest)
	f.add(partRedis, f.resource(forge.KindFlyMachines, partRedis+"@"+f.home(), forge.FlyMachinesSpec{
		Process: forge.Process{Image: redisImages[redis.Version], Entrypoint: entrypoint, Args: args},
		Account: f.account(), App: f.redisApp(), Group: partRedis, Region: f.home(), Count: 1, Guest: guest,
		Check:  serviceCheck(portRedis),
		Volume: "redis_data", Mount: "/data", Strategy: "rolling", Drain: redisDrain, Restart: "always",
		Secrets: f.version(f.redisApp()),
	}, f.id(forge.KindFlyApp, f.redisApp()), f.secretsID, disk))
}

// redisMemoryMB is a machine's memory for a Redis that may hold maxMemory, in
// the steps that Fly has. What it may hold has been checked.
func redisMemoryMB(maxMemory string) int {
	const step = 256
	var mebibytes int
	limit, err := redisMemoryLimit(maxMemory)
	if err == nil {
		_, err = fmt.Sscanf(limit, "%dMi", &mebibytes)
	}
	if err != nil {
		return step
	}
	return (mebibytes + step - 1) / step * step
}

func serviceCheck(port int) *forge.FlyCheck {
	return &forge.FlyCheck{Type: "tcp", Port: port, Grace: serviceGrace, Interval: serviceInterval, Timeout: serviceTimeout}
}

// temporal adds schema, server and namespace, one after the other, and the
// page if it is wanted.
func (f *flyBuilder) temporal() error {
	if !f.hasTemporal() {
		return nil
	}
	temporal := f.env.Services.Temporal
	server, tools, err := f.temporalImages()
	if err != nil {
		return err
	}
	app := f.id(forge.KindFlyApp, f.temporalApp())
	files := []forge.FlyFile{}
	if !f.env.Services.Postgres.CABundle.IsZero() {
		files = append(files, forge.FlyFile{Path: filePostgresCA, Secret: fileSecret("postgres-ca.crt")})
	}
	job := func(name string, env map[string]string, script string, args []string, needs ...forge.ID) forge.ID {
		entrypoint, arguments := shell(script, args...)
		return f.add("", f.resource(forge.KindFlyJob, "temporal-"+name, forge.FlyJobSpec{
			Process: forge.Process{Image: tools, Entrypoint: entrypoint, Args: arguments, Env: env},
			Account: f.account(), App: f.temporalApp(), Name: name, Region: f.home(), Guest: toolsGuest,
			Files: files, Timeout: temporalJobTimeout, Secrets: f.version(f.temporalApp()),
		}, needs...))
	}
	schema := job(componentSchema, f.temporalEnv(), temporalSchemaScript, nil,
		slices.Concat([]forge.ID{app, f.secretsID}, f.ready[partPostgres])...)
	running := f.add("", f.resource(forge.KindFlyMachines, partTemporal+"@"+f.home(), forge.FlyMachinesSpec{
		Process: forge.Process{Image: server, Env: f.temporalEnv()},
		Account: f.account(), App: f.temporalApp(), Group: partTemporal, Region: f.home(), Count: 1, Guest: temporalGuest,
		Check: serviceCheck(portTemporal), Files: files,
		Strategy: "rolling", Drain: temporalDrain, Restart: "always", Secrets: f.version(f.temporalApp()),
	}, app, f.secretsID, schema))
	at := address(f.temporalApp()+".internal", portTemporal)
	f.ready[partTemporal] = []forge.ID{job(componentNamespace, map[string]string{"TEMPORAL_ADDRESS": at}, temporalNamespaceScript,
		[]string{temporal.Namespace, retention(temporal.Retention)}, app, f.secretsID, running)}
	if temporal.Web {
		f.temporalWeb(at, running)
	}
	return nil
}

// temporalWeb is Temporal's page. It asks for no login, so the proxy is not
// told of it unless somebody has asked for that.
func (f *flyBuilder) temporalWeb(server string, needs forge.ID) {
	const port = 8080
	app := f.id(forge.KindFlyApp, f.temporalWebApp())
	spec := forge.FlyMachinesSpec{
		Process: forge.Process{Image: temporalWebImage, Env: map[string]string{"TEMPORAL_ADDRESS": server}},
		Account: f.account(), App: f.temporalWebApp(), Group: partTemporal + "-web", Region: f.home(), Count: 1, Guest: toolsGuest,
		Check: serviceCheck(port), Strategy: "rolling", Drain: temporalDrain, Restart: "always",
	}
	if f.env.Services.Temporal.WebPublic {
		spec.Service = &forge.FlyService{Port: port, ForceHTTPS: true, PublicOnPort: []int{servicePort, servicePortTLS}, Idle: "keep"}
		f.add("", f.resource(forge.KindFlyIPs, f.temporalWebApp(), forge.FlyIPsSpec{
			Account: f.account(), App: f.temporalWebApp(), V4: "shared", V6: true,
		}, app))
	}
	f.add("", f.resource(forge.KindFlyMachines, partTemporal+"-web@"+f.home(), spec, app, needs))
}
