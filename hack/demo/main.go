// Command demo shows forged at work on the embedded sandbox: it starts two
// real control planes and the daemon, lets both environments of
// examples/forge.cue converge, then does what people do to clusters by hand
// and shows how each change is healed, by whom it was made, and how long it
// took. It ends with exit status 0 only if everything was healed.
//
// With -interactive it stops after the environments have converged and leaves
// everything running until Ctrl-C.
//
// With -fks it does the same with examples/fks.cue, from an organization at Fly
// that has nothing to an app on Fly Kubernetes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"forged.dev/forged/hack/child"
)

func main() {
	interactive := flag.Bool("interactive", false, "stay up for your own experiments instead of running the script")
	bin := flag.String("bin", "bin", "directory of the forged and forged-sandbox binaries")
	example := flag.String("example", "examples", "directory of the forge.cue to run")
	onFly := flag.Bool("fks", false, "show Fly Kubernetes")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	show := onClusters
	if *onFly {
		show = onFKS
	}
	err := run(ctx, os.Stdout, *bin, *example, *interactive, show)
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "demo: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run makes a place for what is to be shown.
func run(ctx context.Context, out io.Writer, bin, example string, interactive bool, show func(context.Context, *demo, bool) error) (err error) {
	dir, err := os.MkdirTemp("", "forged-demo-")
	if err != nil {
		return err
	}
	// Kept when something went wrong: the logs are in it.
	defer func() {
		if err == nil || errors.Is(err, context.Canceled) {
			err = errors.Join(err, os.RemoveAll(dir))
		} else {
			fmt.Fprintln(out, "\nThe logs are in", dir)
		}
	}()
	if err := os.CopyFS(filepath.Join(dir, "repo"), os.DirFS(example)); err != nil {
		return fmt.Errorf("copy %s: %w", example, err)
	}
	return show(ctx, &demo{out: out, dir: dir, bin: bin, config: filepath.Join(dir, "repo", "forge.cue"), began: time.Now()}, interactive)
}

func onClusters(ctx context.Context, d *demo, interactive bool) (err error) {
	d.title("A real control plane", "forged-sandbox starts etcd, kube-apiserver, controllers and simulated nodes, twice")
	sandbox, err := d.startSandbox(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Stop()) }()

	d.title("forged run", "the daemon reads forge.cue and makes both clusters what it says")
	daemon, err := d.startDaemon(ctx, "KUBECONFIG="+d.kubeconfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	if err := d.converge(ctx, daemon, 2); err != nil {
		return err
	}
	if interactive {
		return d.stay(ctx, sandbox, daemon)
	}
	err = d.play(ctx, d.editConfigMap, d.scaleDeployment, d.deleteService, d.helmUpgrade, d.breakAndMendConfig, d.metrics)
	if err != nil {
		return err
	}
	return d.end(daemon, sandbox)
}

func (d *demo) play(ctx context.Context, scenes ...func(context.Context) error) error {
	for _, scene := range scenes {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// end stops everything, and sums up.
func (d *demo) end(daemon *child.Daemon, sandbox *child.Child) error {
	d.title("A clean stop", "the daemon finishes what it is doing and leaves nothing behind")
	if err := daemon.Stop(); err != nil {
		return err
	}
	d.say("forged exited with status 0")
	if err := sandbox.Stop(); err != nil {
		return err
	}
	d.say("the sandbox is gone")
	d.summary()
	return nil
}
