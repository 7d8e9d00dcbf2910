//go:build !race

// Package component holds the parts of a control plane that the sandbox runs as
// child processes: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, and kwok in place of kubelets. The program starts itself once
// for each of them; Main is what it then does instead of reading a command line.
//
// It is the only package that links the Kubernetes servers, so that every other
// one builds and tests quickly. Under the race detector it is left out, and with
// it the program: compiling all of Kubernetes a second time, for tests that find
// nothing of ours in it, takes longer than everything else together. The tests
// that start clusters build the program without the detector.
package component

import (
	"fmt"
	"os"

	"forged.dev/forged/sandbox/process"
)

// Verb as first argument turns the program into a component; the component's
// name and its flags follow.
const Verb = "component"

// Main runs the component that args names and never returns. Call it first
// thing in main, with os.Args[2:], when os.Args[1] is Verb.
func Main(args []string) {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "no component named")
		os.Exit(2)
	}
	run, ok := map[string]func(*process.Child, []string) error{
		"etcd":                    etcd,
		"kube-apiserver":          apiServer,
		"kube-controller-manager": controllerManager,
		"kube-scheduler":          scheduler,
		"kwok":                    kwok,
	}[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "no component %q\n", args[0])
		os.Exit(2)
	}
	child := process.Adopt()
	if err := run(child, args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		os.Exit(1)
	}
	os.Exit(0)
}
