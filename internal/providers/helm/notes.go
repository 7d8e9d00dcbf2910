package helm

import (
	"bytes"
	"encoding/json"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// How often the same thing is tried.
const (
	mostFailures = 5 // before it is not tried again until something else is asked for
	// With policy.rollback, and something to go back to, the first failure is
	// the last.
	mostFailuresWithRollback = 1
)

const longestWhy = 500 // runes of a failure that are remembered

// notes are what is remembered of a release beside its objects. They lie in
// its inventory record, so that a restart forgets nothing. They hold no
// secret.
type notes struct {
	Name   string  `json:"name,omitempty"`   // of the release: a record has none before the first install has ended
	Key    string  `json:"key,omitempty"`    // render key of the applied revision
	Chart  string  `json:"chart,omitempty"`  // its version, likewise
	Source string  `json:"source,omitempty"` // what a chart of the user was, likewise
	Good   good    `json:"good,omitzero"`    // the last revision that was ready
	Asked  asked   `json:"asked,omitzero"`   // by the chart, when the applied revision was rendered
	Back   int     `json:"back,omitempty"`   // the revision that the applied one repeats, because a person said so
	Failed failure `json:"failed,omitzero"`  // of what was tried last
	Trying *trying `json:"trying,omitempty"` // the revision that is being made
}

// good is a revision that was ready.
type good struct {
	Revision int    `json:"revision"`
	Key      string `json:"key,omitempty"`
	Source   string `json:"source,omitempty"` // what a chart of the user was
	Asked    asked  `json:"asked,omitzero"`
}

// failure is what became of a render key that does not work.
type failure struct {
	Key   string `json:"key,omitempty"`
	Times int    `json:"times,omitempty"`
	Why   string `json:"why,omitempty"`
}

// trying is a revision on its way: should it be cut, what was rendered for it
// is taken from Helm's record, so that a chart of chance is not rendered anew.
type trying struct {
	Revision int    `json:"revision"`
	Key      string `json:"key"`
	Source   string `json:"source,omitempty"`
	Asked    asked  `json:"asked,omitzero"`
}

// noted are the notes that were read last, and from what.
type noted struct {
	raw   json.RawMessage
	notes notes
}

// notesOf is the function of that name for the steady state, in which they stay
// as they are.
func (u *unit) notesOf(r kubernetes.Record) notes {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !bytes.Equal(u.noted.raw, r.Detail) {
		u.noted = noted{r.Detail, notesOf(r)}
	}
	return u.noted.notes
}

func notesOf(r kubernetes.Record) notes {
	var n notes
	if len(r.Detail) > 0 {
		// What cannot be read was written by another version of forged; without
		// it a release is tried again and nothing can be gone back to.
		if err := json.Unmarshal(r.Detail, &n); err != nil {
			return notes{}
		}
	}
	return n
}

func (n notes) raw() json.RawMessage {
	raw, err := json.Marshal(n)
	if err != nil {
		return nil // no value in it can fail
	}
	return raw
}

// failures is how often what a key stands for has failed.
func (n notes) failures(key string) int {
	if key == "" || n.Failed.Key != key {
		return 0
	}
	return n.Failed.Times
}

// failed counts a failure of a key.
func (n notes) failed(key, why string) notes {
	if n.Failed.Key != key {
		n.Failed = failure{Key: key}
	}
	n.Failed.Times++
	if r := []rune(why); len(r) > longestWhy {
		why = string(r[:longestWhy-1]) + "…"
	}
	n.Failed.Why = why
	return n
}

// counts tells a failure that says something of what was applied from one of
// the line, the permissions, or another writer: those are tried again for as
// long as it takes.
func counts(err error) bool {
	switch reconcile.KindOf(err) {
	case reconcile.Invalid, reconcile.Internal, reconcile.Conflict:
		return true
	}
	return false
}
