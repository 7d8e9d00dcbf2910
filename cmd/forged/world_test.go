package main

import (
	"testing"
	"time"
)

// The engine gets --grace, less what it takes to abandon a step before the
// process gives up on the engine.
func TestStepGrace(t *testing.T) {
	for grace, want := range map[time.Duration]time.Duration{
		5 * time.Minute:  5*time.Minute - 2*time.Second,
		30 * time.Second: 28 * time.Second,
		time.Second:      500 * time.Millisecond,
		0:                0, // the engine's default
	} {
		if got := stepGrace(grace); got != want {
			t.Errorf("of %s: %s, want %s", grace, got, want)
		}
	}
}
