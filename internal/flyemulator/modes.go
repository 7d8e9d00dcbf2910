package flyemulator

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Modes are the ways in which Fly may answer, where its documents leave it
// open, contradict each other, or where things can go wrong. The first of the
// list is what is done without being told.
const (
	ModeWaitTimeout      = "wait-timeout"       // status of a wait whose time is over
	ModeFirstMount       = "first-mount"        // an update that gives a machine its first volume
	ModeUpdateStopped    = "update-stopped"     // an update, without skip_launch, of a machine that does not run
	ModeUpdateReplacing  = "update-replacing"   // an update while the one before is not done
	ModeVolumeCreated    = "volume-created"     // status of a created volume
	ModeSnapshotCreated  = "snapshot-created"   // status of a created snapshot
	ModeAlreadyThere     = "already-there"      // status of a second certificate or address of which there is one only
	ModeVolumeClaimed    = "volume-claimed"     // by whom: the machine, or 14 NUL bytes
	ModeCertificate      = "certificate-status" // words of the top-level status
	ModeCertificateAgain = "certificate-again"  // a second upload for a host name
	ModeIssuance         = "issuance"           // of certificates by Let's Encrypt
	ModeDedicatedIPv4    = "dedicated-ipv4"     // whether an organization may have more
	ModeAddOn            = "addon"              // how a new add-on ends
	ModePostgresCreate   = "postgres-create"    // how a new cluster of Managed Postgres ends
	ModePostgresGone     = "postgres-gone"      // what is answered about a deleted cluster
	ModePostgresPassword = "postgres-password"  //nolint:gosec // whether credentials come with "ready", or later
)

// modes are the values of each, the default first.
func modes() map[string][]string {
	return map[string][]string{
		ModeWaitTimeout:      {"408", "412"},
		ModeFirstMount:       {"refused", "accepted"},
		ModeUpdateStopped:    {"stays", "starts"},
		ModeUpdateReplacing:  {"refused", "accepted"},
		ModeVolumeCreated:    {"201", "200"},
		ModeSnapshotCreated:  {"200", "201"},
		ModeAlreadyThere:     {"422", "409"},
		ModeVolumeClaimed:    {"id", "nul"},
		ModeCertificate:      {"console", "documented"},
		ModeCertificateAgain: {"refused", "replaced"},
		ModeIssuance:         {"works", "limited", "never"},
		ModeDedicatedIPv4:    {"allowed", "exhausted"},
		ModeAddOn:            {"ready", "error", "stuck"},
		ModePostgresCreate:   {"ready", "failed", "error", "stuck"},
		ModePostgresGone:     {"gone", "missing", "shown"},
		ModePostgresPassword: {"ready", "late"},
	}
}

// SetMode changes how Fly answers from now on. It panics when there is no such
// mode or no such value.
func (e *Emulator) SetMode(name, value string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.setMode(name, value); err != nil {
		panic(err)
	}
}

func (e *Emulator) setMode(name, value string) error {
	values, ok := modes()[name]
	if !ok {
		return fmt.Errorf("flyemulator: no mode %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(modes())), ", "))
	}
	if !slices.Contains(values, value) {
		return fmt.Errorf("flyemulator: mode %q is one of %s, not %q", name, strings.Join(values, ", "), value)
	}
	if e.state.Modes == nil {
		e.state.Modes = map[string]string{}
	}
	e.state.Modes[name] = value
	return nil
}

// mode is the value of one.
func (e *Emulator) mode(name string) string {
	if v, ok := e.state.Modes[name]; ok {
		return v
	}
	return modes()[name][0]
}

func (e *Emulator) modeRoutes() []route {
	all := func(c *call) reply {
		out := map[string]string{}
		for name := range modes() {
			out[name] = c.e.mode(name)
		}
		return c.ok(out)
	}
	return []route{
		{method: http.MethodGet, pattern: "/_emulator/modes", scope: scopeControl, handler: all},
		{method: http.MethodPost, pattern: "/_emulator/modes", scope: scopeControl, handler: func(c *call) reply {
			var set map[string]string
			if f := c.decode(&set); f != nil {
				return c.failed(f)
			}
			for _, name := range slices.Sorted(maps.Keys(set)) {
				if err := c.e.setMode(name, set[name]); err != nil {
					return c.fail(http.StatusBadRequest, "%v", err)
				}
			}
			return all(c)
		}},
	}
}

// invalid refuses what is wrong in itself.
func invalid(format string, args ...any) *failure {
	return refuse(http.StatusUnprocessableEntity, "Validation failed: "+format, args...)
}

// already refuses what is there already.
func (e *Emulator) already(text string) *failure {
	f := invalid("%s", text)
	if e.mode(ModeAlreadyThere) == "409" {
		f.status = http.StatusConflict
	}
	return f
}

func missing(format string, args ...any) *failure {
	return refuse(http.StatusNotFound, format, args...)
}

// given is what a request says, or else what is usual.
func given[T any](v *T, usual T) T {
	if v == nil {
		return usual
	}
	return *v
}
