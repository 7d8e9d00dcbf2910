// Command soak lets two forged keep an environment while everything is done to
// it that people and machines do: for as long as -for says, objects are edited,
// deleted, scaled, stripped of their ownership and taken over at random, others
// upgrade with helm, lines are cut, API servers and the forged that acts are
// killed, and forge.cue changes. In the end live has to be what it was in the
// beginning, data included, nothing foreign may have been touched, and forged's
// own verification must not have been surprised. The seed makes a run repeatable as far as time does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"forged.dev/forged/hack/child"
)

func main() {
	length := flag.Duration("for", 10*time.Minute, "how long")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what chance begins with")
	bin := flag.String("bin", "bin", "directory of the forged and forged-sandbox binaries")
	source := flag.String("repo", "hack/soak/repo", "directory of the forge.cue to run")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *bin, *source, *length, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, bin, source string, length time.Duration, seed uint64) (err error) {
	dir, err := os.MkdirTemp("", "forged-soak-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(dir)
		} else {
			fmt.Fprintln(out, "the logs are in", dir)
		}
	}()
	rest.SetDefaultWarningHandler(rest.NoWarnings{}) // people overlook them
	fmt.Fprintf(out, "soak for %s, -seed %d\n", length, seed)
	s := &soak{
		out: out, dir: dir, place: child.Place{Bin: bin, Logs: dir}, began: time.Now(),
		chance: rand.New(rand.NewPCG(seed, 0)), did: map[string]int{}, touched: map[string]int{},
	}
	if err := os.CopyFS(filepath.Join(dir, "repo"), os.DirFS(source)); err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	sandbox, err := s.startSandbox(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Stop()) }()
	for _, name := range []string{"forged-1", "forged-2"} {
		d, startErr := s.newDaemon(ctx, name)
		defer func() { err = errors.Join(err, d.close()) }()
		if startErr != nil {
			return startErr
		}
		s.daemons = append(s.daemons, d)
	}
	return s.soak(ctx, length)
}
