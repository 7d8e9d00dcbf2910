package fly_test

import (
	"runtime"
	"syscall"
	"time"
)

// cpu is the processor time that the kernel has counted for the process or the
// thread.
func cpu(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// onThread is the processor time of f, which nothing else shares a thread with.
func onThread(f func()) time.Duration {
	const thread = 1 // RUSAGE_THREAD
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := cpu(thread)
	f()
	return cpu(thread) - began
}
