//go:build !race

package component

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"forged.dev/forged/sandbox/process"
)

// scheduler runs kube-scheduler without its port and without leader election.
// With the port gone nobody can ask it whether it is ready, so it says so itself.
func scheduler(child *process.Child, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	opts := options.NewOptions()
	flags := pflag.NewFlagSet("kube-scheduler", pflag.ContinueOnError)
	for _, set := range opts.Flags.FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := opts.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	config, sched, err := app.Setup(ctx, opts)
	if err != nil {
		return err
	}
	// Ends with ctx, or once the scheduler's caches are filled.
	go func() {
		if sched.WaitForHandlersSync(ctx) == nil {
			child.Ready()
		}
	}()
	err = app.Run(ctx, config, sched)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
