package objects

import (
	"io/fs"
	"syscall"
	"time"
)

// identity is the inode of a file, and when it was changed in any way.
func identity(info fs.FileInfo) (inode uint64, changed time.Time) {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return sys.Ino, time.Unix(sys.Ctim.Unix())
	}
	return 0, time.Time{}
}
