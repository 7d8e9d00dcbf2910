package secret

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// commandLimit is how long a command may take.
const commandLimit = 30 * time.Second

// run executes a command without a shell, in dir and with the environment of
// the process, and returns what it prints. When ctx ends or the time is over
// it is killed. What it has started in its process group does not outlive it. What it
// prints as errors goes nowhere: it may hold the secret. The arguments may as
// well, so that errors name the command alone.
func run(ctx context.Context, limit time.Duration, dir string, argv []string) ([]byte, error) {
	name := filepath.Base(argv[0])
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(limited, argv[0], argv[1:]...)
	cmd.Dir = dir
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = time.Second // for what holds on to the pipe behind the command's back
	out := &bounded{left: maxSize + 3, full: cancel}
	cmd.Stdout = out
	err := cmd.Run()
	if cmd.Process != nil {
		_ = killGroup(cmd) // whatever it has left behind, and however it ended
	}
	var code *exec.ExitError
	switch {
	case out.over:
		return nil, fmt.Errorf("command %s printed more than %d bytes", name, maxSize)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, failure(fmt.Sprintf("command %s did not end within %s", name, limit))
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, failure(fmt.Sprintf("command %s ended and left something running that still writes", name))
	case errors.As(err, &code):
		return nil, failure(fmt.Sprintf("command %s failed: %s; run it by hand to see why", name, code.ProcessState)) // the code, or the signal
	case err != nil: // it did not start
		return nil, fmt.Errorf("command %s cannot be run: %w", name, cause(err))
	}
	return out.buf, nil
}

// failure is the error of a command that may succeed another time.
type failure string

func (f failure) Error() string { return string(f) }

// MayPass tells of an error of resolving that it may go away by itself, so that
// it is worth trying again.
func MayPass(err error) bool {
	var f failure
	return errors.As(err, &f)
}

// cause leaves out the path and the arguments that errors of exec begin with.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// bounded keeps so much of what is written to it, and calls full on more.
type bounded struct {
	buf  []byte
	left int
	over bool
	full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.over = true
		b.full()
		return 0, errors.New("too much")
	}
	b.left -= len(p)
	b.buf = append(b.buf, p...)
	return len(p), nil
}
