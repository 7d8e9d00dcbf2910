package reconcile

import (
	"time"

	"forged.dev/forged/internal/forge"
)

// Outcomes of one pass over a resource; they label metrics.
const (
	OutcomeUnchanged = "unchanged" // nothing to do
	OutcomeApplied   = "applied"   // at least one step was carried out
	OutcomeHeld      = "held"      // there are steps, none may be carried out now
	OutcomeWaiting   = "waiting"   // something it needs is not ready
	OutcomeFailed    = "failed"    // an error
)

// Observer is told what the engine does, for metrics. Its methods are called
// from many goroutines at once and must not block.
type Observer interface {
	// Reconciled ends every pass over a resource.
	Reconciled(id forge.ID, outcome string, d time.Duration)
	// Drift is called once for every drift when it is first seen.
	Drift(id forge.ID, r Reason)
	// Healed tells how long it took from the event that showed the drift, or
	// from its observation where there was no event, until the answer to the
	// apply was there.
	Healed(id forge.ID, r Reason, d time.Duration)
	// Stepped is called for every step that was carried out.
	Stepped(id forge.ID, action Action)
	// Retried is called for every error after which the engine comes back by
	// itself.
	Retried(id forge.ID, kind ErrorKind)
	// Fight is called whenever a step is put off because another writer
	// keeps undoing it.
	Fight(id forge.ID, object, writer string)
	// Panicked is called when a provider panicked; the engine goes on.
	Panicked(id forge.ID)
}

type nobody struct{}

func (nobody) Reconciled(forge.ID, string, time.Duration) {}
func (nobody) Drift(forge.ID, Reason)                     {}
func (nobody) Healed(forge.ID, Reason, time.Duration)     {}
func (nobody) Stepped(forge.ID, Action)                   {}
func (nobody) Retried(forge.ID, ErrorKind)                {}
func (nobody) Fight(forge.ID, string, string)             {}
func (nobody) Panicked(forge.ID)                          {}
