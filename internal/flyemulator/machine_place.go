package flyemulator

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// place finds a host, and takes the volume.
func (e *Emulator) place(a *app, m *machine, list string) *failure {
	codes, f := regionsOf(list)
	if f != nil {
		return f
	}
	if len(m.Config.Mounts) == 1 {
		return e.placeAtVolume(a, m, list, codes)
	}
	for _, code := range codes {
		if h := e.pickHost(code, nil); h != nil && e.room(code) {
			m.Region, m.Host = code, h.ID
			return nil
		}
	}
	return refuse(http.StatusUnprocessableEntity, "could not find a candidate host").as("insufficient_capacity")
}

// placeAtVolume places the machine where its volume lies.
func (e *Emulator) placeAtVolume(a *app, m *machine, list string, codes []string) *failure {
	mt := &m.Config.Mounts[0]
	v := e.mounted(a, mt, codes)
	if v == nil {
		return refuse(http.StatusNotFound, "not_found: volume does not exist")
	}
	if list != "" && !slices.Contains(codes, v.Region) {
		return refuse(http.StatusUnprocessableEntity, "invalid_argument: volume %s is in region %s, not in %s", v.ID, v.Region, list)
	}
	if f := e.claimed(v); f != nil {
		return f
	}
	if h := e.state.Hosts[v.Host]; h == nil || h.Full || h.Status != hostOK || !e.room(v.Region) {
		return refuse(http.StatusPreconditionFailed, "insufficient resources to create new machine with existing volume id '%s'", v.ID).as("volume_placement_capacity")
	}
	m.Region, m.Host, m.Volume = v.Region, v.Host, v.ID
	v.Machine, v.BoundTo, v.Updated = m.ID, "", e.now()
	mt.Volume, mt.Name, mt.SizeGB, mt.Encrypted = v.ID, v.Name, v.SizeGB, v.Encrypted
	return nil
}

// mounted finds the volume of a mount: by its id, or one that is free by name.
func (e *Emulator) mounted(a *app, mt *mount, codes []string) *volume {
	if mt.Volume != "" {
		v := a.Volumes[mt.Volume]
		if v == nil || v.ending() {
			return nil
		}
		return v
	}
	for _, id := range slices.Sorted(maps.Keys(a.Volumes)) {
		v := a.Volumes[id]
		if v.Name == mt.Name && v.State == created && v.Machine == "" && slices.Contains(codes, v.Region) && e.claimed(v) == nil {
			return v
		}
	}
	return nil
}

// claimed says that a volume is somebody's, or is so still.
func (e *Emulator) claimed(v *volume) *failure {
	by := e.holder(v)
	if by == "" {
		return nil
	}
	if e.mode(ModeVolumeClaimed) == "nul" {
		by = strings.Repeat("\x00", 14)
	}
	return refuse(http.StatusPreconditionFailed, "failed_precondition: volume already claimed by machine %s", by)
}

// firstMount gives a machine a volume, which must lie where it does.
func (e *Emulator) firstMount(a *app, m *machine, mt *mount) *failure {
	v := e.mounted(a, mt, []string{m.Region})
	if v == nil {
		return refuse(http.StatusNotFound, "not_found: volume does not exist")
	}
	if f := e.claimed(v); f != nil {
		return f
	}
	if v.Host != m.Host {
		return refuse(http.StatusBadRequest, "invalid_argument: volume %s is not on the host of machine %s", v.ID, m.ID)
	}
	m.Volume, v.Machine, v.BoundTo = v.ID, m.ID, ""
	mt.Volume, mt.Name, mt.SizeGB, mt.Encrypted = v.ID, v.Name, v.SizeGB, v.Encrypted
	return nil
}
