//go:build !race

// Forged-sandbox runs real Kubernetes control planes on this machine, with
// nothing to install and nothing to download: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler are part of the program, kwok plays
// the nodes, and small controllers play the cloud. No container ever runs in it.
// An emulator of Fly stands beside them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/component-base/version"

	"forged.dev/forged/sandbox/component"
	"forged.dev/forged/sandbox/fks"
	"forged.dev/forged/sandbox/process"
	"forged.dev/forged/sandbox/up"
)

const usage = `forged-sandbox runs real Kubernetes control planes on this machine.

Usage:
  forged-sandbox up --dir DIR [flags]   start, and stay until Ctrl-C
  forged-sandbox restart --dir DIR      kill the API servers of one that runs, and
                                        start them again on the same data
  forged-sandbox version                print the Kubernetes version

Flags of up:
  --dir DIR            directory for data, logs and credentials (required)
  --clusters N         number of clusters (default 1); 0: Fly alone
  --nodes N            nodes per cluster (default 3)
  --fly-speed N        how much faster than Fly its emulator works (default 1)
  --fks N              clusters of Fly Kubernetes that there may be (default 0);
                       each starts when a kubernetes add-on is made
  --fks-way WAY        into them, as their kubeconfig has it: proxy (default), or
                       direct, a name that nobody resolves
  --fks-admission MODE what Fly does not support: ignore (default), pods come
                       without it; or reject, it is refused
  --keep               keep the data for the next time; otherwise they are
                       discarded on stop
  --quiet              print errors only
  --exit-with-parent   stop when the process that started this one ends

When everything answers, DIR holds
  kubeconfig   contexts cluster-1, cluster-2, ...
  env          a file for the shell to source: KUBECONFIG, and FLY_* for an
               emulator of Fly with the organization acme; with --fks, the proxy
               that leads to what runs there, as FORGED_SANDBOX_PROXY
  ca.crt       with --fks: by which Fly's public names are known behind it
  ready        exists for as long as the clusters can be used
  logs/        one log per component, also after the end

Examples:
  forged-sandbox up --dir /tmp/sandbox
  forged-sandbox up --dir /tmp/sandbox --clusters 2 --keep
  . /tmp/sandbox/env && kubectl --context cluster-1 get nodes
  forged-sandbox up --dir /tmp/sandbox --clusters 0 --fks 2 --fly-speed 60
`

func main() {
	if len(os.Args) > 1 && os.Args[1] == component.Verb {
		component.Main(os.Args[2:])
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch args[0] {
	case "up":
		return runUp(args[1:], stdout, stderr)
	case "restart":
		return runRestart(args[1:], stdout, stderr)
	case "version", "--version":
		fmt.Fprintf(stdout, "forged-sandbox, Kubernetes %s\n", version.Get().GitVersion)
		return 0
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "forged-sandbox: no command %q\n\n%s", args[0], usage)
	return 2
}

func runUp(args []string, stdout, stderr io.Writer) int {
	opts := up.Options{Out: stdout}
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // we print the error and our own usage
	flags.StringVar(&opts.Dir, "dir", "", "")
	flags.IntVar(&opts.Clusters, "clusters", 1, "")
	flags.IntVar(&opts.Nodes, "nodes", 3, "")
	flags.Float64Var(&opts.FlySpeed, "fly-speed", 1, "")
	flags.IntVar(&opts.FKS, "fks", 0, "")
	flags.StringVar(&opts.FKSWay, "fks-way", fks.WayProxy, "")
	flags.StringVar(&opts.FKSAdmission, "fks-admission", fks.AdmissionIgnore, "")
	flags.BoolVar(&opts.Keep, "keep", false, "")
	flags.BoolVar(&opts.Quiet, "quiet", false, "")
	withParent := flags.Bool("exit-with-parent", false, "")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err == nil && opts.Dir == "" {
		err = errors.New("--dir is required")
	}
	if err != nil {
		fmt.Fprintf(stderr, "forged-sandbox up: %v\n\n%s", err, usage)
		return 2
	}
	if opts.Command, err = self(); err != nil {
		fmt.Fprintf(stderr, "forged-sandbox: %v\n", err)
		return 1
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if *withParent {
		defer process.WatchParent(cancel)()
	}
	// Nobody has to read our progress to the end: the writes fail, no more.
	signal.Ignore(syscall.SIGPIPE)
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // it is, under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, ends...)
	defer stop()
	// From the first signal on, a second one ends this process at once; the
	// children then go with it.
	defer context.AfterFunc(ctx, stop)()

	restart := make(chan os.Signal, 1)
	signal.Notify(restart, up.RestartSignal)
	defer signal.Stop(restart)
	opts.Restart = restart

	if err := up.Run(ctx, opts); err != nil {
		fmt.Fprintf(stderr, "forged-sandbox: %v\n", err)
		return 1
	}
	return 0
}

// runRestart returns when the API servers answer again.
func runRestart(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("restart", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("dir", "", "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err == nil && *dir == "":
		err = errors.New("--dir is required")
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "forged-sandbox restart: %v\n\n%s", err, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := up.Restart(ctx, *dir); err != nil {
		fmt.Fprintf(stderr, "forged-sandbox: %v\n", err)
		return 1
	}
	return 0
}

// self is the command that runs this program again as a component.
func self() ([]string, error) {
	// The link leads to the running program even after a new build took its path.
	const link = "/proc/self/exe"
	if _, err := os.Stat(link); err == nil {
		return []string{link, component.Verb}, nil
	}
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return []string{path, component.Verb}, nil
}
