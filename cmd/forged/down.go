package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func newDown(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "down",
		Short: "Remove what forged made in one environment, but for its data",
		Long: `Show what would go, ask whether to go on, and remove what forged owns in one
environment: the other way round than it was made, and nothing that it does not own.

What holds data stays: volumes, databases, a cluster, Secrets that only the cluster
knows. It is listed, with how to remove it. --destroy-data removes it too, where
policy.destroyData is "with-token", with the tokens that the plan shows. A namespace
goes if forged made it and nothing is left in it.

Somebody who types down means it: mode, prune and maxDelete of the policy are not
looked at, windows are kept to. A forged that runs for the environment would put
everything back: while one acts, nothing is removed. forge.cue still asks for the
environment; take it out of there, or set its mode to paused.

It may be interrupted and run again.

Exit codes: 0 nothing is left but what stays, 1 an error, or the answer was no, 2
something is left that a policy or a person is in the way of.`,
		Example: `  forged down -e staging --dry-run
  forged down -e staging
  forged down -e staging --yes --destroy-data --approve 3fa9c1d27b04`,
		Args: noArguments("name the environment with --environment: COMMAND -e ARGUMENT"),
	}
	var o downOptions
	o.add(c)
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would go, and end")
	c.Flags().BoolVar(&o.destroy, "destroy-data", false, "remove data too, as far as --approve says")
	c.Flags().StringSliceVar(&o.approved, "approve", nil, "with --destroy-data: token of a step that may destroy data, as the plan shows it")
	c.Flags().DurationVar(&o.grace, "grace", 30*time.Second, "time to finish what is under way when stopping")
	output := choiceFlag(c, "output", "o", "form of the answer", "text", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.json = output.value == "json"
		switch {
		case len(o.approved) > 0 && !o.destroy:
			return &exit{usageCode(c), errors.New("--approve goes with --destroy-data")}
		case o.json && !o.yes && !o.dryRun:
			return &exit{usageCode(c), errors.New("-o json asks nobody: add --yes, or --dry-run")}
		}
		return o.run(c.Context(), s)
	}
	return c
}

// destroyWithToken is the value of policy.destroyData that lets data go.
const destroyWithToken = "with-token"

type downOptions struct {
	configFlags
	yes, dryRun, destroy, json bool
	approved                   []string
	grace                      time.Duration
}

func (o *downOptions) run(ctx context.Context, s streams) error {
	e, err := newEvaluator(false)
	if err != nil {
		return err
	}
	l, err := loadFile(ctx, e, o.configFlags, s)
	if err != nil {
		return err
	}
	if err := o.takeDown(l); err != nil {
		return err
	}
	level := slog.LevelInfo
	if o.dryRun {
		level = slog.LevelError
	}
	log := newLogger(s.err, "text", level)
	w, err := newWorld(worldOptions{dir: l.dir, instance: instanceOf(o.configFlags, l), log: log, grace: o.grace, approved: o.approved})
	if err != nil {
		return err
	}
	defer w.close()
	return o.with(ctx, w, l, log, s)
}

// takeDown has a generation ask for what a person has said.
func (o *downOptions) takeDown(l *loaded) error {
	envs := l.generation.Environments
	if len(envs) != 1 {
		return fmt.Errorf("down is about one environment: name it with -e; there are %s", strings.Join(environmentsOf(l.generation), ", "))
	}
	env := &envs[0]
	if o.destroy && env.Policy.DestroyData != destroyWithToken {
		return fmt.Errorf(`policy.destroyData of %s is %q: nothing destroys its data; with "with-token", --destroy-data does so with the tokens that the plan shows`,
			env.Name, env.Policy.DestroyData)
	}
	env.Down = true
	env.Policy.Mode, env.Policy.Prune, env.Policy.MaxDelete = forge.ModeApply, true, math.MaxInt
	return nil
}

func (o *downOptions) with(ctx context.Context, w *world, l *loaded, log *slog.Logger, s streams) error {
	p, err := w.engine.Plan(ctx, l.generation, nil)
	if err != nil {
		return err
	}
	env := p.Environments[0]
	t := &takedown{Environment: env.Name, Plan: p, DryRun: o.dryRun, Removed: []forge.ID{}, flags: o}
	t.Stays = t.planned(env)
	show := newPrinter(s.out)
	if o.json {
		show = newPrinter(discard{})
	}
	if err := t.showPlan(show, env); err != nil {
		return err
	}
	switch {
	case p.Failed():
		err = errors.New("not everything could be looked at, and nothing is removed before; the errors above say what")
		if o.json {
			err = errors.New("not everything could be looked at, and nothing is removed before; the plan says what")
		}
	case o.dryRun:
	case t.todo() == 0:
		err = t.verdict()
	default:
		if err := o.mayAct(ctx, w, l, env, s); err != nil {
			return err
		}
		err = t.carryOut(ctx, w, l, log, show)
	}
	if o.json {
		if jerr := writeJSON(s.out, t); jerr != nil {
			return jerr
		}
	}
	return err
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// mayAct makes sure that it is the time to act, that nobody else does, and that
// a person wants it.
func (o *downOptions) mayAct(ctx context.Context, w *world, l *loaded, env reconcile.EnvironmentPlan, s streams) error {
	if !env.Opens.IsZero() {
		return &exit{exitPending, fmt.Errorf("nothing may change before %s, by policy.windows", env.Opens.UTC().Format(time.RFC3339))}
	}
	who := newAsker(ctx, s, unchanged)
	if who == nil && !o.yes {
		return &exit{exitError, errors.New("there is nobody to ask: add --yes, or look with --dry-run")}
	}
	// Before the question: who has said yes is not to be told no.
	if err := w.take(ctx, l.generation.Environments[0], l.generation.Environments[0].Resources); err != nil {
		return err
	}
	if o.yes {
		return nil
	}
	return who.agree(ctx, "Take "+env.Name+" down?")
}

// take takes the leases of an environment where some of its resources are.
func (w *world) take(ctx context.Context, env reconcile.Environment, where []forge.Resource) error {
	for _, r := range where {
		lease, err := w.leases.Hold(ctx, env.Name, r)
		switch {
		case errors.Is(err, reconcile.ErrGone):
			// with its lease
		case err != nil:
			return err
		case !lease.Held:
			return acted(env.Name, lease.Holder)
		}
	}
	return nil
}

// acted says that another forged has an environment.
func acted(environment, holder string) error {
	return fmt.Errorf(`another forged acts on %s and would undo this: %s; stop it, or set policy.mode of %s to "paused" in its forge.cue, and run this again`,
		environment, holder, environment)
}
