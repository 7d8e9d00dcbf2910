// Package flyemulator is Fly in one process: the Machines API with all that
// hangs on an app, GraphQL, the console's API and the metrics stub, as an
// http.Handler with state, a clock and trouble of its own.
//
// It is as strict and as slow as the real service, so that what works with it
// works there: names are global, replies come before the state they speak of,
// destroyed machines stay readable, a volume stays bound for a while, a stop
// under somebody else's lease hangs. docs/fly-emulator.md lists each behaviour
// with its source, and what is missing.
//
// Time is virtual: it runs at Options.TimeFactor times the speed of package
// time, and Advance jumps. In a bubble of testing/synctest, with requests
// through Transport, nothing takes real time. The emulator must then be made
// inside the bubble.
//
// One mutex guards everything. It is held by whoever handles a request or a
// transition, and given up only in await. State is plain data: Save writes all
// of it, also what is yet to happen, and Load goes on from there.
package flyemulator
