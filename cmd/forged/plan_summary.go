package main

import (
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// trouble is an error that keeps a cluster, or a part of it, from being looked
// at: what it is about is not in its text.
type trouble struct{ platform, target, text, hint string }

func troubleOf(env reconcile.EnvironmentPlan, e *reconcile.ErrorStatus) trouble {
	return trouble{env.Platform, env.Target, e.Text, e.Hint}
}

// showTroubles shows each error of an environment that several resources share
// once, with those resources, and tells which these are. known are the errors
// that were shown, with the environment that they were shown for.
func showTroubles(p *printer, env reconcile.EnvironmentPlan, known map[trouble]string) (shown map[forge.ID]bool) {
	var order []trouble
	about := map[trouble][]string{}
	first := map[trouble]*reconcile.ErrorStatus{}
	note := func(e *reconcile.ErrorStatus) trouble {
		t := troubleOf(env, e)
		if first[t] == nil {
			order, first[t] = append(order, t), e
		}
		return t
	}
	var whole trouble // of the environment itself
	if env.Error != nil {
		whole = note(env.Error)
	}
	for _, item := range env.Items {
		if unseen(item) {
			t := note(item.Error)
			about[t] = append(about[t], nameOf(item.ID))
		}
	}
	shown = map[forge.ID]bool{}
	together := func(t trouble) bool { return t == whole || len(about[t]) > 1 || known[t] != "" }
	for _, t := range order {
		switch {
		case !together(t):
			continue
		case known[t] != "":
			p.wrapped(red, "  error: ", "the same as in "+known[t])
		default:
			known[t] = env.Name
			showError(p, "  ", first[t])
		}
		if n := len(about[t]); n > 0 {
			p.wrapped(dim, "  not looked at: ", count(n, "resource")+": "+strings.Join(about[t], ", "))
		}
	}
	for _, item := range env.Items {
		if unseen(item) {
			shown[item.ID] = together(troubleOf(env, item.Error))
		}
	}
	return shown
}

// unseen tells whether a resource could not be looked at.
func unseen(item reconcile.Item) bool {
	return item.Error != nil && item.Health.Status == reconcile.Unknown && len(item.Steps) == 0 && item.Waiting == "" && item.Kept == ""
}

// tally is what a plan comes to.
type tally struct {
	counts  map[reconcile.Action]int
	blocked int // steps that will not be carried out
	waiting int // not known yet
	items   int
	unseen  int // of the items
	failed  int // of the items: looked at, and not planned
	blind   []string
	paused  int
	looked  int // environments that are not paused
}

func (t *tally) add(env reconcile.EnvironmentPlan) {
	if env.Mode == forge.ModePaused {
		t.paused++
	} else {
		t.looked++
	}
	if t.counts == nil {
		t.counts = map[reconcile.Action]int{}
	}
	for _, item := range env.Items {
		t.items++
		switch {
		case unseen(item):
			t.unseen++
		case item.Error != nil:
			t.failed++
		}
		if item.Kept != "" {
			continue
		}
		if item.Waiting != "" && !slices.ContainsFunc(item.Steps, reconcile.Step.Rollout) {
			t.waiting++
		}
		for _, step := range item.Steps {
			if step.Blocked != "" {
				t.blocked++
				continue
			}
			t.counts[step.Action]++
		}
	}
	if env.Error != nil {
		t.blind = append(t.blind, env.Name)
	}
}

// String says that there is nothing to change only when all was looked at.
func (t *tally) String() string {
	var parts []string
	for _, a := range []reconcile.Action{
		reconcile.ActionCreate, reconcile.ActionUpdate, reconcile.ActionHeal, reconcile.ActionRepair, reconcile.ActionDelete,
		reconcile.ActionForget,
	} {
		if t.counts[a] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", t.counts[a], a))
		}
	}
	if t.blocked > 0 {
		parts = append(parts, fmt.Sprintf("%d blocked", t.blocked))
	}
	if t.waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d not known yet", t.waiting))
	}
	var said []string
	if len(parts) > 0 {
		said = append(said, "Plan: "+strings.Join(parts, ", ")+".")
	}
	if t.unseen > 0 {
		said = append(said, fmt.Sprintf("Could not look at %d of %s.", t.unseen, count(t.items, "resource")))
	} else if len(t.blind) > 0 {
		said = append(said, "Could not look for what is no longer asked for in "+strings.Join(t.blind, ", ")+".")
	}
	if t.failed > 0 {
		said = append(said, fmt.Sprintf("Could not plan %d of %s.", t.failed, count(t.items, "resource")))
	}
	switch {
	case len(said) > 0:
		return strings.Join(said, " ")
	case t.paused > 0 && t.looked == 0:
		return "Nothing was looked at: the mode is paused."
	case t.paused > 0:
		return "Nothing to change in what was looked at."
	}
	return "Nothing to change."
}
