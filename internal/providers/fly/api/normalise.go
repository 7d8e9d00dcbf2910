package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Normalise is a config as it would be after Fly has filled in what it fills in
// and written what it writes otherwise: two configs that mean the same machine
// are the same afterwards. It leaves its argument alone, and doing it twice
// changes nothing.
func Normalise(c MachineConfig) MachineConfig {
	n, err := pruned(c)
	if err != nil {
		return c // which cannot be sent either
	}
	n.normalise()
	if again, err := pruned(n); err == nil {
		n = again
	}
	return n
}

// volatile are keys of metadata that flyctl writes with each deployment, and
// leaves out when it compares.
var volatile = []string{"fly_flyctl_version", "fly_release_id", "fly_release_version"}

// longestServiceCheck is how seldom the proxy checks a service at most.
const longestServiceCheck = Duration(time.Minute)

// defaultRetries is how often a machine is started again after a failure.
const defaultRetries = 10

func (c *MachineConfig) normalise() {
	maps.DeleteFunc(c.Metadata, func(key, value string) bool {
		return value == "" || slices.Contains(volatile, key)
	})
	c.normaliseGuest()
	if c.Restart == nil {
		c.Restart = &Restart{}
	}
	c.Restart.Policy = or(c.Restart.Policy, "on-failure")
	switch {
	case c.Restart.Policy != "on-failure":
		c.Restart.MaxRetries = 0
	case c.Restart.MaxRetries == 0:
		c.Restart.MaxRetries = defaultRetries
	}
	if c.NoAutostart != nil && !*c.NoAutostart {
		c.NoAutostart = nil
	}
	for i := range c.Mounts {
		if m := &c.Mounts[i]; m.Volume != "" { // what it is like is told by the volume
			m.Name, m.SizeGB, m.Encrypted = "", 0, false
		}
	}
	for i := range c.Services {
		c.Services[i].normalise()
	}
	for name, check := range c.Checks {
		check.normalise()
		c.Checks[name] = check
	}
	if c.StopConfig != nil {
		withoutZero(&c.StopConfig.Timeout)
	}
}

func (c *MachineConfig) normaliseGuest() {
	if c.Guest == nil {
		c.Guest = &Guest{}
	}
	g := c.Guest
	if kind, cpus, ok := size(c.Size); ok {
		if g.CPUKind == "" && g.CPUs == 0 && g.MemoryMB == 0 {
			g.CPUKind, g.CPUs = kind, cpus
		}
		c.Size = ""
	}
	g.CPUKind = or(g.CPUKind, "shared")
	g.CPUs = max(g.CPUs, 1)
	if g.MemoryMB == 0 {
		g.MemoryMB = 256 * g.CPUs
		if g.CPUKind == "performance" {
			g.MemoryMB = 2048 * g.CPUs
		}
	}
	if g.PersistRootfs != "" {
		if c.Rootfs == nil {
			c.Rootfs = &Rootfs{}
		}
		c.Rootfs.Persist = or(c.Rootfs.Persist, g.PersistRootfs)
		g.PersistRootfs = ""
	}
	if c.Rootfs != nil && c.Rootfs.Persist == "never" {
		c.Rootfs.Persist = ""
	}
}

// size takes a name of old apart: shared-cpu-2x, performance-4x.
func size(name string) (kind string, cpus int, ok bool) {
	for prefix, of := range map[string]string{"shared-cpu-": "shared", "performance-": "performance"} {
		if rest, found := strings.CutPrefix(name, prefix); found {
			if n, err := fmt.Sscanf(rest, "%dx", &cpus); n == 1 && err == nil && cpus > 0 && rest == fmt.Sprintf("%dx", cpus) {
				return of, cpus, true
			}
		}
	}
	return "", 0, false
}

func (s *Service) normalise() {
	s.Protocol = or(s.Protocol, "tcp")
	if s.Autostop == "" {
		s.Autostop = AutostopOff
	}
	if s.MinMachinesRunning != nil && *s.MinMachinesRunning == 0 {
		s.MinMachinesRunning = nil
	}
	if s.ForceInstanceKey != nil && *s.ForceInstanceKey == "" {
		s.ForceInstanceKey = nil
	}
	for i := range s.Checks {
		check := &s.Checks[i]
		check.normalise()
		if check.Interval != nil && *check.Interval > longestServiceCheck {
			check.Interval = new(longestServiceCheck)
		}
	}
}

func (c *Check) normalise() {
	withoutZero(&c.Interval)
	withoutZero(&c.Timeout)
	withoutZero(&c.GracePeriod)
	if c.TLSSkipVerify != nil && !*c.TLSSkipVerify {
		c.TLSSkipVerify = nil
	}
}

func withoutZero(d **Duration) {
	if *d != nil && **d == 0 {
		*d = nil
	}
}

// pruned is a copy without what is there and empty.
func pruned(c MachineConfig) (MachineConfig, error) {
	tree, err := treeOf(c)
	if err != nil {
		return MachineConfig{}, err
	}
	b, err := json.Marshal(tree)
	if err != nil {
		return MachineConfig{}, err
	}
	var n MachineConfig
	return n, json.Unmarshal(b, &n)
}

// treeOf is a config as maps and lists, without what is empty.
func treeOf(c MachineConfig) (map[string]any, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	prune(tree)
	return tree, nil
}

// prune takes out what is empty of v, and tells whether v itself is. The
// entries of lists stay: the others would move.
func prune(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for key, value := range v {
			if prune(value) {
				delete(v, key)
			}
		}
		return len(v) == 0
	case []any:
		for _, value := range v {
			prune(value)
		}
		return len(v) == 0
	default:
		return false
	}
}

// Drift is where two configs differ once they are normalised, as paths such as
// "services[0].internal_port". Metadata of flyctl's that is not wanted is no
// difference: it writes its own on machines of others.
func Drift(want, got MachineConfig) []string {
	want, got = Normalise(want), Normalise(got)
	maps.DeleteFunc(got.Metadata, func(key, _ string) bool {
		_, wanted := want.Metadata[key]
		return !wanted && strings.HasPrefix(key, "fly_")
	})
	wanted, err1 := treeOf(want)
	found, err2 := treeOf(got)
	if err1 != nil || err2 != nil {
		return []string{""}
	}
	var paths []string
	differ("", wanted, found, &paths)
	slices.Sort(paths)
	return paths
}

func differ(path string, want, got any, paths *[]string) {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			keys := maps.Clone(w)
			maps.Copy(keys, g)
			for key := range keys {
				differ(strings.TrimPrefix(path+"."+key, "."), w[key], g[key], paths)
			}
			return
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range w {
				differ(fmt.Sprintf("%s[%d]", path, i), w[i], g[i], paths)
			}
			return
		}
	default:
		if _, deep := got.(map[string]any); deep {
			break
		}
		if _, deep := got.([]any); deep {
			break
		}
		if want == got {
			return
		}
	}
	*paths = append(*paths, path)
}
