package daemon

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// letGoOfProgram unmaps the pages of the program's file. Most of them were
// needed to start, and the kernel maps whole neighbourhoods at each first use,
// so that two thirds of what a resting process holds are pages that it never
// reads again. What is used comes back from the page cache at once; nothing in
// these pages can have been changed, since only those without the right to write
// are let go.
func letGoOfProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		// 00400000-03463000 r-xp 00000000 08:01 1234   /usr/bin/forged
		fields := strings.Fields(sc.Text())
		if len(fields) < 6 || strings.Join(fields[5:], " ") != self || fields[1][1] == 'w' {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			return fmt.Errorf("read /proc/self/maps: %w", err)
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return sc.Err()
}
