//go:build unix && !linux

package process

import "os"

// parentSignals has no signal to offer here.
func parentSignals() (<-chan os.Signal, func()) {
	return nil, func() {}
}
