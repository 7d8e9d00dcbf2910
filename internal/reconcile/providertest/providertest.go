// Package providertest is the conformance suite that every provider passes:
// docs/contract.md says what is promised, the tests here hold providers to it.
package providertest

import (
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Harness is one provider on a place of its own to work in. The functions act
// on that place as somebody else would.
type Harness struct {
	Resource forge.Resource                 // absent at first
	Changed  forge.Resource                 // the same id, asked for differently
	Inputs   map[forge.ID]reconcile.Outputs // that Resource and Changed need
	Policy   forge.Policy
	Secrets  []string      // must not be in any string; there must be one at least
	Patience time.Duration // for what a watch has to show; 0: 30 s
	Attempt  time.Duration // for a cycle whose line is cut somewhere; 0: 3 s

	// Start makes a provider on the place, the way a process does that has
	// just begun. What was started before is not used any more. The provider
	// may live until the test ends.
	Start func(t *testing.T) reconcile.Provider
	// Edit changes a field we own.
	Edit func(t *testing.T)
	// Delete deletes an object we own.
	Delete func(t *testing.T)
	// BreakReads makes every read fail until mend is called. Watches that
	// stand may go on or break.
	BreakReads func(t *testing.T) (mend func())
	// CutAfter lets n more changing requests through and then fails every
	// request, until mend is called.
	CutAfter func(t *testing.T, n int) (mend func())
	// Writes counts the changing requests so far; dry runs are none.
	Writes func() int
	// Bystander fails the test if something that we do not own was changed or
	// deleted.
	Bystander func(t *testing.T)
	// Proxy is the line to the place, when there is one to break in more ways:
	// the subtests about a bad line are run then.
	Proxy *faultproxy.Proxy
	// Data is set when the resource holds data: removal then names what would
	// be lost, or keeps it.
	Data bool
	// Settle waits until what was removed is gone for good, where that takes
	// longer than the removal. May be nil.
	Settle func(t *testing.T)
	// Restore is set when what Delete deletes takes data along: Plan then says so
	// in a blocked step, and nothing is made in its place. It is what a person
	// does about it.
	Restore func(t *testing.T)
	// Fixed is set when nothing about the resource can be asked for in another
	// way: Changed is Resource then.
	Fixed bool
	// Keeps is set when removal leaves the resource where it is: Plan then
	// says so in a blocked step, or plans nothing.
	Keeps bool
}

// Test holds a provider to the contract. setup makes a new place for every
// subtest.
func Test(t *testing.T, setup func(t *testing.T) Harness) {
	t.Helper()
	suite(t, setup, func(t *testing.T, test func(*testing.T)) { test(t) })
}

// TestInBubble is Test for a place within this process: each subtest is in a
// bubble of testing/synctest, in which waiting takes no time. What setup and
// Start begin must end with the test.
func TestInBubble(t *testing.T, setup func(t *testing.T) Harness) {
	t.Helper()
	suite(t, setup, synctest.Test)
}

func suite(t *testing.T, setup func(t *testing.T) Harness, within func(*testing.T, func(*testing.T))) {
	t.Helper()
	for _, tt := range []struct {
		name string
		test func(*trial)
	}{
		{"LookingChangesNothing", lookingChangesNothing},
		{"ObserveAfterApplyIsClean", observeAfterApplyIsClean},
		{"ApplyTwiceChangesNothing", applyTwiceChangesNothing},
		{"RestartChangesNothing", restartChangesNothing},
		{"ForeignEditIsDrift", foreignEditIsDrift},
		{"ForeignDeleteIsDrift", foreignDeleteIsDrift},
		{"OvertakenStepIsStaleOrDone", overtakenStepIsStaleOrDone},
		{"NewConfigIsRollout", newConfigIsRollout},
		{"UnknownIsNeverAbsent", unknownIsNeverAbsent},
		{"CancelledCallsEnd", cancelledCallsEnd},
		{"CutAnywhereConverges", cutAnywhereConverges},
		{"RemovalIsPlannedAndEnds", removalIsPlannedAndEnds},
	} {
		t.Run(tt.name, func(t *testing.T) {
			within(t, func(t *testing.T) {
				h := setup(t)
				if h.Resource.ID != h.Changed.ID || len(h.Secrets) == 0 {
					t.Fatal("harness: Resource and Changed must have one id, and there must be a secret to look for")
				}
				tr := newTrial(t, h)
				tt.test(tr)
				h.Bystander(t)
			})
		})
	}
	badLine(t, setup, within)
}
