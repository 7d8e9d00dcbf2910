// Command fks is the soak of what forged does on Fly Kubernetes: two forged keep
// one environment in the sandbox, with a cluster, a database and a cache of Fly's,
// while everything is done to both sides of it. For as long as -for says, objects
// in the cluster and things at Fly are changed and deleted at random, tokens end
// and are revoked, each forged is cut off from Fly for a while, API servers and
// forged are killed, and forge.cue changes. In the end everything has to be as it
// was, nothing may be there twice, one forged has to act, and no log may hold a
// secret. The seed makes a run repeatable as far as time does.
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
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"forged.dev/forged/hack/child"
)

func main() {
	length := flag.Duration("for", 10*time.Minute, "how long")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what chance begins with")
	bin := flag.String("bin", "bin", "directory of the forged and forged-sandbox binaries")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *bin, *length, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, bin string, length time.Duration, seed uint64) (err error) {
	dir, err := os.MkdirTemp("", "forged-soak-fks-")
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
	fmt.Fprintf(out, "soak on Fly Kubernetes for %s, -seed %d\n", length, seed)
	s := &soak{
		out: out, dir: dir, place: child.Place{Bin: bin, Logs: dir}, began: time.Now(),
		chance: rand.New(rand.NewPCG(seed, 0)), did: map[string]int{}, //nolint:gosec // chance that can be repeated
	}
	sandbox, err := s.found(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Stop()) }()
	for _, name := range []string{"forged-1", "forged-2"} {
		d, startErr := s.newDaemon(ctx, name)
		if d != nil {
			defer func() { err = errors.Join(err, d.close()) }()
		}
		if startErr != nil {
			return startErr
		}
		s.daemons = append(s.daemons, d)
	}
	return s.soak(ctx, length)
}
