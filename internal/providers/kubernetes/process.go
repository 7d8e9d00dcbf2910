package kubernetes

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process tells this process from every other one that there is or was: by the
// boot of the machine, the namespace of process ids, the id and the time it
// began. Where the system does not say, it is empty.
func process() string {
	return processOf(os.Getpid())
}

func processOf(pid int) string {
	began := startOf(pid)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, spaceErr := os.Readlink("/proc/self/ns/pid")
	if err != nil || spaceErr != nil || began == "" {
		return ""
	}
	return fmt.Sprintf("%s %s %d %s", strings.TrimSpace(string(boot)), space, pid, began)
}

// startOf is when a process began, in ticks since the boot; empty: there is no
// such process, or nobody knows.
func startOf(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The name, in parentheses, may hold anything.
	text := string(b[strings.LastIndexByte(string(b), ')')+1:])
	f := strings.Fields(text)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}

// dead tells that a process, as it named itself, is certain to have ended. It
// can be told only of one that ran where this one runs.
func dead(named string) bool {
	me, it := strings.Fields(process()), strings.Fields(named)
	if len(me) != 4 || len(it) != 4 || me[0] != it[0] || me[1] != it[1] {
		return false
	}
	pid, err := strconv.Atoi(it[2])
	return err == nil && startOf(pid) != it[3]
}
