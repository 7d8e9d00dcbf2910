// Package child runs the programs of forged as processes of their own, for what
// shows or tries them as a whole.
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Child is a process.
type Child struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // its exit, once done is closed
}

// Place says where programs and logs are.
type Place struct {
	Bin  string // directory of the programs
	Logs string // directory of one log for each process
}

// Start starts the program args[0]; name names its log, which is added to.
func (p Place) Start(name string, env []string, args ...string) (*Child, error) {
	path, err := filepath.Abs(filepath.Join(p.Bin, args[0]))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w (run `make build`)", err)
	}
	c := &Child{name: name, log: filepath.Join(p.Logs, name+".log"), done: make(chan struct{})}
	f, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c.cmd = exec.Command(path, args[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = f, f
	c.cmd.Env = append(os.Environ(), env...)
	// In a group of its own, so that Ctrl-C reaches the demo first and it
	// stops its children in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// Log is the path of what it writes.
func (c *Child) Log() string { return c.log }

// Done is closed when it has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Kill ends the process without asking it, and waits for its end.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}

// Stop asks the process to end and waits for it; it answers once with how the
// process ended.
func (c *Child) Stop() error {
	select {
	case <-c.done:
	default:
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-c.done:
		case <-time.After(40 * time.Second):
			_ = c.cmd.Process.Kill()
			<-c.done
			return fmt.Errorf("%s did not stop within 40s (see %s)", c.name, c.log)
		}
	}
	if c.err != nil {
		return fmt.Errorf("%s: %w (see %s)", c.name, c.err, c.log)
	}
	return nil
}

// Ended says how a process came to its end that was to stay; only for when
// Done is closed.
func (c *Child) Ended() error {
	if c.err != nil {
		return fmt.Errorf("%s ended: %w (see %s)", c.name, c.err, c.log)
	}
	return fmt.Errorf("%s ended (see %s)", c.name, c.log)
}

// Until calls ok every few milliseconds until it says true, the child ends or
// the time is over.
func Until(ctx context.Context, c *Child, limit time.Duration, what string, ok func() (bool, error)) error {
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, last := ok()
		if yes {
			return nil
		}
		if last == nil {
			last = errors.New("not yet so")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("%s did not happen within %s: %w", what, limit, last)
		case <-c.done:
			return fmt.Errorf("waiting for %s: %w", what, c.Ended())
		case <-tick.C:
		}
	}
}
