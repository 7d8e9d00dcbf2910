package schema

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"cuelang.org/go/cue"
)

// The wire types are what CUE writes as JSON; see wire.go. Decoding through
// them is twice as fast as cue.Value.Decode, and refuses a key that nobody
// reads.

// decode reads those parts of the forge that have no diagnostics, so that the
// rules can be checked on them.
func (l *loader) decode() wire {
	var w wire
	at := func(p path, to any) bool {
		if l.isBroken(p) {
			return false
		}
		data, err := l.whole.LookupPath(selectors(l.whole, p)).MarshalJSON()
		if err == nil {
			err = strictJSON(data, to)
		}
		if err != nil {
			l.add(p, l.pos(p, true), "value", "it cannot be read: "+err.Error(), "")
		}
		return err == nil
	}
	app := &wireApp{}
	if at(path{"app"}, app) {
		w.app = app
	}
	envs := path{"environments"}
	for _, name := range fields(l.whole.LookupPath(cue.ParsePath("environments"))) {
		e := wireEnv{name: name}
		if at(envs.with(name), &e) {
			w.envs = append(w.envs, e)
		}
	}
	if n := (path{"notifications"}); l.whole.LookupPath(selectors(l.whole, n)).Exists() {
		at(n, &w.notifications)
	}
	w.sort()
	return w
}

// sort puts the environments in the order of the model.
func (w *wire) sort() {
	slices.SortFunc(w.envs, func(a, b wireEnv) int { return cmp.Compare(a.name, b.name) })
}

// strictJSON refuses keys that nobody reads.
func strictJSON(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(to)
}
