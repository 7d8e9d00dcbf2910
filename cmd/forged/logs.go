package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func newLogs(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "logs [RELEASE]",
		Short: "Show what the app has printed lately",
		Long: `Show the last lines that the pods of a release have printed, by default those of the
app; with --follow also what they print from now on. Secrets that are in the namespace
are taken out.

On Fly, and on Fly Kubernetes, where the log of one pod is that of all pods of the
namespace, Fly keeps the logs: it says how to see them there.`,
		Example: `  forged logs -e prod
  forged logs -e prod temporal --tail 100
  forged logs -e staging --follow`,
		Args: cobra.MaximumNArgs(1),
	}
	var flags configFlags
	flags.add(c)
	c.ValidArgsFunction = flags.completeReleases
	var follow bool
	var last int64
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is printed from now on")
	c.Flags().Int64VarP(&last, "tail", "n", 20, "last lines of each container")
	c.RunE = func(c *cobra.Command, args []string) error {
		if last < 0 {
			return &exit{usageCode(c), fmt.Errorf("--tail %d: want 0 or more lines", last)}
		}
		l, w, err := flags.look(c.Context(), s)
		if err != nil {
			return err
		}
		defer w.close()
		if len(l.generation.Environments) != 1 {
			return fmt.Errorf("logs is about one environment: name it with -e; there are %s", strings.Join(environmentsOf(l.generation), ", "))
		}
		env := l.generation.Environments[0]
		if hint := elsewhere(env); hint != "" {
			if len(args) > 0 && flyAppOf(env) == "" {
				if _, err := releasesOf(env, args); err != nil {
					return err
				}
			}
			p := newPrinter(s.out)
			p.wrapped(plain, "", hint)
			return p.err
		}
		if len(args) == 0 {
			args = []string{"app"}
		}
		return w.logs(c.Context(), env, args, last, follow, s)
	}
	return c
}

// elsewhere says where the logs of an environment are that is on Fly; empty: in
// its clusters.
func elsewhere(env reconcile.Environment) string {
	if app := flyAppOf(env); app != "" {
		return "Fly keeps the logs of " + env.Name + ": fly logs --app " + app
	}
	for _, r := range env.Resources {
		if spec, ok := r.Spec.(forge.FlyClusterSpec); ok {
			return "Fly keeps the logs of " + env.Name + ", since on Fly Kubernetes the log of one pod is that of all pods of the namespace: " +
				"fly logs --app APP, and with --machine those of one pod. APP is the app that the cluster runs in; forged status shows it as " +
				"output app of fly-cluster/" + r.ID.Name + ", and fly apps list --org " + spec.Account.Org + " as one that begins with fks-"
		}
	}
	return ""
}

func (w *world) logs(ctx context.Context, env reconcile.Environment, args []string, last int64, follow bool, s streams) error {
	releases, err := releasesOf(env, args)
	if err != nil {
		return err
	}
	cluster, objects, err := w.releases.Objects(ctx, releases[0])
	if err != nil {
		return err
	}
	p := newPrinter(s.out)
	heard, err := cluster.Logs(ctx, objects, last, follow, func(pod, container, line string) {
		p.line(plain, p.paint(dim, pod+" "+container+" | ")+line)
	})
	switch {
	case err != nil:
		return err
	case p.err != nil:
		return p.err
	case heard == 0:
		return fmt.Errorf("%s has no pods in %s; see forged status, or forged plan -e %s", releases[0].ID, objectOf(releases[0]), env.Name)
	}
	return nil
}
