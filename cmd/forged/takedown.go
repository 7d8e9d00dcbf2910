package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// takedown is what becomes of an environment that is taken down, as -o json
// shows it.
type takedown struct {
	Environment string                      `json:"environment"`
	DryRun      bool                        `json:"dryRun,omitempty"`
	Plan        *reconcile.Plan             `json:"plan"`
	Removed     []forge.ID                  `json:"removed"`
	Stays       []stay                      `json:"stays"`           // by rule; as planned, or as it is when all is done
	Left        []*reconcile.ResourceStatus `json:"left,omitempty"`  // not removed, although it may be
	Error       *reconcile.ErrorStatus      `json:"error,omitempty"` // what is owned could not be listed
	flags       *downOptions
	done        map[forge.ID]bool
}

// stay is something that stays, and why.
type stay struct {
	ID     forge.ID `json:"id"` // of the resource that it belongs to
	Object string   `json:"object"`
	Why    string   `json:"why"`
	Remove string   `json:"remove,omitempty"`
	token  string   // that lets it be destroyed
	person bool     // somebody has to do something about it before it can go
}

// Why something stays.
const (
	isKept    = "it is kept"
	holdsData = "it holds data"
)

// keptBack are the resources that stay for the sake of others that need them
// and stay.
func keptBack(items []reconcile.Item) map[forge.ID]forge.ID {
	kept := map[forge.ID]forge.ID{}
	for again := true; again; {
		again = false
		for _, i := range items {
			if _, stays := kept[i.ID]; !stays && !holdsOut(i) {
				continue
			}
			for _, need := range i.Needs {
				if _, known := kept[need]; !known {
					kept[need], again = i.ID, true
				}
			}
		}
	}
	return kept
}

// holdsOut tells whether something of a resource is not removed. A namespace is
// left out: what is in it may go meanwhile.
func holdsOut(i reconcile.Item) bool {
	return i.ID.Kind != forge.KindNamespace && slices.ContainsFunc(i.Steps, blocked)
}

func blocked(s reconcile.Step) bool { return s.Blocked != "" }

// todo is how many steps would be carried out.
func (t *takedown) todo() (n int) {
	items := t.Plan.Environments[0].Items
	kept := keptBack(items)
	for _, i := range items {
		if _, stays := kept[i.ID]; stays {
			continue
		}
		for _, s := range i.Steps {
			if !blocked(s) {
				n++
			}
		}
	}
	return n
}

// planned is what will stay.
func (t *takedown) planned(env reconcile.EnvironmentPlan) []stay {
	all := []stay{}
	kept := keptBack(env.Items)
	for _, i := range env.Items {
		if by, stays := kept[i.ID]; stays && !holdsOut(i) {
			all = append(all, stay{ID: i.ID, Object: i.ID.String(), Why: "until " + by.String() + ", which needs it, is gone"})
			continue
		}
		for _, s := range i.Steps {
			all = append(all, t.stays(i.ID, s)...)
		}
	}
	return all
}

// stays is what a step leaves: what it says it does, and all if it is blocked.
func (t *takedown) stays(id forge.ID, s reconcile.Step) (all []stay) {
	for _, left := range s.Stays {
		all = append(all, stay{ID: id, Object: left.Object, Why: isKept, Remove: left.Remove})
	}
	switch {
	case !blocked(s):
	case len(s.Destroys) > 0:
		for _, data := range s.Destroys {
			all = append(all, stay{ID: id, Object: data, Why: holdsData, Remove: t.destroying(s.Approve), token: s.Approve})
		}
	case id.Kind == forge.KindNamespace && !t.bare():
		// What is in it now may go; what does not is listed by itself.
	default:
		object := s.Object
		if object == "" {
			object = id.String()
		}
		all = append(all, stay{ID: id, Object: object, Why: s.Blocked, person: id.Kind != forge.KindNamespace})
	}
	return all
}

// bare tells that there is nothing to do but with namespaces.
func (t *takedown) bare() bool { return t.done != nil || t.todo() == 0 }

// destroying is the command that destroys the data of the step with a token.
func (t *takedown) destroying(token string) string {
	command := "forged down" + t.flags.given() + " -e " + t.Environment + " --destroy-data"
	if token != "" {
		return command + " --approve " + token
	}
	return command + `, with policy.destroyData: "with-token"`
}

