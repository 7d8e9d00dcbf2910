package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// validate times `forged validate` of the example as a cold process; the
// floor is the same binary printing its version.
func (b *bench) validate(ctx context.Context) ([]result, error) {
	const runs = 31
	times := map[string][]time.Duration{}
	for range runs {
		for _, args := range [][]string{{"validate", "examples/forge.cue"}, {"version"}} {
			began := time.Now()
			if out, err := exec.CommandContext(ctx, b.forged, args...).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("forged %v: %w\n%s", args, err, out)
			}
			times[args[0]] = append(times[args[0]], time.Since(began))
		}
	}
	v := quantile(times["validate"], 0.5)
	return []result{{
		Name: "validate the example, cold process, p50", Value: v, Unit: "ms",
		Floor: quantile(times["version"], 0.5), Target: "≤ 40 ms", Met: v <= 40,
	}}, nil
}
