package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func newRollback(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "rollback [RELEASE]",
		Short: "Put the app back to an earlier revision, for now",
		Long: `Put a release back to an earlier revision, by default the app to the one before: the
same objects, from Helm's record, with the hooks of a rollback. The plan is shown and a
question asked first. forged history shows the revisions. Data is not put back.

forge.cue still asks for what it asks for: the next forged apply, or a forged that runs
in mode apply, rolls it out again. Change forge.cue to the version that is to stay. While
a forged acts on the environment, nothing is put back.

Exit codes: 0 it is put back, 1 an error, or the answer was no, 2 it cannot be done, by a
policy.`,
		Example: `  forged history -e prod app
  forged rollback -e prod
  forged rollback -e prod --to 4 --yes`,
		Args: cobra.MaximumNArgs(1),
	}
	var o rollbackOptions
	o.add(c)
	c.ValidArgsFunction = o.completeReleases
	c.Flags().IntVar(&o.to, "to", 0, "revision to go back to; 0: the one before")
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would change, and end")
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.to < 0 {
			return &exit{usageCode(c), fmt.Errorf("--to %d is no revision", o.to)}
		}
		return o.run(c.Context(), args, s)
	}
	return c
}

type rollbackOptions struct {
	configFlags
	to          int
	yes, dryRun bool
}

func (o *rollbackOptions) run(ctx context.Context, args []string, s streams) error {
	l, w, err := o.look(ctx, s)
	if err != nil {
		return err
	}
	defer w.close()
	if len(l.generation.Environments) != 1 {
		return fmt.Errorf("rollback is about one environment: name it with -e; there are %s", strings.Join(environmentsOf(l.generation), ", "))
	}
	env := l.generation.Environments[0]
	if len(args) == 0 {
		args = []string{"app"}
	}
	releases, err := releasesOf(env, args)
	if err != nil {
		return err
	}
	there, err := w.survey(ctx, l, env.Name)
	switch {
	case err != nil:
		return err
	case there.absent:
		return errors.New(noCluster)
	}
	release := releases[0]
	step, number, err := w.releases.PlanReturn(ctx, release, env.Policy, o.to)
	if err != nil {
		return err
	}
	p := newPrinter(s.out)
	p.line(bold, fmt.Sprintf("%s  %s %s", env.Name, env.Platform, env.Target))
	showItem(p, reconcile.Item{ID: release.ID, Exists: true, Steps: []reconcile.Step{step}})
	if p.err != nil || o.dryRun {
		return p.err
	}
	if why := forbidden(step, env.Policy, there.opens); why != "" {
		return &exit{exitPending, errors.New(why)}
	}
	who := newAsker(ctx, s, unchanged)
	if who == nil && !o.yes {
		return errors.New("there is nobody to ask: add --yes, or look with --dry-run")
	}
	if err := w.take(ctx, env, []forge.Resource{release}); err != nil {
		return err
	}
	if !o.yes {
		if err := who.agree(ctx, fmt.Sprintf("Put %s back to revision %d?", release.ID, number)); err != nil {
			return err
		}
	}
	if err := w.releases.Return(ctx, release, env.Policy, step, number); err != nil {
		return err
	}
	p.line(plain, "")
	p.line(bold, fmt.Sprintf("%s is put back to what revision %d was.", release.ID, number))
	p.wrapped(yellow, "", `forge.cue still asks for what it asked for: forged apply, and a forged that runs in mode "apply", roll that out again. `+
		`Change forge.cue to the version that is to stay (app.image.tag, for example), or set policy.mode of `+env.Name+` to "heal" until then.`)
	return p.err
}

// forbidden says which policy keeps a release from being put back.
func forbidden(step reconcile.Step, policy forge.Policy, opens time.Time) string {
	switch {
	case step.Blocked != "":
		return step.Blocked
	case len(step.Destroys) > 0:
		return "this would destroy data, which a rollback never does: " + strings.Join(step.Destroys, ", ")
	case step.Deletes > policy.MaxDelete:
		return fmt.Sprintf("%d objects would be deleted, policy.maxDelete is %d", step.Deletes, policy.MaxDelete)
	case !opens.IsZero():
		return "nothing may change before " + opens.UTC().Format(time.RFC3339) + ", by policy.windows"
	}
	return ""
}
