// Package process runs the parts of a sandbox as child processes, and makes
// sure that none of them outlives the sandbox.
//
// Three things hold a child to its parent. The kernel kills it when the parent
// dies (Linux only). The child reads its standard input, a pipe whose other end
// only the parent holds, and exits when that end closes (everywhere). And
// [Process.Stop] asks, waits for a bounded time, then kills.
//
// The parent's half is [Start] and [Process]; the child's half is [Adopt].
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Descriptors a child finds open besides the standard three.
const (
	readyFD = 3 // one byte written here means "I am ready"
	filesFD = 4 // Spec.Files from here on
)

// Spec says what to run.
type Spec struct {
	Name  string     // the part's name, for messages
	Exe   string     // the program
	Args  []string   // its arguments, without the program's own name
	Dir   string     // working directory
	Log   string     // file that receives standard output and standard error
	Files []*os.File // open files handed to the child; see [Child.File]
}

// Process is one running child.
type Process struct {
	spec    Spec
	cmd     *exec.Cmd
	life    *os.File // closing it tells the child that we are gone
	ready   chan struct{}
	done    chan struct{}
	asked   atomic.Bool // Stop was called, so an exit is no surprise
	waitErr error       // valid once done is closed
}

// Start runs the child. The caller ends it with [Process.Stop].
func Start(spec Spec) (*Process, error) {
	logFile, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	lifeChild, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer lifeChild.Close()
	ready, readyChild, err := os.Pipe()
	if err != nil {
		life.Close()
		return nil, err
	}
	defer readyChild.Close()

	cmd := exec.Command(spec.Exe, spec.Args...)
	cmd.Args[0] = "forged-sandbox" // readable in ps, whatever the path is
	cmd.Dir = spec.Dir
	cmd.Stdin = lifeChild
	cmd.Stdout = logFile
	cmd.Stderr = logFile
	cmd.ExtraFiles = append([]*os.File{readyChild}, spec.Files...)
	cmd.SysProcAttr = childAttr()

	p := &Process{
		spec:  spec,
		cmd:   cmd,
		life:  life,
		ready: make(chan struct{}),
		done:  make(chan struct{}),
	}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		ready.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go p.awaitReady(ready)
	return p, nil
}

// run starts the child and waits for its end. The kernel ties the "kill me when
// my parent dies" of the child to the thread that forked it, not to the whole
// process, so this goroutine keeps its thread for as long as the child lives.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer p.life.Close()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.waitErr = p.cmd.Wait()
	close(p.done)
}

// awaitReady ends when the child reports ready or exits: either ends the read.
func (p *Process) awaitReady(r *os.File) {
	defer r.Close()
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		close(p.ready)
	}
}

// Name is the part's name.
func (p *Process) Name() string { return p.spec.Name }

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ready is closed when the child has called [Child.Ready].
func (p *Process) Ready() <-chan struct{} { return p.ready }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how a child that nobody asked to stop came to its end. It is nil
// while the child runs and after [Process.Stop].
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.asked.Load() {
		return nil
	}
	how := "exit status 0"
	var exit *exec.ExitError
	switch {
	case errors.As(p.waitErr, &exit):
		how = exit.String()
	case p.waitErr != nil:
		how = p.waitErr.Error()
	}
	return &ExitError{Name: p.spec.Name, How: how, Log: p.spec.Log, Tail: tail(p.spec.Log)}
}

// Stop asks the child to end, kills it after grace, and returns when it is gone.
func (p *Process) Stop(grace time.Duration) {
	p.asked.Store(true)
	// An error means that the child has ended already, which Done tells too.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// ExitError is the unexpected end of a child.
type ExitError struct {
	Name string
	How  string // exit status or signal
	Log  string // path of the log file
	Tail string // its last lines
}

func (e *ExitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s ended unexpectedly (%s); see %s", e.Name, e.How, e.Log)
	if e.Tail != "" {
		b.WriteString("\nits last lines:")
		for line := range strings.Lines(e.Tail) {
			b.WriteString("\n    " + strings.TrimRight(line, "\n"))
		}
	}
	return b.String()
}
