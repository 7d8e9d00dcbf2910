package apart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// maxComplaint bounds what is kept of what a dying child writes.
	maxComplaint = 16 << 10
	// startGrace is the time a child has for everything but the work. It
	// watches itself, so this runs out only when it cannot.
	startGrace = 10 * time.Second
)

// Process is a child to be, of this binary.
type Process struct {
	Args    []string // by which the binary knows what it is to do
	Bounds  Bounds   // as Effective gives them
	Started func(pid int)
}

// StartError says that there is no child.
type StartError struct{ Err error }

func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap implements errors.Unwrap.
func (e *StartError) Unwrap() error { return e.Err }

// EndError says how a child ended that gave no answer, for a reason that is not
// in its work.
type EndError struct{ How string }

func (e *EndError) Error() string { return e.How }

// Talk starts a child and has talk speak with it: what talk writes is the
// child's standard input, what it reads the child's output. When talk returns
// without an error the child is to end by itself. Whatever becomes of the child,
// this process goes on and holds nothing of it.
//
// An error is one of the Err of this package, a *StartError, an *EndError, the
// cause of the end of ctx, or that of talk.
func (p Process) Talk(ctx context.Context, talk func(in io.Writer, out io.Reader) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, err := p.Open()
	if err != nil {
		return err
	}
	return s.talk(ctx, talk, true)
}

// Session is a child that is spoken with more than once, by one at a time.
type Session struct {
	bounds    Bounds
	cmd       *exec.Cmd
	in        io.WriteCloser
	out       io.ReadCloser
	complaint *beginning
}

// Open starts a child. Close it.
func (p Process) Open() (*Session, error) {
	binary, err := self()
	if err != nil {
		return nil, &StartError{err}
	}
	cmd := exec.Command(binary, p.Args...)
	// Tests find out by this name what they are to play.
	cmd.Args[0] = os.Args[0]
	cmd.Env = environment()
	// A signal from the terminal is for the parent, which ends its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s := &Session{bounds: p.Bounds, cmd: cmd, complaint: &beginning{most: maxComplaint}}
	cmd.Stderr = s.complaint
	cmd.WaitDelay = time.Second
	// The pipe stays open: its end tells the child that this process is gone.
	if s.in, err = cmd.StdinPipe(); err != nil {
		return nil, &StartError{err}
	}
	if s.out, err = cmd.StdoutPipe(); err != nil {
		return nil, &StartError{err}
	}
	if err := cmd.Start(); err != nil {
		return nil, &StartError{err}
	}
	if p.Started != nil {
		p.Started(cmd.Process.Pid)
	}
	return s, nil
}

// Talk is that of a Process, but for the child, which stays when there is no
// error. After one it is gone.
func (s *Session) Talk(ctx context.Context, talk func(in io.Writer, out io.Reader) error) error {
	return s.talk(ctx, talk, false)
}

// Kill ends the child and does not wait for it.
func (s *Session) Kill() { _ = s.cmd.Process.Kill() } // it may have ended

// Close ends the child, whatever it is in.
func (s *Session) Close() {
	s.Kill()
	_ = s.cmd.Wait() // which is no news
}

func (s *Session) talk(ctx context.Context, talk func(in io.Writer, out io.Reader) error, last bool) error {
	limited, cancel := context.WithTimeout(ctx, s.bounds.Time+startGrace)
	defer cancel()
	kept := context.AfterFunc(limited, s.Kill)
	talked := talk(s.in, s.out)
	if talked == nil && !last && kept() {
		return nil
	}
	late := limited.Err() != nil
	if errors.Is(talked, ErrAnswer) {
		s.Kill() // it would go on, and nobody reads it
	}
	waited := s.cmd.Wait()
	kept()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case talked == nil && waited == nil, errors.Is(talked, ErrAnswer):
		return talked
	case late || limited.Err() != nil:
		return ErrTime
	case waited == nil:
		return talked
	}
	return died(s.bounds, s.cmd.ProcessState, string(s.complaint.text))
}

// environment is all that a child gets to know: no secret is in it, and its
// work depends on nothing.
func environment() []string {
	env := []string{
		"GOTRACEBACK=none", // of a stack that overflowed, one line is enough
		"GOGC=off",         // for the start; Confine turns it on
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
func died(b Bounds, state *os.ProcessState, complaint string) error {
	if strings.Contains(complaint, "stack overflow") || strings.Contains(complaint, "stack exceeds") {
		return ErrDepth
	}
	// The last of them is what a build with cgo says when the system refuses a
	// stack for a thread.
	for _, words := range []string{"out of memory", "cannot allocate memory", "pthread_create failed"} {
		if strings.Contains(complaint, words) {
			return ErrMemory
		}
	}
	if peak(state) >= b.Memory {
		return ErrMemory // whatever it says
	}
	if s, ok := state.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		hint := ""
		if s.Signal() == syscall.SIGKILL {
			hint = "; the system does that when it runs out of memory"
		}
		return &EndError{fmt.Sprintf("was ended by a signal (%s)%s", s.Signal(), hint)}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(complaint), "\n")
	if first == "" {
		first = "it said nothing"
	}
	return &EndError{fmt.Sprintf("ended with %s: %s", state, first)}
}

// beginning keeps the beginning of what is written to it.
type beginning struct {
	text []byte
	most int
}

// Write implements io.Writer.
func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), b.most-len(b.text))]...)
	return len(p), nil
}

// ReadAll reads to the end, and no more than most.
func ReadAll(r io.Reader, most int) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if len(text) > most {
		return nil, ErrAnswer
	}
	return text, err
}