func (t *takedown) showPlan(p *printer, env reconcile.EnvironmentPlan) error {
	p.line(bold, fmt.Sprintf("%s  %s %s, to be taken down", env.Name, env.Platform, env.Target))
	shown := showTroubles(p, env, map[trouble]string{})
	kept := keptBack(env.Items)
	for _, item := range env.Items {
		if _, stays := kept[item.ID]; shown[item.ID] || stays || len(item.Steps) == 0 && item.Error == nil {
			continue
		}
		steps := item.Steps
		item.Steps = nil
		for _, s := range steps {
			switch {
			case !blocked(s):
			case item.ID.Kind == forge.KindNamespace && !t.bare():
				s.Blocked, s.Reason.Text = "", "if nothing is left in it then"
			default:
				continue // listed below
			}
			item.Steps = append(item.Steps, s)
		}
		if len(item.Steps) > 0 || item.Error != nil {
			showItem(p, item)
		}
	}
	t.showStays(p, t.DryRun || t.todo() == 0)
	p.whence()
	p.line(plain, "")
	switch n := t.todo(); {
	case t.Plan.Failed():
	case n == 0:
		p.line(bold, "Nothing to remove.")
	case len(t.Stays) == 0:
		p.line(bold, fmt.Sprintf("Down: %s.", count(n, "step")))
	default:
		p.line(bold, fmt.Sprintf("Down: %s; %d stay.", count(n, "step"), len(t.Stays)))
	}
	return p.err
}

// showStays lists what stays; with commands, also how to remove it.
func (t *takedown) showStays(p *printer, commands bool) {
	if len(t.Stays) == 0 {
		return
	}
	var tokens []string
	p.line(plain, "")
	p.line(bold, "  stays:")
	for _, s := range t.Stays {
		p.wrapped(yellow, "    = ", s.Object+": "+s.Why)
		if s.Remove != "" && commands {
			p.line(dim, "        "+s.Remove) // in one piece, to be copied
			p.notice(s.Remove)
		}
		if s.token != "" && !slices.Contains(tokens, s.token) {
			tokens = append(tokens, s.token)
		}
	}
	if len(tokens) > 1 && commands {
		p.line(plain, "  all of the data that has a token:")
		p.line(dim, "        "+t.destroying(strings.Join(tokens, ",")))
	}
}

// carryOut removes what is to be removed, and shows what came of it.
func (t *takedown) carryOut(ctx context.Context, w *world, l *loaded, log *slog.Logger, p *printer) error {
	watching, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() { defer close(told); tellProgress(watching, w.engine, log) }()
	status, err := w.engine.Converge(ctx, l.generation)
	stop()
	<-told
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted before everything was removed; run it again")
	case err != nil:
		return err
	}
	env := status.Environments[0]
	t.settle(env)
	if lease := env.Lease; lease != nil && lease.Holder != "" {
		return acted(env.Name, lease.Holder)
	}
	p.line(plain, "")
	p.line(bold, fmt.Sprintf("Removed %s of %s.", count(len(t.Removed), "resource"), env.Name))
	t.showStays(p, true)
	if env.Error != nil {
		showError(p, "  ", env.Error)
	}
	for _, r := range t.Left {
		showDetail(p, r, time.Now())
	}
	p.whence()
	p.line(plain, "")
	p.wrapped(plain, "", "forge.cue still asks for "+env.Name+`: take it out of there, or set its policy.mode to "paused", unless it is to come back`)
	if p.err != nil {
		return p.err
	}
	return t.verdict()
}

// settle sorts what is left into what stays and what should have gone.
func (t *takedown) settle(env reconcile.EnvironmentStatus) {
	left := map[forge.ID]*reconcile.ResourceStatus{}
	for _, r := range env.Resources {
		left[r.ID] = r
	}
	t.done, t.Removed, t.Error = map[forge.ID]bool{}, []forge.ID{}, env.Error
	var stays []stay
	for _, i := range t.Plan.Environments[0].Items {
		if left[i.ID] == nil {
			t.done[i.ID] = true
			t.Removed = append(t.Removed, i.ID)
			for _, s := range t.Stays {
				if s.ID == i.ID && s.Why == isKept {
					stays = append(stays, s)
				}
			}
		}
	}
	for _, r := range env.Resources {
		switch r.State {
		case reconcile.StateBlocked, reconcile.StateOrphaned:
			stays = append(stays, t.staying(r)...)
		default:
			t.Left = append(t.Left, r)
		}
	}
	t.Stays = stays
}

// staying is what is left of a resource that stays.
func (t *takedown) staying(r *reconcile.ResourceStatus) (all []stay) {
	if r.State == reconcile.StateOrphaned {
		return []stay{{ID: r.ID, Object: r.ID.String(), Why: strings.TrimPrefix(r.Message, "not removed yet: ")}}
	}
	for _, s := range r.Steps {
		step := reconcile.Step{ID: r.ID, Object: s.Object, Destroys: s.Destroys, Blocked: s.Blocked, Approve: s.Approve}
		all = append(all, t.stays(r.ID, step)...)
	}
	return all
}

func (t *takedown) verdict() error {
	switch {
	case t.Error != nil:
		return errors.New("what is owned could not be listed, and nothing is removed before; the log says why")
	case len(t.Left) > 0:
		return fmt.Errorf("%s could not be removed; run it again", count(len(t.Left), "resource"))
	case slices.ContainsFunc(t.Stays, func(s stay) bool { return s.person || t.flags.destroy && s.Why == holdsData }):
		return &exit{exitPending, nil}
	}
	return nil
}
