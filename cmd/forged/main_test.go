package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"forged.dev/forged/internal/sandboxtest"
)

var update = flag.Bool("update", false, "write docs/reference/cli.md and the expectations of the scripts")

func TestMain(m *testing.M) {
	testscript.Main(besideSandbox{m}, map[string]func(){"forged": main})
}

// besideSandbox stops the sandbox of the tests that need one after the tests.
type besideSandbox struct{ *testing.M }

func (b besideSandbox) Run() int { return sandboxtest.Main(b.M) }

// TestScripts runs testdata/script/*.txtar against the real program.
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			env.Values[flyValue{}] = &flyPlace{}
			env.Values[fksValue{}] = &fksPlace{t: env.T().(testing.TB)}
			env.Values[clusterValue{}] = &clusterPlace{t: env.T().(testing.TB)}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "port": cmdPort, "await": cmdAwait, "fly": cmdFly, "fks": cmdFKS, "cluster": cmdCluster,
		},
	})
}

// cmdExits runs a program and wants its exit code: exits CODE PROGRAM ARG...
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdPort puts the address of a free port into a variable: port NAME
func cmdPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port NAME")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], ln.Addr().String())
	ts.Check(ln.Close())
}

// awaitLimit is how long await waits.
const awaitLimit = time.Minute

// cmdAwait runs a program again and again until its standard output matches,
// or, with !, until it no longer does: await PATTERN PROGRAM ARG...
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] await PATTERN PROGRAM [ARG...]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), awaitLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && pattern.MatchString(ts.ReadFile("stdout")) != neg {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("not within %s: %s (%v)", awaitLimit, args[0], err)
		}
	}
}

// TestReference keeps docs/reference/cli.md current. Run with -update after a
// change.
func TestReference(t *testing.T) {
	const file = "../../docs/reference/cli.md"
	got := cliReference(newRoot(streams{}))
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not current; run go test ./cmd/forged -update\n%s", file, d)
	}
}

// TestStartIsCheap: every command line pays for what all commands together do
// before one of them is chosen. Allocations stand for time, which the machine
// has a say in.
func TestStartIsCheap(t *testing.T) {
	const most = 10_000
	if n := testing.AllocsPerRun(3, func() { newRoot(streams{}) }); n > most {
		t.Errorf("%.0f allocations before anything is done; do it when it is needed", n)
	}
}

// TestHelp: every command has an example, and its help fits the screen.
func TestHelp(t *testing.T) {
	for _, c := range newRoot(streams{}).Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue // cobra's own
		}
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, line := range strings.Split(c.UsageString()+c.Long, "\n") {
			if width(line) > columns {
				t.Errorf("%s: %d columns: %s", c.CommandPath(), width(line), line)
			}
		}
	}
}
