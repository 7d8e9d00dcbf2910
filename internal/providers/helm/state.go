package helm

import (
	"fmt"

	"helm.sh/helm/v3/pkg/release"
)

// facts are all that a decision about a release rests on.
type facts struct {
	exists bool           // Helm has a record of it
	status release.Status // of the newest record
	number int
	ours   bool // the newest record was written by this forged
	busy   bool // the newest record is somebody else's whose helm may still be at work
	adopt  bool // what somebody else made may be taken over

	recorded bool // the inventory lists the release
	pending  bool // an action has begun and was not seen to end
	applied  int  // the revision that was applied last; 0: none

	current bool // what was applied last is what is asked for
	waiting bool // an input is missing, so that it is not known what is asked for
	heal    bool // the mode allows no rollout
	drifted bool

	failures int    // how often what is asked for has failed
	limit    int    // how often it may
	good     int    // the last revision that was ready and can be gone back to; 0: none
	goBack   bool   // policy.rollback
	unready  string // why the applied revision has failed to become ready; empty: it has not
}

// state is what a release is found in.
type state string

// The states of a release.
const (
	stateAbsent      state = "absent"      // there is nothing
	stateUnmanaged   state = "unmanaged"   // a release of that name is somebody else's
	stateBusy        state = "busy"        // somebody else's helm is at work on it
	stateInterrupted state = "interrupted" // whoever worked on it died
	stateFailed      state = "failed"      // its newest revision did not get to its end
	stateLost        state = "lost"        // Helm's records are gone
	stateUninstalled state = "uninstalled" // by somebody, who kept the history
	stateForeign     state = "foreign"     // somebody ran helm on it
	stateUnready     state = "unready"     // deployed, and does not become ready
	stateRefused     state = "refused"     // what is asked for has failed too often
	stateOutdated    state = "outdated"    // something else is asked for
	stateDrifted     state = "drifted"     // objects are not as they were applied
	stateInSync      state = "in sync"
)

// deed is what is done about a state.
type deed string

// The deeds.
const (
	deedNothing deed = "nothing"
	deedWait    deed = "wait"    // until somebody else's helm has ended
	deedRefuse  deed = "refuse"  // it is not ours
	deedInstall deed = "install" // what is asked for, for the first time
	deedUpgrade deed = "upgrade" // to what is asked for
	deedRepair  deed = "repair"  // bring what was begun to its end: what is asked for
	deedRestore deed = "restore" // the release, as it was applied last
	deedGoBack  deed = "go back" // to the last revision that was ready
	deedReturn  deed = "return"  // to the revision that a person names
	deedBlock   deed = "block"   // a person has to change something
	deedHeal    deed = "heal"    // object by object
)

// decision is one deed for one state.
type decision struct {
	state state
	deed  deed
	text  string // for people
}

// decide says what becomes of a release. It is the whole of the state machine:
// first what forbids to act, then what stands in the way of judging the
// objects, then what is asked for, then drift.
func decide(f facts) decision {
	terminal := f.status == release.StatusDeployed || f.status == release.StatusSuperseded ||
		f.status == release.StatusFailed || f.status == release.StatusUninstalled
	revision := fmt.Sprintf("revision %d", f.number)
	switch {
	case f.exists && f.busy:
		return decision{stateBusy, deedWait, fmt.Sprintf("another actor's helm is at work: %s is %s", revision, f.status)}
	case f.exists && !f.ours && f.applied == 0 && f.status != release.StatusUninstalled && !f.adopt:
		return decision{stateUnmanaged, deedRefuse, fmt.Sprintf("%s, %s", revision, f.status)}
	case !f.exists && !f.recorded:
		return decision{stateAbsent, deedInstall, ""}
	case !f.exists && f.applied == 0:
		return f.first(stateInterrupted, "an install was cut before Helm's record was written")
	case !f.exists:
		return f.restore(stateLost, "its Helm records are gone")
	case !f.ours && f.applied == 0 && terminal && f.status != release.StatusUninstalled:
		return f.first(stateUnmanaged, revision+" is taken over")
	case !terminal:
		return f.mend(stateInterrupted, fmt.Sprintf("%s was left %s", revision, f.status))
	case f.status == release.StatusUninstalled && f.applied > 0:
		return f.restore(stateUninstalled, revision+" was uninstalled by helm")
	case f.status == release.StatusUninstalled:
		return f.first(stateAbsent, "")
	case !f.ours:
		return f.restore(stateForeign, fmt.Sprintf("%s is not forged's, its own is %d", revision, f.applied))
	case f.status != release.StatusDeployed:
		return f.mend(stateFailed, fmt.Sprintf("%s is %s", revision, f.status))
	case !f.recorded, f.pending:
		return f.mend(stateInterrupted, "the inventory was not brought up to date")
	case f.number != f.applied:
		return f.restore(stateForeign, fmt.Sprintf("%s is not forged's, its own is %d", revision, f.applied))
	}
	return f.settled()
}

// settled decides about a release whose newest revision is ours and ended
// well.
func (f facts) settled() decision {
	objects := func(s state) decision {
		if f.drifted && s == stateInSync {
			return decision{stateDrifted, deedHeal, ""}
		}
		return decision{s, deedHeal, ""}
	}
	switch {
	case f.unready != "" && f.current && f.goBack && f.good > 0 && f.good != f.applied:
		return decision{stateUnready, deedGoBack, f.unready}
	case f.current && f.drifted:
		return decision{stateDrifted, deedHeal, ""}
	case f.current:
		return decision{stateInSync, deedNothing, ""}
	case f.heal, f.waiting:
		return objects(stateInSync) // only live can be judged
	case f.failures >= f.limit:
		return decision{stateRefused, deedBlock, ""}
	}
	return decision{stateOutdated, deedUpgrade, ""}
}

// first installs what was never installed to its end.
func (f facts) first(s state, text string) decision {
	if f.failures >= f.limit {
		return decision{stateRefused, deedBlock, text}
	}
	return decision{s, deedInstall, text}
}

// mend brings an action of ours that did not get to its end to one. In heal
// mode nothing new is begun, and what was cut is taken back.
func (f facts) mend(s state, text string) decision {
	switch {
	case f.heal && f.applied > 0:
		return decision{s, deedRestore, text}
	case f.failures < f.limit || f.waiting:
		return decision{s, deedRepair, text}
	case f.goBack && f.good > 0:
		return decision{s, deedGoBack, text}
	}
	return decision{stateRefused, deedBlock, text}
}

// restore brings back what was applied last where that is still what is to be
// there; otherwise what is asked for now comes instead.
func (f facts) restore(s state, text string) decision {
	if f.current || f.heal || f.waiting || f.failures >= f.limit {
		return decision{s, deedRestore, text}
	}
	return decision{s, deedUpgrade, text}
}
