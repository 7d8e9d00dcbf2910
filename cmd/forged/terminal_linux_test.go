package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// terminal opens a pseudo-terminal: what is written to person is typed, and
// what is read from it is on the screen.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	var unlocked, number int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlocked, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// The first Ctrl-C at a question ends init, and nothing is left behind.
func TestInitInterruptedOnTerminal(t *testing.T) {
	forged, err := exec.LookPath("forged") // the tests' own; TestMain makes it
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	person, program := terminal(t)
	cmd := exec.CommandContext(t.Context(), forged, "init", dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = program.Close() // the child has its own
	watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()

	var screen strings.Builder
	typed := false
	buf := make([]byte, 4096)
	for {
		n, err := person.Read(buf)
		screen.Write(buf[:n])
		if !typed && strings.Contains(screen.String(), "Name of the app") && strings.HasSuffix(screen.String(), ": ") {
			if _, err := person.Write([]byte{3}); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			typed = true
		}
		if err != nil {
			break // the program has ended
		}
	}
	_ = cmd.Wait() // its code says all
	if code := cmd.ProcessState.ExitCode(); !typed || code != exitInterrupted {
		t.Errorf("%v, want exit code %d\n%s", cmd.ProcessState, exitInterrupted, screen.String())
	}
	if !strings.Contains(screen.String(), "\r\nforged: interrupted; nothing was written") {
		t.Errorf("it says:\n%s", screen.String())
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
