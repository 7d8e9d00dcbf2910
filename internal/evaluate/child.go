package evaluate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

const (
	// maxAnswer bounds what a child may say, in bytes: a thousand environments
	// are a tenth of it.
	maxAnswer = 64 << 20
	// maxComplaint bounds what is kept of what a dying child writes.
	maxComplaint = 16 << 10
	// startGrace is the time a child has for everything but the evaluation.
	// It watches itself, so this runs out only when it cannot.
	startGrace = 10 * time.Second
)

// apart evaluates in a child process. Whatever becomes of the child, this
// process goes on and holds nothing of it.
func (e *Evaluator) apart(ctx context.Context, src schema.Source, bounds Bounds) (*forge.Forge, schema.Diagnostics, error) {
	cancelled := func() error { return fmt.Errorf("read %s: %w", src.Name(), context.Cause(ctx)) }
	fail := func(err error) (*forge.Forge, schema.Diagnostics, error) {
		return nil, nil, &UnjudgedError{src.Name(), err}
	}
	if ctx.Err() != nil {
		return nil, nil, cancelled()
	}
	binary, err := self()
	if err != nil {
		return fail(fmt.Errorf("start a process for its evaluation: %w", err))
	}
	limited, cancel := context.WithTimeout(ctx, bounds.Time+startGrace)
	defer cancel()
	cmd := exec.CommandContext(limited, binary, e.Args...)
	// Tests find out by this name what they are to play.
	cmd.Args[0] = os.Args[0]
	cmd.Env = childEnvironment()
	// A signal from the terminal is for the parent, which ends its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, complaint := &bounded{most: cmp.Or(e.maxAnswer, maxAnswer)}, &bounded{most: maxComplaint}
	cmd.Stdout, cmd.Stderr = out, complaint
	cmd.WaitDelay = time.Second
	// The pipe stays open: its end tells the child that this process is gone.
	in, err := cmd.StdinPipe()
	if err != nil {
		return fail(fmt.Errorf("start a process for its evaluation: %w", err))
	}
	if err := cmd.Start(); err != nil {
		return fail(fmt.Errorf("start a process for its evaluation: %w", err))
	}
	if e.spawned != nil {
		e.spawned(cmd.Process.Pid)
	}
	asked := ask(in, question{Source: src, Bounds: bounds})
	waited := cmd.Wait()
	switch a, err := parseAnswer(out.text); {
	case ctx.Err() != nil:
		return nil, nil, cancelled()
	case waited == nil && asked == nil && err == nil:
		return a.forge, a.diagnostics, a.err
	case limited.Err() != nil:
		return nil, nil, tooLong(src, bounds)
	case out.over:
		return nil, nil, fmt.Errorf("read %s: it comes to more than %s", src.Name(), size(uint64(out.most)))
	case waited == nil:
		return fail(fmt.Errorf("the process that evaluates it made no sense: %w", errors.Join(asked, err)))
	}
	return nil, nil, died(src, bounds, cmd.ProcessState, string(complaint.text))
}

// childEnvironment is all that a child gets to know: no secret is in it, and
// an evaluation depends on nothing.
func childEnvironment() []string {
	env := []string{
		"GOTRACEBACK=none", // of a stack that overflowed, one line is enough
		"GOGC=off",         // for the start; Serve turns it on
	}
	// For programs that are built for testing.
	for _, name := range []string{"GOCOVERDIR", "GORACE"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// died explains the end of a child that gave no answer.
func died(src schema.Source, bounds Bounds, state *os.ProcessState, complaint string) error {
	if strings.Contains(complaint, "stack overflow") || strings.Contains(complaint, "stack exceeds") {
		return fmt.Errorf("read %s: its evaluation nests too deep; look for fields that refer to each other in a long chain, and for templates with many levels", src.Name())
	}
	// The last of them is what a build with cgo says when the system refuses a
	// stack for a thread.
	for _, words := range []string{"out of memory", "cannot allocate memory", "pthread_create failed"} {
		if strings.Contains(complaint, words) {
			return tooLarge(src, bounds)
		}
	}
	if peak(state) >= bounds.Memory {
		return tooLarge(src, bounds) // whatever it says
	}
	if s, ok := state.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		hint := ""
		if s.Signal() == syscall.SIGKILL {
			hint = "; the system does that when it runs out of memory"
		}
		return &UnjudgedError{src.Name(), fmt.Errorf("the process that evaluates it was ended by a signal (%s)%s", s.Signal(), hint)}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(complaint), "\n")
	if first == "" {
		first = "it said nothing"
	}
	return &UnjudgedError{src.Name(), fmt.Errorf("the process that evaluates it ended with %s: %s", state, first)}
}

// bounded keeps the beginning of what is written to it. More than that is
// refused, which ends the writer.
type bounded struct {
	text []byte
	most int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.most-len(b.text))
	b.text = append(b.text, p[:n]...)
	if n < len(p) {
		b.over = true
		return n, io.ErrShortWrite
	}
	return n, nil
}
