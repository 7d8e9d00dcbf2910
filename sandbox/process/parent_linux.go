package process

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// parentSignal only ever means "look whether your parent is there". The kernel
// sends it when the thread that started us ends, which may be long before the
// process does, so it must not be a signal that ends us.
const parentSignal = syscall.SIGUSR1

// parentSignals asks for a signal at the parent's death. The request belongs to
// the thread that makes it, so the calling goroutine keeps its thread until it
// calls release.
func parentSignals() (<-chan os.Signal, func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, parentSignal)
	runtime.LockOSThread()
	// Without it there is still the look now and then.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(parentSignal), 0, 0, 0)
	return signals, func() {
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		runtime.UnlockOSThread()
		signal.Stop(signals)
	}
}
