package flyemulator

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

type checkStatus struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Output  string `json:"output"`
	Updated string `json:"updated_at"`
}

// checks are what the machine's checks say now. They are asked by the host:
// nothing is said of a machine that does not run, nor during the grace.
func (e *Emulator) checks(m *machine) []checkStatus {
	out := []checkStatus{}
	if m.State != started || e.hostStatus(m.Host) != hostOK {
		return out
	}
	p := e.program(m)
	add := func(name string, c probe) {
		grace, every := e.o.Times.CheckGrace, 10*time.Second
		if c.Grace != nil {
			grace = time.Duration(*c.Grace)
		}
		if c.Interval != nil && *c.Interval > 0 {
			every = time.Duration(*c.Interval)
		}
		since := e.now().Sub(m.Started) - grace
		if since < 0 {
			return
		}
		n := int(since / every)
		s := checkStatus{Name: name, Status: "passing", Output: "200 OK Output: \"ok\"", Updated: stamp(m.Started.Add(grace + time.Duration(n)*every))}
		if c.Type == "tcp" {
			s.Output = "Success"
		}
		if !p.healthy(n) {
			s.Status, s.Output = "critical", "connect: connection refused"
		}
		if e.o.Guest != nil {
			if output, passing, ok := e.o.Guest.Check(m.ID, name); ok {
				s.Output, s.Status = output, map[bool]string{true: "passing", false: "critical"}[passing]
			}
		}
		out = append(out, s)
	}
	for name, c := range m.Config.Checks {
		add(name, c.probe)
	}
	for i, s := range m.Config.Services {
		for _, c := range s.Checks {
			at := s.InternalPort
			if c.Port != nil {
				at = *c.Port
			}
			add(fmt.Sprintf("servicecheck-%02d-%s-%d", i, c.Type, at), c.probe)
			add(fmt.Sprintf("bg_deployments_compat-%02d-%s-%d", i, c.Type, at), c.probe)
		}
	}
	slices.SortFunc(out, func(a, b checkStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// stamp is how the API writes a time.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
