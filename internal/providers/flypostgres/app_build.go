package flypostgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// What an app of postgres-flex is made of; from flyctl's source.
const (
	appRole    = "postgres_cluster"
	image      = "flyio/postgres-flex:"
	volumeName = "pg_data"
	volumePath = "/data"

	secretConsul = "FLY_CONSUL_URL"
)

// passwords are the secrets without which the image does not start.
func passwords() []string { return []string{"SU_PASSWORD", "OPERATOR_PASSWORD", "REPL_PASSWORD"} }

// member is one of the machines that an app is to have, with its disk.
type member struct {
	number  string // from "1"
	volume  *api.Volume
	lost    string // id of a volume that is not there any more
	machine *api.Machine
}

func (m member) name() string { return "postgres-" + m.number }

// members are all that there are to be. A volume that no entry knows was made
// by an action that was cut: it is that of the first that has none.
func (s *flex) members() []member {
	p := s.parts
	known := map[string]bool{}
	for _, e := range s.Record.Entries {
		if e.Kind == entryVolume {
			known[e.Identity] = true
		}
	}
	var stray []*api.Volume
	for i := range p.volumes {
		if !known[p.volumes[i].ID] {
			stray = append(stray, &p.volumes[i])
		}
	}
	var all []member
	for n := range max(s.spec.Machines, 1) {
		m := member{number: strconv.Itoa(n + 1)}
		e := entryOf(s.Record, entryVolume, m.number)
		switch i := slices.IndexFunc(p.volumes, func(v api.Volume) bool { return e != nil && v.ID == e.Identity }); {
		case i >= 0:
			m.volume = &p.volumes[i]
		case e != nil && e.Identity != "":
			m.lost = e.Identity
		case e != nil && len(stray) > 0:
			m.volume, stray = stray[0], stray[1:]
		}
		for j := range p.machines {
			if m.volume != nil && mounts(p.machines[j], m.volume.ID) {
				m.machine = &p.machines[j]
			}
		}
		all = append(all, m)
	}
	return all
}

func mounts(m api.Machine, volume string) bool {
	config := m.Config
	if config == nil {
		config = m.Incomplete
	}
	return config != nil && slices.ContainsFunc(config.Mounts, func(m api.Mount) bool { return m.Volume == volume })
}

// lacks are the secrets that the app does not have.
func (s *flex) lacks() []string {
	return slices.DeleteFunc(append(passwords(), secretConsul), func(name string) bool { return slices.Contains(s.parts.secrets, name) })
}

// whole tells whether the app has everything that it is made of.
func (s *flex) whole() bool {
	return len(s.lacks()) == 0 && s.parts.flycast &&
		!slices.ContainsFunc(s.members(), func(m member) bool { return m.volume == nil || m.machine == nil })
}

// building plans for what an app that forged made is made of.
func (s *flex) building() []reconcile.Step {
	if s.place != known {
		return nil
	}
	var steps []reconcile.Step
	add := func(t task, text string) *reconcile.Step {
		action, code := reconcile.ActionCreate, reconcile.ReasonAbsent
		if madeIn(s.Record, t.kind, t.name) {
			action, code = reconcile.ActionHeal, reconcile.ReasonDeleted
		}
		steps = append(steps, s.step(action, code, t, text))
		return &steps[len(steps)-1]
	}
	if lacks := s.lacks(); len(lacks) > 0 {
		step := add(task{entrySecrets, s.spec.App, doMake}, "sets "+strings.Join(lacks, ", "))
		if len(s.parts.machines) > 0 {
			step.Blocked = fmt.Sprintf("app %s has lost its secrets %s, and its database was made with them; set them to what its machines still know (\"fly ssh console -C env\")", s.spec.App, strings.Join(lacks, ", "))
		}
	}
	if !s.parts.flycast {
		add(task{entryAddress, s.spec.App, doMake}, "assigns an address in the private network")
	}
	for i, m := range s.members() {
		if i > 0 && s.parts.survey == nil {
			break // what stands by is made of what leads
		}
		switch {
		case m.lost != "" && s.parts.survey == nil:
			step := add(task{entryVolume, m.number, doMake}, "")
			step.Blocked = fmt.Sprintf("volume %s of app %s was deleted with its data, and no machine leads; restore a snapshot of it (\"fly volumes snapshots list %s\")", m.lost, s.spec.App, m.lost)
			return steps
		case m.volume == nil && m.lost != "":
			add(task{entryVolume, m.number, doMake}, "makes a volume in the place of "+m.lost+"; what leads is copied to it")
		case m.volume == nil:
			add(task{entryVolume, m.number, doMake}, fmt.Sprintf("makes a volume of %d GB in %s", s.spec.StorageGB, s.spec.Region))
		case len(s.lacks()) > 0 || !s.parts.flycast:
		case m.machine == nil:
			add(task{entryMachine, m.name(), doMake}, "makes a machine on volume "+m.volume.ID)
		case m.machine.State == api.StateStopped || m.machine.State == api.StateSuspended:
			t := task{entryMachine, m.name(), doChange}
			step := s.step(reconcile.ActionHeal, reconcile.ReasonEdited, t, "starts machine "+m.machine.ID)
			step.Reason.Paths = []string{"state"}
			steps = append(steps, step)
		}
	}
	return steps
}

// config is that of a machine.
func (s *flex) config(volume string) api.MachineConfig {
	port := func(n int) api.Service {
		return api.Service{
			Protocol: "tcp", InternalPort: n, Autostart: new(bool),
			Ports:       []api.Port{{Port: &n, Handlers: []string{"pg_tls"}}},
			Concurrency: &api.Concurrency{Type: "connections", SoftLimit: 1000, HardLimit: 1000},
		}
	}
	check := func(path string, interval, grace time.Duration) api.Check {
		at, every, wait, timeout := 5500, api.Duration(interval), api.Duration(grace), api.Duration(10*time.Second)
		return api.Check{Type: "http", Port: &at, Path: "/flycheck/" + path, Interval: &every, GracePeriod: &wait, Timeout: &timeout}
	}
	guest := s.spec.Guest
	return api.MachineConfig{
		Image: image + s.spec.Version,
		Env:   map[string]string{"PRIMARY_REGION": s.spec.Region},
		Guest: &api.Guest{CPUKind: guest.CPUKind, CPUs: guest.CPUs, MemoryMB: guest.MemoryMB},
		Metadata: map[string]string{
			"fly_platform_version": "v2", "fly-managed-postgres": "true", "managed-by-fly-deploy": "true",
			fly.MarkInstance: s.Org.Instance(), fly.MarkEnvironment: s.ID().Environment,
		},
		Mounts:   []api.Mount{{Volume: volume, Path: volumePath}},
		Services: []api.Service{port(5432), port(5433)},
		Checks: map[string]api.Check{
			checkPostgres: check(checkPostgres, 15*time.Second, 30*time.Second),
			checkRole:     check(checkRole, 15*time.Second, 30*time.Second),
			checkVM:       check(checkVM, time.Minute, time.Second),
		},
		Metrics: &api.Metrics{Port: 9187, Path: "/metrics"},
		Restart: &api.Restart{Policy: "always"},
	}
}
