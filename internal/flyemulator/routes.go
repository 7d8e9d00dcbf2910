package flyemulator

import "slices"

// allRoutes is every call that is answered. The files of the parts have theirs.
func (e *Emulator) allRoutes() []*route {
	return prepared(slices.Concat(
		e.appRoutes(), e.machineRoutes(), e.orgRoutes(), e.platformRoutes(), e.tokenRoutes(), e.controlRoutes(),
		e.volumeRoutes(), e.secretRoutes(), e.certificateRoutes(), e.ipRoutes(), e.policyRoutes(), e.postgresRoutes(), e.modeRoutes(), e.dnsRoutes(),
		e.graphqlRoutes(), e.uiRoutes(), e.prometheusRoutes(),
	))
}

// allEvents is what happens when a time comes, by the event's kind.
func (e *Emulator) allEvents() map[string]func(event) {
	all := map[string]func(event){}
	for _, of := range []map[string]func(event){
		e.machineEvents(), e.volumeEvents(), e.secretEvents(), e.certificateEvents(), e.postgresEvents(), e.addOnEvents(),
	} {
		for kind, f := range of {
			if all[kind] != nil {
				panic("flyemulator: two events are called " + kind)
			}
			all[kind] = f
		}
	}
	return all
}
