package main

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

// child is a process of the demo. It dies with the demo.
type child struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // its exit, once done is closed
}

func (d *demo) start(name string, env []string, args ...string) (*child, error) {
	path, err := filepath.Abs(filepath.Join(d.bin, args[0]))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w (run `make build`)", err)
	}
	c := &child{name: name, log: filepath.Join(d.dir, name+".log"), done: make(chan struct{})}
	f, err := os.Create(c.log)
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

// stop asks the process to end and waits for it; it answers once with how the
// process ended.
func (c *child) stop() error {
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

// ended says how a process came to its end that was to stay; only for when
// done is closed.
func (c *child) ended() error {
	if c.err != nil {
		return fmt.Errorf("%s ended: %w (see %s)", c.name, c.err, c.log)
	}
	return fmt.Errorf("%s ended (see %s)", c.name, c.log)
}

// until calls ok every few milliseconds until it says true, the child ends or
// the time is over.
func until(ctx context.Context, c *child, limit time.Duration, what string, ok func() (bool, error)) error {
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
			return fmt.Errorf("waiting for %s: %w", what, c.ended())
		case <-tick.C:
		}
	}
}
