package flyemulator

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxWait is the longest that the service waits; asked for more, it refuses.
const maxWait = 60

// young is how long wait does not know a new machine.
const young = 200 * time.Millisecond

// settled is any state that stays.
const settled = "settled"

func (e *Emulator) waitMachine(c *call) reply {
	want, f := wantedStates(c)
	if f != nil {
		return c.failed(f)
	}
	seconds := maxWait
	if s := c.query("timeout"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxWait {
			return c.fail(http.StatusBadRequest, "invalid_argument: timeout must be between 1 and %d seconds", maxWait)
		}
		seconds = n
	}
	instance := c.query("version")
	if instance == "" {
		instance = c.query("instance_id")
	}
	if instance == "" && slices.Contains(want, stopped) {
		return c.fail(http.StatusBadRequest, "invalid_argument: instance_id is required to wait for stopped")
	}
	app, id := c.app.Name, c.values["id"]
	var m *machine
	look := func() {
		m = nil
		if a := e.state.Apps[app]; a != nil {
			m = a.Machines[id]
		}
	}
	if look(); m == nil || e.now().Sub(m.Created) < young && !c.all {
		return c.fail(http.StatusNotFound, "machine not found")
	}
	if instance != "" && !slices.ContainsFunc(m.Versions, func(v version) bool { return v.Instance == instance }) {
		return c.fail(http.StatusNotFound, "machine version %s not found", instance)
	}
	over := func() bool { return instance != "" && m.Instance != instance } // another version has taken its place
	reached := e.await(c, e.now().Add(time.Duration(seconds)*time.Second), func() bool {
		look()
		return m == nil || over() || slices.Contains(want, m.State) || slices.Contains(want, settled) && m.rests(e)
	})
	var is string
	switch {
	case m == nil:
		return c.fail(http.StatusNotFound, "machine not found")
	case over():
		is = "replaced"
	case reached:
		last := ""
		if len(m.Events) > 0 {
			last = m.Events[0].ID
		}
		return c.ok(map[string]any{"ok": true, "state": m.State, "version": m.Instance, "event_id": last})
	default:
		is = m.State
	}
	status := http.StatusRequestTimeout
	if e.mode(ModeWaitTimeout) == "412" {
		status = http.StatusPreconditionFailed
	}
	return c.fail(status, "deadline_exceeded: machine failed to reach desired state, %s, currently %s", strings.Join(want, ","), is)
}

// wantedStates reads state=a,b and state=a&state=b.
func wantedStates(c *call) ([]string, *failure) {
	var want []string
	for _, s := range c.r.URL.Query()["state"] {
		for one := range strings.SplitSeq(s, ",") {
			if one = strings.TrimSpace(one); one == "" {
				continue
			}
			if !slices.Contains([]string{started, stopped, suspended, destroyed, failed, settled}, one) {
				return nil, refuse(http.StatusBadRequest, "invalid_argument: cannot wait for state %q", one)
			}
			want = append(want, one)
		}
	}
	if want == nil {
		want = []string{started}
	}
	return want, nil
}
