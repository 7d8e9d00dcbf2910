package apart

import (
	"os"
	"syscall"
)

// limitMemory has the system refuse this process more than n bytes of memory
// of its own, which ends it; what it returns undoes that.
func limitMemory(n uint64) func() {
	if raceDetector {
		return func() {} // it takes many times what the program takes
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &before); err != nil || before.Cur <= n {
		return func() {}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: n, Max: before.Max}); err != nil {
		return func() {}
	}
	return func() { _ = syscall.Setrlimit(syscall.RLIMIT_DATA, &before) } // it was allowed before
}

// peak is the most memory that a process which has ended had, in bytes; 0 is
// unknown.
func peak(state *os.ProcessState) uint64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok && usage.Maxrss > 0 {
		return uint64(usage.Maxrss) << 10
	}
	return 0
}

// volunteer has the system end this process before others when it runs out of
// memory.
func volunteer() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // as good as without
}

// self is this binary, also when its file has been replaced since.
func self() (string, error) {
	const running = "/proc/self/exe"
	if _, err := os.Stat(running); err != nil {
		return os.Executable()
	}
	return running, nil
}
