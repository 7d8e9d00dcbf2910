// Command bench measures forged from outside, as people meet it: the real
// binary as a process of its own against a real API server. Beside each result
// stands the floor measured in the same run: what the same work costs without
// forged. Figures of this machine compare only with floors of this machine.
//
// It needs a running sandbox with one cluster: FORGED_SANDBOX_DIR says where.
// bench/validate measures what needs none.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

// result is one line of the table. Times are in milliseconds, sizes in MB.
type result struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Floor  float64 `json:"floor,omitempty"`
	Target string  `json:"target"`
	Met    bool    `json:"met"`
}

func main() {
	asJSON := flag.Bool("json", false, "print JSON instead of a table")
	bin := flag.String("bin", "bin", "directory of the forged binary")
	releases := flag.Int("releases", 50, "releases to install")
	edits := flag.Int("edits", 200, "edits to heal")
	idle := flag.Duration("idle", time.Minute, "how long the steady state is watched")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *releases, *edits, *idle, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, releases, edits int, idle time.Duration, asJSON bool) error {
	sandbox := os.Getenv("FORGED_SANDBOX_DIR")
	if sandbox == "" {
		return fmt.Errorf("FORGED_SANDBOX_DIR is not set (run `make bench`)")
	}
	dir, err := os.MkdirTemp("", "forged-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	forged, err := filepath.Abs(filepath.Join(bin, "forged"))
	if err != nil {
		return err
	}
	b := &bench{dir: dir, forged: forged, kubeconfig: filepath.Join(sandbox, "kubeconfig")}
	if err := b.connect(); err != nil {
		return err
	}
	var all []result
	for _, part := range []func(context.Context) ([]result, error){
		b.validate,
		func(ctx context.Context) ([]result, error) { return b.install(ctx, releases, edits, idle) },
	} {
		rs, err := part(ctx)
		if err != nil {
			return err
		}
		all = append(all, rs...)
	}
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "WHAT\tRESULT\tFLOOR\tRATIO\tTARGET\tMET")
	for _, r := range all {
		floor, ratio := "-", "-"
		if r.Floor > 0 {
			floor, ratio = fmt.Sprintf("%.1f %s", r.Floor, r.Unit), fmt.Sprintf("%.2f×", r.Value/r.Floor)
		}
		fmt.Fprintf(w, "%s\t%.1f %s\t%s\t%s\t%s\t%t\n", r.Name, r.Value, r.Unit, floor, ratio, r.Target, r.Met)
	}
	return w.Flush()
}

// quantile of durations, in milliseconds.
func quantile(ds []time.Duration, q float64) float64 {
	s := slices.Sorted(slices.Values(ds))
	i := min(len(s)-1, int(q*float64(len(s))))
	return float64(s[i].Microseconds()) / 1000
}
