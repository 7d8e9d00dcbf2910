package up

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RestartSignal asks a sandbox to kill its API servers and to start them again.
const RestartSignal = syscall.SIGUSR1

const restartPoll = 20 * time.Millisecond

// Restart asks the sandbox in a directory to restart its API servers, and
// returns when they answer again.
func Restart(ctx context.Context, dir string) error {
	path := filepath.Join(dir, readyFile)
	before, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("no sandbox is ready in %s: %w", dir, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s does not name a process: %w", path, err)
	}
	if err := syscall.Kill(pid, RestartSignal); err != nil {
		return fmt.Errorf("ask the sandbox in %s: %w", dir, err)
	}
	ticker := time.NewTicker(restartPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now, err := os.Stat(path)
		switch {
		case err == nil && !os.SameFile(before, now):
			return nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case syscall.Kill(pid, 0) != nil:
			return fmt.Errorf("the sandbox in %s has ended; see its logs", dir)
		}
	}
}
