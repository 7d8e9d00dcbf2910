package flyemulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// host is a computer of Fly's.
type host struct {
	ID     string
	Region string
	Status string // ok, unknown, unreachable
	Full   bool   // takes nothing more
}

// Statuses of hosts.
const (
	hostOK          = "ok"
	hostUnknown     = "unknown"
	hostUnreachable = "unreachable"
)

// zone is how the API names the host: by a hash.
func (h *host) zone() string { return fmt.Sprintf("%04x", hash32(h.ID)&0xffff) }

func hash32(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// regionState is what was said about a region.
type regionState struct {
	Room   *int // for so many more machines; nil: as many as one likes
	Silent bool // the listings of organizations miss it
}

// hostsPerRegion is how many different zones a region has.
const hostsPerRegion = 4

func (e *Emulator) foundHosts() {
	for _, r := range regions {
		for i := range hostsPerRegion {
			id := fmt.Sprintf("%s-%d", r.Code, i+1)
			e.state.Hosts[id] = &host{ID: id, Region: r.Code, Status: hostOK}
		}
		e.state.Regions[r.Code] = &regionState{}
	}
}

// hostStatus is that of the host of an id.
func (e *Emulator) hostStatus(id string) string {
	if h := e.state.Hosts[id]; h != nil {
		return h.Status
	}
	return hostOK
}

// pickHost finds the host of a region that has the least on it; nil: none takes
// anything. Those in except are passed over.
func (e *Emulator) pickHost(region string, except map[string]bool) *host {
	load := map[string]int{}
	for _, a := range e.state.Apps {
		for _, m := range a.Machines {
			if m.Region == region && m.State != destroyed {
				load[m.Host]++
			}
		}
		for _, v := range a.Volumes {
			if v.Region == region {
				load[v.Host]++
			}
		}
	}
	var best *host
	for i := range hostsPerRegion {
		h := e.state.Hosts[fmt.Sprintf("%s-%d", region, i+1)]
		if h == nil || h.Status != hostOK || h.Full || except[h.ID] {
			continue
		}
		if best == nil || load[h.ID] < load[best.ID] {
			best = h
		}
	}
	return best
}

// room says whether the region takes one machine more.
func (e *Emulator) room(region string) bool {
	r := e.state.Regions[region]
	return r == nil || r.Room == nil || *r.Room > 0
}

// useRoom counts n machines more, or fewer, in a region.
func (e *Emulator) useRoom(region string, n int) {
	if r := e.state.Regions[region]; r != nil && r.Room != nil {
		*r.Room -= n
	}
}

// regionsOf reads a list of regions in the order in which they are wanted. An
// alias is all regions of its part of the world; nothing is the nearest one.
func regionsOf(list string) ([]string, *failure) {
	if list == "" {
		return []string{nearest}, nil
	}
	var out []string
	for code := range strings.SplitSeq(list, ",") {
		code = strings.TrimSpace(code)
		found := false
		for _, r := range regions {
			if r.Code == code || r.alias == code || code == "any" || code == "na" && r.Geo == "north_america" {
				found = true
				if !slices.Contains(out, r.Code) {
					out = append(out, r.Code)
				}
			}
		}
		if !found {
			return nil, refuse(http.StatusBadRequest, "invalid_argument: target region %s not found", code)
		}
	}
	return out, nil
}
