//go:build unix

package sops

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"forged.dev/forged/internal/secret/sopstest"
)

// A command that prints keys cannot be ended. It is not waited for, and there
// is never a second one.
func TestHungCommand(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	mine, to := sopstest.Key(t)
	data := sopstest.Encrypt(t, "a.yaml", "k: s3cret\n", nil, to)
	only(t, "SOPS_AGE_KEY_CMD", "cat "+pipe)
	var o Opener
	ctx, cancel := context.WithCancel(t.Context())
	reads := make(chan *os.File, 1)
	go func() {
		defer cancel()
		f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the command to read
		if err != nil {
			t.Error(err)
		}
		reads <- f
	}()
	if _, err := o.Open(ctx, "a.yaml", data); !errors.Is(err, context.Canceled) {
		t.Fatalf("the command hangs: %v", err)
	}
	if _, err := o.Open(t.Context(), "a.yaml", data); !errors.Is(err, ErrKeyService) {
		t.Fatalf("the command still hangs: %v", err)
	}
	f := <-reads
	if _, err := f.WriteString(mine + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for o.hung.Load() > 0 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	t.Setenv("SOPS_AGE_KEY_CMD", "echo "+mine)
	if _, err := o.Open(t.Context(), "a.yaml", data); err != nil {
		t.Errorf("the command has ended: %v", err)
	}
}
