// Command demo shows forged at work on the embedded sandbox: it starts two
// real control planes and the daemon, lets both environments of
// examples/forge.cue converge, then does what people do to clusters by hand
// and shows how each change is healed, by whom it was made, and how long it
// took. It ends with exit status 0 only if everything was healed.
//
// With -interactive it stops after the environments have converged and leaves
// everything running until Ctrl-C.
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
)

func main() {
	interactive := flag.Bool("interactive", false, "stay up for your own experiments instead of running the script")
	bin := flag.String("bin", "bin", "directory of the forged and forged-sandbox binaries")
	example := flag.String("example", "examples", "directory of the forge.cue to run")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Stdout, *bin, *example, *interactive)
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

func run(ctx context.Context, out io.Writer, bin, example string, interactive bool) (err error) {
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
	d := &demo{out: out, dir: dir, bin: bin, config: filepath.Join(dir, "repo", "forge.cue"), began: time.Now()}

	d.title("A real control plane", "forged-sandbox starts etcd, kube-apiserver, controllers and simulated nodes, twice")
	sandbox, err := d.startSandbox(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Stop()) }()

	d.title("forged run", "the daemon reads forge.cue and makes both clusters what it says")
	daemon, err := d.startDaemon(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	if err := d.converge(ctx, daemon); err != nil {
		return err
	}
	if interactive {
		return d.stay(ctx, sandbox, daemon)
	}
	for _, scene := range []func(context.Context) error{
		d.editConfigMap, d.scaleDeployment, d.deleteService, d.helmUpgrade, d.breakAndMendConfig, d.metrics,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
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
