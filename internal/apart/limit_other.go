//go:build !linux

package apart

import "os"

func limitMemory(uint64) func() { return func() {} }

func peak(*os.ProcessState) uint64 { return 0 }

func volunteer() {}

func self() (string, error) { return os.Executable() }
