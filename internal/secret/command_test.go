//go:build unix

package secret

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
)

// script writes a program that somebody else could have written.
func script(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "local", "printf s3cret")
	for _, tt := range []struct {
		name string
		argv []string
		want string
		err  string
	}{
		{"no newline", []string{"printf", "s3cret"}, "s3cret", ""},
		{"newline", []string{"echo", "s3cret"}, "s3cret", ""},
		{"only one newline is taken off", []string{"printf", `s3cret\n\n`}, "", "what command printf prints holds more than one line"},
		{"no shell", []string{"echo", "$HOME", "*", ">x"}, "$HOME * >x", ""},
		{"in the directory of forge.cue", []string{"./local"}, "s3cret", ""},
		{"with the environment", []string{"sh", "-c", `echo "$FORGED_TEST_SECRET"`}, "from-process", ""},
		{"without input", []string{"sh", "-c", `cat; echo s3cret`}, "s3cret", ""},
		{"empty", []string{"true"}, "", "what command true prints is empty"},
		{"code", []string{"sh", "-c", "echo s3cret; echo s3cret >&2; exit 7"}, "", "command sh failed: exit status 7"},
		{"signal", []string{"sh", "-c", "kill -9 $$"}, "", "command sh failed: signal: killed"},
		{"no such command", []string{"no-such-command-here", "s3cret"}, "", "command no-such-command-here cannot be run: executable file not found in $PATH"},
		{"no such file", []string{"./s3cret/none"}, "", "command none cannot be run: no such file or directory"},
		{"too much", []string{"sh", "-c", "while :; do echo s3cret; done"}, "", "command sh printed more than 1048576 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("FORGED_TEST_SECRET", "from-process")
			r := &Resolver{Dir: dir}
			v, err := r.Resolve(t.Context(), forge.SecretRef{Exec: tt.argv})
			switch {
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "s3cret")):
				t.Errorf("%v, want %q", err, tt.err)
			case tt.err == "" && (err != nil || string(v.Reveal()) != tt.want):
				t.Errorf("another value, or %v", err)
			}
		})
	}
}

// A command that hangs is killed with all that it has started. The processes
// hold a pipe open: it opens with the first of them and ends with the last.
func TestCommandsAreKilled(t *testing.T) {
	dir := t.TempDir()
	alive := filepath.Join(dir, "alive")
	if err := syscall.Mkfifo(alive, 0o600); err != nil {
		t.Fatal(err)
	}
	hangs := script(t, dir, "hangs", "exec 9>"+alive+"; sleep 1000 & echo s3cret; wait")
	type outcome struct {
		started, gone chan struct{}
		err           chan error
	}
	begin := func(f func() error) outcome {
		o := outcome{make(chan struct{}), make(chan struct{}), make(chan error, 1)}
		go func() {
			defer close(o.gone)
			f, err := os.Open(alive)
			close(o.started)
			if err == nil {
				_, _ = io.Copy(io.Discard, f)
				f.Close()
			}
		}()
		go func() { o.err <- f() }()
		return o
	}
	await := func(t *testing.T, what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(time.Minute):
			t.Fatal(what)
		}
	}

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := begin(func() error {
			_, err := (&Resolver{}).Resolve(ctx, forge.SecretRef{Exec: []string{hangs}})
			return err
		})
		await(t, "it does not start", o.started)
		cancel()
		if err := <-o.err; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		await(t, "something lives on", o.gone)
	})
	t.Run("too slow", func(t *testing.T) {
		o := begin(func() error {
			_, err := run(t.Context(), 2*time.Second, "", []string{hangs})
			return err
		})
		if err := <-o.err; err == nil || err.Error() != "command hangs did not end within 2s" || !MayPass(err) {
			t.Error(err)
		}
		await(t, "something lives on", o.gone)
	})
	for name, tt := range map[string]struct{ sleep, code, want string }{
		"left behind":                {"sleep 1000", "0", "left something running"},
		"left behind, and an error":  {"sleep 1000", "7", "command leaves failed: exit status 7"},
		"left behind without output": {"sleep 1000 >&-", "7", "command leaves failed: exit status 7"},
	} {
		t.Run(name, func(t *testing.T) {
			leaves := script(t, dir, "leaves", "exec 9>"+alive+"; echo s3cret; "+tt.sleep+" & exit "+tt.code)
			o := begin(func() error {
				_, err := run(t.Context(), commandLimit, "", []string{leaves})
				return err
			})
			if err := <-o.err; err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Error(err)
			}
			await(t, "something lives on", o.gone)
		})
	}
}

// Nobody waits for somebody to write to a pipe that is named as a file.
func TestPipesAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []forge.SecretRef{{File: "pipe"}, {SOPS: &forge.SOPSRef{File: "pipe", Key: "a"}}} {
		_, err := (&Resolver{Dir: dir}).Resolve(t.Context(), ref)
		if err == nil || err.Error() != "file "+filepath.Join(dir, "pipe")+" is not a regular file" {
			t.Error(err)
		}
	}
}

// op is the command of 1Password. A script stands for it.
func TestOnePassword(t *testing.T) {
	ref := forge.SecretRef{OP: "op://shop/database/password"}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	_, err := (&Resolver{}).Resolve(t.Context(), ref)
	if err == nil || !strings.Contains(err.Error(), "install it from https://developer.1password.com/docs/cli") || MayPass(err) {
		t.Errorf("without op: %v", err)
	}

	t.Setenv("PATH", bin+":/usr/bin:/bin")
	script(t, bin, "op", `echo "$@" >>`+bin+`/calls
[ "$*" = "read --no-newline op://shop/database/password" ] || { echo "s3cret is not an item" >&2; exit 1; }
printf s3cret`)
	p := (&Resolver{}).Pass(0)
	for range 3 {
		v, err := p.Resolve(t.Context(), ref)
		if err != nil || string(v.Reveal()) != "s3cret" {
			t.Fatalf("another value, or %v", err)
		}
	}
	if b, err := os.ReadFile(bin + "/calls"); err != nil || strings.Count(string(b), "\n") != 1 {
		t.Errorf("called %q, %v", b, err)
	}
	_, err = p.Resolve(t.Context(), forge.SecretRef{OP: "op://shop/nothing/here"})
	if err == nil || err.Error() != "op://shop/nothing/here: command op failed: exit status 1; run it by hand to see why" || !MayPass(err) {
		t.Errorf("an item that is not there: %v", err)
	}
}

// What a command printed is good for as long as the pass says, for all passes
// of a resolver.
func TestCommandsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	r := &Resolver{Dir: dir}
	script(t, dir, "count", "echo x >>runs; wc -l <runs | tr -d ' '")
	ref := forge.SecretRef{Exec: []string{"./count"}}
	for _, tt := range []struct {
		maxAge time.Duration
		want   string
	}{{0, "1"}, {0, "2"}, {time.Hour, "2"}, {time.Hour, "2"}, {time.Nanosecond, "3"}, {0, "4"}} {
		v, err := r.Pass(tt.maxAge).Resolve(t.Context(), ref)
		if err != nil || string(v.Reveal()) != tt.want {
			t.Errorf("%s: run %s, %v; want %s", tt.maxAge, v.Reveal(), err, tt.want)
		}
	}
}
