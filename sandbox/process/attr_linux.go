package process

import "syscall"

// childAttr puts the child into a process group of its own, so that a Ctrl-C in
// the terminal reaches the parent only and the parent decides the order of the
// stop, and has the kernel kill the child when the thread that forked it ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
