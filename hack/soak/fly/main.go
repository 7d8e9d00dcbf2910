// Command fly is the soak of what forged does on Fly: two forged keep two
// environments on an emulator that listens and that is as strict as Fly about
// its limits, while everything is done to them that people, Fly and networks
// do. For as long as -for says, apps, secrets, addresses, certificates and
// users of databases are changed and deleted at random, answers are lost and
// late, tokens are revoked and renewed, forged are killed, and forge.cue
// changes. In the end everything has to be as forge.cue says, nothing may be
// there twice, nothing foreign may have been touched, Fly may never have said
// that there were too many requests, and no log may hold a secret. The seed
// makes a run repeatable as far as time does.
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

	"forged.dev/forged/hack/child"
)

func main() {
	length := flag.Duration("for", 10*time.Minute, "how long")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what chance begins with")
	bin := flag.String("bin", "bin", "directory of the forged binary")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *bin, *length, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, bin string, length time.Duration, seed uint64) (err error) {
	dir, err := os.MkdirTemp("", "forged-soak-fly-")
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
	fmt.Fprintf(out, "soak on Fly for %s, -seed %d\n", length, seed)
	s := &soak{
		out: out, dir: dir, place: child.Place{Bin: bin, Logs: dir}, began: time.Now(),
		chance: rand.New(rand.NewPCG(seed, 0)), did: map[string]int{}, token: firstToken, //nolint:gosec // chance that can be repeated
	}
	end, err := s.found(ctx, seed)
	if err != nil {
		return err
	}
	defer end()
	for _, name := range []string{"forged-1", "forged-2"} {
		d := &daemon{s: s, name: name}
		if err := d.start(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Stop()) }()
		s.daemons = append(s.daemons, d)
	}
	return s.soak(ctx, length)
}
