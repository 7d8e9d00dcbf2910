package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/forge"
)

func newApply(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "apply",
		Short: "Show what would change, ask, and change it",
		Long: `Show the plan, ask whether to go on, and bring every environment to where forge.cue
wants it. What waits for something that is made on the way is planned then, and follows.

Somebody who types apply means it: an environment in the modes observe and heal is
treated as one in the mode apply, this once. One that is paused stays as it is, windows
are kept to, and data is destroyed only with a token, as the plan shows it.

Exit codes: 0 everything is as it should be, 1 an error, or the answer was no, 2
something is left to do that a policy does not allow.`,
		Example: `  forged apply
  forged apply -e staging --yes
  forged apply -e prod --approve 3fa9c1d27b04`,
		Args: noArguments("name the forge with --config: COMMAND -c ARGUMENT"),
	}
	var flags configFlags
	flags.add(c)
	var yes bool
	var approved []string
	var grace time.Duration
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().StringSliceVar(&approved, "approve", nil, "token of a step that may destroy data, as the plan shows it")
	c.Flags().DurationVar(&grace, "grace", 30*time.Second, "time to finish what is under way when stopping")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx := c.Context()
		e, err := newEvaluator(false)
		if err != nil {
			return err
		}
		l, err := loadFile(ctx, e, flags, s)
		if err != nil {
			return err
		}
		for i := range l.generation.Environments {
			if policy := &l.generation.Environments[i].Policy; policy.Mode != forge.ModePaused {
				policy.Mode = forge.ModeApply
			}
		}
		log := newLogger(s.err, "text", slog.LevelInfo)
		w, err := l.begin(ctx, worldOptions{dir: l.dir, instance: instanceOf(flags, l), log: log, grace: grace, approved: approved}, s)
		if err != nil {
			return err
		}
		defer w.close()
		l.warn(s)
		p, err := w.engine.Plan(ctx, l.generation, nil)
		if err != nil {
			return err
		}
		if err := showPlan(newPrinter(s.out), p); err != nil {
			return err
		}
		if !p.Changes() && !p.Failed() {
			return nil
		}
		if !yes {
			who := newAsker(ctx, s, unchanged)
			if who == nil {
				return &exit{usageCode(c), errors.New("there is nobody to ask: add --yes, or look with forged plan")}
			}
			if err := who.agree(ctx, "Do it?"); err != nil {
				return err
			}
		}
		return converge(ctx, w, l, log, s)
	}
	return c
}

const unchanged = "nothing was changed"

// agree asks for a yes; anything else is an error.
func (a *asker) agree(ctx context.Context, question string) error {
	yes := []string{"y", "yes"}
	answer, err := a.ask(question+" (yes or no)", "no", func(answer string) error {
		if !slices.Contains([]string{"y", "yes", "n", "no"}, strings.ToLower(answer)) {
			return fmt.Errorf("%q is neither yes nor no", answer)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case !slices.Contains(yes, strings.ToLower(answer)):
		return errors.New(unchanged + ", as you said")
	}
	return nil
}
