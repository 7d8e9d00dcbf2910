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
// reads again. What is used comes back from the page cache at once.
//
// Only mappings that are in memory just as they are in the file are let go: may
// not be written to, and have no page that was changed before that was so, as a
// linker does that puts in addresses.
func letGoOfProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	var from, to uintptr // of the program's mapping that is being read; 0: of none
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		switch {
		case len(fields) == 0:
		case !strings.HasSuffix(fields[0], ":"):
			// 00400000-03463000 r-xp 00000000 08:01 1234   /usr/bin/forged
			from, to = 0, 0
			if len(fields) < 6 || strings.Join(fields[5:], " ") != self || fields[1][1] == 'w' {
				continue
			}
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
				return fmt.Errorf("read /proc/self/smaps: %w", err)
			}
		case from != 0 && fields[0] == "Anonymous:" && len(fields) > 1 && fields[1] == "0":
			// Anonymous:             0 kB
			if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
				return fmt.Errorf("madvise: %w", errno)
			}
		}
	}
	return sc.Err()
}
