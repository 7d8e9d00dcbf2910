//go:build unix && !linux

package process

import "syscall"

// childAttr puts the child into a process group of its own, so that a Ctrl-C in
// the terminal reaches the parent only and the parent decides the order of the
// stop. Without a parent-death signal, the pipe on standard input alone ends a
// child whose parent was killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
