//go:build !linux

package objects

import (
	"io/fs"
	"time"
)

// identity is not looked at elsewhere: size and time have to do.
func identity(fs.FileInfo) (inode uint64, changed time.Time) { return 0, time.Time{} }
