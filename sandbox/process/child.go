package process

import (
	"fmt"
	"io"
	"os"
)

// Child is the child's view of itself.
type Child struct {
	ready *os.File
}

// Adopt is the first thing a child does. From here on the child exits as soon
// as its parent is gone.
func Adopt() *Child {
	// The goroutine lives as long as the process; its end is the process's end.
	go func() {
		// The parent never writes, so a return means that the pipe was closed.
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Fprintln(os.Stderr, "the sandbox is gone: exit")
		os.Exit(1)
	}()
	return &Child{ready: os.NewFile(readyFD, "ready")}
}

// Ready tells the parent that the child does its work now. Call it once.
func (c *Child) Ready() {
	// A parent that is gone is the watcher's business.
	_, _ = c.ready.Write([]byte{1})
	_ = c.ready.Close()
}

// File is the i-th of [Spec.Files].
func (c *Child) File(i int) *os.File {
	return os.NewFile(uintptr(filesFD+i), fmt.Sprintf("inherited-%d", i))
}
