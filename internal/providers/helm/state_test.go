package helm

import (
	"testing"

	"helm.sh/helm/v3/pkg/release"
)

// One state, one deed: every situation a release can be found in.
func TestDecide(t *testing.T) {
	settled := facts{exists: true, status: release.StatusDeployed, number: 3, ours: true, recorded: true, applied: 3, current: true, limit: 5, good: 3}
	with := func(f facts, change func(*facts)) facts { change(&f); return f }
	for name, c := range map[string]struct {
		facts facts
		state state
		deed  deed
	}{
		"nothing there":                        {facts{limit: 5}, stateAbsent, deedInstall},
		"killed before Helm's first record":    {facts{recorded: true, pending: true, limit: 5}, stateInterrupted, deedInstall},
		"a release of somebody else":           {facts{exists: true, status: release.StatusDeployed, number: 1, limit: 5}, stateUnmanaged, deedRefuse},
		"a failed release of somebody else":    {facts{exists: true, status: release.StatusFailed, number: 1, limit: 5}, stateUnmanaged, deedRefuse},
		"a release of somebody else, by force": {facts{exists: true, status: release.StatusDeployed, number: 1, adopt: true, limit: 5}, stateUnmanaged, deedInstall},
		"a dead release, by force":             {facts{exists: true, status: release.StatusPendingInstall, number: 1, adopt: true, limit: 5}, stateInterrupted, deedRepair},
		"somebody installs it just now":        {facts{exists: true, status: release.StatusPendingInstall, number: 1, busy: true, limit: 5}, stateBusy, deedWait},
		"uninstalled by somebody who kept it":  {facts{exists: true, status: release.StatusUninstalled, number: 2, limit: 5}, stateAbsent, deedInstall},
		"our first install was killed":         {facts{exists: true, status: release.StatusPendingInstall, number: 1, ours: true, recorded: true, pending: true, limit: 5}, stateInterrupted, deedRepair},
		"our first install failed":             {facts{exists: true, status: release.StatusFailed, number: 1, ours: true, recorded: true, pending: true, failures: 1, limit: 5}, stateFailed, deedRepair},
		"our first install failed too often":   {facts{exists: true, status: release.StatusFailed, number: 5, ours: true, recorded: true, pending: true, failures: 5, limit: 5}, stateRefused, deedBlock},
		"in sync":                              {settled, stateInSync, deedNothing},
		"an object was edited":                 {with(settled, func(f *facts) { f.drifted = true }), stateDrifted, deedHeal},
		"something else is asked for":          {with(settled, func(f *facts) { f.current = false }), stateOutdated, deedUpgrade},
		"something else, and drift":            {with(settled, func(f *facts) { f.current, f.drifted = false, true }), stateOutdated, deedUpgrade},
		"something else, in heal mode":         {with(settled, func(f *facts) { f.current, f.heal = false, true }), stateInSync, deedHeal},
		"something else, drift, in heal mode":  {with(settled, func(f *facts) { f.current, f.heal, f.drifted = false, true, true }), stateDrifted, deedHeal},
		"an input is missing":                  {with(settled, func(f *facts) { f.current, f.waiting = false, true }), stateInSync, deedHeal},
		"what is asked for failed too often":   {with(settled, func(f *facts) { f.current, f.failures = false, 5 }), stateRefused, deedBlock},
		"our upgrade was killed": {with(settled, func(f *facts) {
			f.number, f.status, f.pending, f.current = 4, release.StatusPendingUpgrade, true, false
		}), stateInterrupted, deedRepair},
		"our upgrade was killed, in heal mode": {with(settled, func(f *facts) {
			f.number, f.status, f.pending, f.current, f.heal = 4, release.StatusPendingUpgrade, true, false, true
		}), stateInterrupted, deedRestore},
		"our rollback was killed":               {with(settled, func(f *facts) { f.number, f.status, f.pending = 4, release.StatusPendingRollback, true }), stateInterrupted, deedRepair},
		"our uninstall was killed, wanted anew": {with(settled, func(f *facts) { f.status = release.StatusUninstalling }), stateInterrupted, deedRepair},
		"our upgrade failed": {with(settled, func(f *facts) {
			f.number, f.status, f.pending, f.current, f.failures = 4, release.StatusFailed, true, false, 1
		}), stateFailed, deedRepair},
		"our upgrade failed too often": {with(settled, func(f *facts) {
			f.number, f.status, f.pending, f.current, f.failures = 8, release.StatusFailed, true, false, 5
		}), stateRefused, deedBlock},
		"our upgrade failed, with rollback": {with(settled, func(f *facts) {
			f.number, f.status, f.pending, f.current, f.failures, f.limit, f.goBack = 4, release.StatusFailed, true, false, 1, 1, true
		}), stateFailed, deedGoBack},
		"going back was killed": {with(settled, func(f *facts) {
			f.number, f.status, f.pending, f.current, f.failures, f.limit, f.goBack = 5, release.StatusPendingRollback, true, false, 1, 1, true
		}), stateInterrupted, deedGoBack},
		"killed after Helm, before us":       {with(settled, func(f *facts) { f.number, f.pending = 4, true }), stateInterrupted, deedRepair},
		"the inventory is gone":              {with(settled, func(f *facts) { f.recorded, f.applied, f.current = false, 0, false }), stateInterrupted, deedRepair},
		"helm upgrade by somebody":           {with(settled, func(f *facts) { f.number, f.ours = 4, false }), stateForeign, deedRestore},
		"helm upgrade by somebody just now":  {with(settled, func(f *facts) { f.number, f.ours, f.status, f.busy = 4, false, release.StatusPendingUpgrade, true }), stateBusy, deedWait},
		"helm upgrade by somebody who died":  {with(settled, func(f *facts) { f.number, f.ours, f.status = 4, false, release.StatusPendingUpgrade }), stateInterrupted, deedRepair},
		"helm upgrade by somebody failed":    {with(settled, func(f *facts) { f.number, f.ours, f.status = 4, false, release.StatusFailed }), stateForeign, deedRestore},
		"helm upgrade, and something else":   {with(settled, func(f *facts) { f.number, f.ours, f.current = 4, false, false }), stateForeign, deedUpgrade},
		"helm upgrade, and what cannot be":   {with(settled, func(f *facts) { f.number, f.ours, f.current, f.failures = 4, false, false, 5 }), stateForeign, deedRestore},
		"helm upgrade, an input is missing":  {with(settled, func(f *facts) { f.number, f.ours, f.current, f.waiting = 4, false, false, true }), stateForeign, deedRestore},
		"another revision of ours":           {with(settled, func(f *facts) { f.number = 2 }), stateForeign, deedRestore},
		"helm uninstall":                     {with(settled, func(f *facts) { f.exists = false }), stateLost, deedRestore},
		"helm uninstall that keeps history":  {with(settled, func(f *facts) { f.status, f.ours = release.StatusUninstalled, false }), stateUninstalled, deedRestore},
		"helm uninstall, and something else": {with(settled, func(f *facts) { f.exists, f.current = false, false }), stateLost, deedUpgrade},
		"not ready, nothing said about it":   {with(settled, func(f *facts) { f.good, f.unready = 2, "x" }), stateInSync, deedNothing},
		"not ready, with rollback":           {with(settled, func(f *facts) { f.good, f.unready, f.goBack = 2, "x", true }), stateUnready, deedGoBack},
		"not ready, nothing to go back to":   {with(settled, func(f *facts) { f.good, f.unready, f.goBack = 0, "x", true }), stateInSync, deedNothing},
		"not ready, but was once":            {with(settled, func(f *facts) { f.unready, f.goBack = "x", true }), stateInSync, deedNothing},
		"not ready, drift, with rollback":    {with(settled, func(f *facts) { f.good, f.unready, f.goBack, f.drifted = 2, "x", true, true }), stateUnready, deedGoBack},
	} {
		if got := decide(c.facts); got.state != c.state || got.deed != c.deed {
			t.Errorf("%s: %s, %s; want %s, %s", name, got.state, got.deed, c.state, c.deed)
		}
	}
}
