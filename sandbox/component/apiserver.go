//go:build !race

package component

import (
	"fmt"
	"net"
	_ "time/tzdata" // time zones of CronJobs, also on a machine without zone files

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's own metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build version on /metrics
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	kcmapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"

	"forged.dev/forged/sandbox/process"
)

// apiServer serves on a listener inherited from the parent. The parent opened
// it and never lets go of it, so no other program can take the port between the
// choice and the use of it, however many sandboxes start at once.
func apiServer(child *process.Child, args []string) error {
	listener, err := net.FileListener(child.File(0))
	if err != nil {
		return fmt.Errorf("inherited listener: %w", err)
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	opts := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	named := opts.Flags()
	for _, set := range named.FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	opts.SecureServing.Listener = listener
	// No flag sets this one, which would outlast what the webhook's own says.
	if hook := opts.Authentication.WebHook; hook.ConfigFile != "" {
		opts.Authentication.TokenSuccessCacheTTL = hook.CacheTTL
	}
	if err := opts.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	ctx := genericapiserver.SetupSignalContext()
	completed, err := opts.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return utilerrors.NewAggregate(errs)
	}
	return app.Run(ctx, completed)
}

func controllerManager(_ *process.Child, args []string) error {
	command := kcmapp.NewControllerManagerCommand()
	command.SetArgs(args)
	return cli.RunNoErrOutput(command)
}
