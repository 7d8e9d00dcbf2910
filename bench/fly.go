package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// fly measures forged on Fly. It is a test of bench/fly, in full: in virtual
// time an hour passes in milliseconds, and only tests have that.
func (b *bench) fly(ctx context.Context) ([]result, error) {
	path := filepath.Join(b.dir, "fly.json")
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=60m", "./bench/fly", "-args", "-full", "-results", path)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	failed := cmd.Run()
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	defer f.Close()
	var all []result
	for dec := json.NewDecoder(f); ; {
		var r result
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, r)
	}
	return all, failed
}
