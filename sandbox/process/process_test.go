package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forged.dev/forged/sandbox/process"
)

// bound is far above what anything here takes.
const bound = 30 * time.Second

// roles are what this test program does when it is started again as a child.
var roles = map[string]func(){
	// well-behaved: ready at once, ends when asked.
	"child": func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		process.Adopt().Ready()
		<-stop
	},
	// stubborn: does not end when asked.
	"stubborn": func() {
		signal.Ignore(syscall.SIGTERM)
		process.Adopt().Ready()
		select {}
	},
	// dying: ends by itself, with something to say.
	"dying": func() {
		process.Adopt()
		for i := range 100 {
			fmt.Println("line", i)
		}
		os.Exit(7)
	},
	// echo: copies the file it is given to its log.
	"echo": func() {
		child := process.Adopt()
		if _, err := io.Copy(os.Stdout, child.File(0)); err != nil {
			os.Exit(1)
		}
		child.Ready()
		select {}
	},
	// parent: has a child of its own and tells its process id.
	"parent": func() {
		p, err := start("child", os.Args[2])
		if err != nil {
			panic(err)
		}
		<-p.Ready()
		fmt.Println(p.PID())
		select {}
	},
	// watcher: ends with its parent, and tells when it is watching.
	"watcher": func() {
		gone := make(chan struct{})
		stop := process.WatchParent(func() { close(gone) })
		defer stop()
		fmt.Println(os.Getpid())
		<-gone
	},
	// middle: starts a watcher, whose parent it is.
	"middle": func() {
		command := exec.Command(os.Args[0], "watcher")
		command.Stdout = os.Stdout
		if err := command.Run(); err != nil {
			panic(err)
		}
	},
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			role()
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func start(role, log string, files ...*os.File) (*process.Process, error) {
	return process.Start(process.Spec{
		Name: role, Exe: os.Args[0], Args: []string{role}, Dir: filepath.Dir(log), Log: log, Files: files,
	})
}

func mustStart(t *testing.T, role string, files ...*os.File) *process.Process {
	t.Helper()
	p, err := start(role, filepath.Join(t.TempDir(), "log"), files...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(bound):
		t.Fatalf("%s: not within %s", what, bound)
	}
}

func TestStopIsNoFailure(t *testing.T) {
	p := mustStart(t, "child")
	within(t, "ready", p.Ready())
	p.Stop(bound)
	within(t, "done", p.Done())
	if err := p.Err(); err != nil {
		t.Errorf("after Stop: %v", err)
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	p := mustStart(t, "stubborn")
	within(t, "ready", p.Ready())
	p.Stop(100 * time.Millisecond)
	within(t, "done", p.Done())
}

func TestUnexpectedEndShowsTheLog(t *testing.T) {
	p := mustStart(t, "dying")
	within(t, "done", p.Done())
	var exit *process.ExitError
	if !errors.As(p.Err(), &exit) {
		t.Fatalf("got %v", p.Err())
	}
	if !strings.Contains(exit.How, "7") || !strings.HasSuffix(exit.Tail, "line 98\nline 99") {
		t.Errorf("got how %q, tail %q", exit.How, exit.Tail)
	}
	if strings.Contains(exit.Tail, "line 5\n") {
		t.Error("the tail is the whole log")
	}
	select {
	case <-p.Ready():
		t.Error("ready, but it never said so")
	default:
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	_, err := process.Start(process.Spec{
		Name: "ghost", Exe: "/no/such/program", Log: filepath.Join(t.TempDir(), "log"),
	})
	if err == nil || !strings.Contains(err.Error(), "ghost") {
		t.Errorf("got %v", err)
	}
}

func TestFilesAreHandedDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gift")
	if err := os.WriteFile(path, []byte("from the parent"), 0o600); err != nil {
		t.Fatal(err)
	}
	gift, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer gift.Close()
	log := filepath.Join(t.TempDir(), "log")
	p, err := start("echo", log, gift)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(0)
	within(t, "ready", p.Ready())
	if got, err := os.ReadFile(log); err != nil || string(got) != "from the parent" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A child goes when its parent is killed, which leaves the parent no time to do
// anything about it.
func TestChildDoesNotOutliveItsParent(t *testing.T) {
	orphaned(t, "parent", filepath.Join(t.TempDir(), "log"))
}

func TestWatchParent(t *testing.T) {
	orphaned(t, "middle")
}

func TestWatchParentCanBeEnded(t *testing.T) {
	stop := process.WatchParent(func() { t.Error("our parent is alive") })
	stop() // returns, which is the test
}

// orphaned runs a role that prints the id of a child of its own, kills the
// role's process, and wants the child gone too.
func orphaned(t *testing.T, args ...string) {
	t.Helper()
	parent := exec.Command(os.Args[0], args...)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = parent.Wait() }()
	defer func() { _ = parent.Process.Kill() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatal("the child is not there to begin with")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("process %d outlived its parent", pid)
		}
	}
}

// alive tells whether the process runs. One that has ended may still have an
// entry, if whoever inherited it does not collect it.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || !procMounted()
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func procMounted() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}
