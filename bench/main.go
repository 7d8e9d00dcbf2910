// Command bench measures forged from outside, as people meet it: the real
// binary as a process of its own against a real API server. Beside each result
// stands the floor measured in the same run: what the same work costs without
// forged. Figures of this machine compare only with floors of this machine.
//
// It needs a running sandbox with one cluster: FORGED_SANDBOX_DIR says where. The
// part "fly" needs none, and neither does bench/validate.
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
	Target string  `json:"target,omitempty"`
	Met    bool    `json:"met"`
	Note   string  `json:"note,omitempty"`
}

func main() {
	asJSON := flag.Bool("json", false, "print JSON instead of a table")
	bin := flag.String("bin", "bin", "directory of the forged binary")
	releases := flag.Int("releases", 50, "releases to install")
	edits := flag.Int("edits", 200, "edits to heal")
	environments := flag.Int("environments", 10, "environments of ten releases of ten objects each")
	idle := flag.Duration("idle", time.Minute, "how long the steady state is watched")
	only := flag.String("only", "", "one part: validate, scale, install or fly; empty: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, options{*bin, *only, *releases, *edits, *environments, *idle, *asJSON}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	bin, only                     string
	releases, edits, environments int
	idle                          time.Duration
	json                          bool
}

func run(ctx context.Context, o options) error {
	sandbox := os.Getenv("FORGED_SANDBOX_DIR")
	if sandbox == "" && o.only != "fly" {
		return fmt.Errorf("FORGED_SANDBOX_DIR is not set (run `make bench`)")
	}
	dir, err := os.MkdirTemp("", "forged-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	forged, err := filepath.Abs(filepath.Join(o.bin, "forged"))
	if err != nil {
		return err
	}
	b := &bench{dir: dir, forged: forged, kubeconfig: filepath.Join(sandbox, "kubeconfig")}
	if o.only != "fly" {
		if err := b.connect(); err != nil {
			return err
		}
	}
	s := &scale{bench: b, environments: o.environments, idle: o.idle}
	var all []result
	for _, part := range []struct {
		name    string
		measure func(context.Context) ([]result, error)
	}{
		{"validate", b.validate},
		{"scale", s.measure},
		{"install", func(ctx context.Context) ([]result, error) { return b.install(ctx, o.releases, o.edits) }},
		{"fly", b.fly},
	} {
		if o.only != "" && o.only != part.name {
			continue
		}
		rs, err := part.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		all = append(all, rs...)
	}
	return show(all, o.json)
}

func show(all []result, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "WHAT\tRESULT\tFLOOR\tRATIO\tTARGET\tMET\t")
	for _, r := range all {
		floor, ratio, target, met := "-", "-", "-", "-"
		if r.Floor > 0 {
			floor, ratio = number(r.Floor, r.Unit), fmt.Sprintf("%.2f×", r.Value/r.Floor)
		}
		if r.Target != "" {
			target, met = r.Target, fmt.Sprint(r.Met)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, number(r.Value, r.Unit), floor, ratio, target, met, r.Note)
	}
	return w.Flush()
}

// number is a value with its unit; without one it is a count.
func number(v float64, unit string) string {
	switch unit {
	case "":
		return fmt.Sprintf("%.0f", v)
	case "s":
		return fmt.Sprintf("%.2f s", v)
	default:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
}

// quantile of durations, in milliseconds.
func quantile(ds []time.Duration, q float64) float64 {
	s := slices.Sorted(slices.Values(ds))
	i := min(len(s)-1, int(q*float64(len(s))))
	return float64(s[i].Microseconds()) / 1000
}
