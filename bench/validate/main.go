// Command validate measures `forged validate` and `cue vet` on the same files,
// with the same schema, as cold processes that take turns. cue judges the text
// alone; forged also builds the model, checks its rules and compiles it.
//
// It imports nothing of forged: the peak memory of a process is never less
// than that of the process that started it, so this one has to be small.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	forged := flag.String("forged", "bin/forged", "the forged command")
	cue := flag.String("cue", "", "the cue command")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *forged, *cue); err != nil {
		fmt.Fprintln(os.Stderr, "bench/validate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, forged, cue string) error {
	for _, name := range []*string{&forged, &cue} {
		abs, err := filepath.Abs(*name)
		if err != nil {
			return err
		}
		*name = abs
	}
	dir, err := os.MkdirTemp("", "forged-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ENVIRONMENTS\tFORGED\tCUE VET\tRATIO\tFORGED PEAK\tCUE VET PEAK\tRATIO\tABOVE THE START\tABOVE THE START\tRATIO")
	base, err := costs(ctx, 15, dir, []string{forged, "version"}, []string{cue, "version"})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "start alone\t%.1f ms\t%.1f ms\t%.2f×\t%.1f MB\t%.1f MB\t%.2f×\n",
		base[0].wall, base[1].wall, base[0].wall/base[1].wall, base[0].memory, base[1].memory, base[0].memory/base[1].memory)
	for _, size := range []struct{ environments, runs int }{{1, 31}, {10, 31}, {100, 15}, {1000, 7}} {
		module := filepath.Join(dir, fmt.Sprint(size.environments))
		if err := write(ctx, forged, module, size.environments); err != nil {
			return err
		}
		c, err := costs(ctx, size.runs, module, []string{forged, "validate", "forge.cue"}, []string{cue, "vet", "-c", "."})
		if err != nil {
			return err
		}
		ours, theirs := c[0], c[1]
		above, aboveTheirs := ours.memory-base[0].memory, theirs.memory-base[1].memory
		fmt.Fprintf(w, "%d\t%.1f ms\t%.1f ms\t%.2f×\t%.1f MB\t%.1f MB\t%.2f×\t%.1f MB\t%.1f MB\t%.2f×\n", size.environments,
			ours.wall, theirs.wall, ours.wall/theirs.wall, ours.memory, theirs.memory, ours.memory/theirs.memory, above, aboveTheirs, above/aboveTheirs)
	}
	return w.Flush()
}

// cost is what a process takes: wall time in ms, peak resident memory in MB.
type cost struct{ wall, memory float64 }

// costs runs commands in turns and returns the median of each.
func costs(ctx context.Context, runs int, dir string, commands ...[]string) ([]cost, error) {
	walls, memories := make([][]time.Duration, len(commands)), make([][]time.Duration, len(commands))
	for range runs {
		for i, args := range commands {
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Dir = dir
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			began := time.Now()
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
			}
			walls[i] = append(walls[i], time.Since(began))
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok {
				return nil, fmt.Errorf("%s: its memory is not known here", args[0])
			}
			memories[i] = append(memories[i], time.Duration(usage.Maxrss)*time.Millisecond) // kilobytes, to be sorted
		}
	}
	all := make([]cost, len(commands))
	for i := range commands {
		all[i] = cost{median(walls[i]), median(memories[i]) / 1024}
	}
	return all, nil
}

// write makes a forge of that many environments in a module that cue
// understands by itself.
func write(ctx context.Context, forged, dir string, environments int) error {
	if out, err := exec.CommandContext(ctx, forged, "init", dir, "--app", "shop", "--image", "ghcr.io/acme/shop:1.4.2", "--platform", "minikube").CombinedOutput(); err != nil {
		return fmt.Errorf("forged init: %w\n%s", err, out)
	}
	return os.WriteFile(filepath.Join(dir, "forge.cue"), []byte(forgeOf(environments)), 0o644)
}

// median of durations, in milliseconds.
func median(ds []time.Duration) float64 {
	s := slices.Sorted(slices.Values(ds))
	return float64(s[len(s)/2].Microseconds()) / 1000
}

// forgeOf writes environments of four kinds in turn.
func forgeOf(environments int) string {
	kinds := []string{
		`platform: {kind: "kubernetes", context: "cluster-%[1]d"}
	app: {env: LOG_LEVEL: "DEBUG", secrets: SESSION_SIGNING_SECRET: generate: {}}
	domains: ["shop-%[1]d.example.com"]
	expose: {kind: "ingress", tls: {mode: "secret", secretName: "shop-tls"}}
	services: postgres: storage: "50Gi"
	scaling: {min: 2, max: 6, cpuTarget: 70}
	workers: mail: args: ["mail"]
	policy: mode: "apply"`,
		`platform: {kind: "fly", org: "acme"}
	regions: {iad: {machines: 2, primary: true}, lhr: {}}
	services: {postgres: create: true, redis: mode: "upstash"}
	domains: ["fly-%[1]d.example.com"]`,
		`platform: {kind: "fks", org: "acme", cluster: "cluster-%[1]d", region: "iad", acknowledgeClosedBeta: true}
	domains: ["fks-%[1]d.example.com"]`,
		`platform: {kind: "kubernetes", distribution: "eks", context: "eks-%[1]d"}
	domains: ["eks-%[1]d.example.com"]
	expose: {kind: "ingress", tls: {mode: "acm", arn: "arn:aws:acm:us-east-1:123456789012:certificate/0f"}}
	services: {
		postgres: {mode: "external", url: env: "DATABASE_%[1]d"}
		redis: {mode: "external", url: env: "REDIS_%[1]d"}
	}`,
	}
	var s strings.Builder
	s.WriteString("package forge\n\nforge: \"v1\"\napp: {\n\tname: \"shop\"\n\timage: {repository: \"ghcr.io/acme/shop\", tag: \"1.4.2\"}\n}\n")
	for i := range environments {
		fmt.Fprintf(&s, "environments: \"env-%d\": {\n\t%s\n}\n", i, fmt.Sprintf(kinds[i%len(kinds)], i))
	}
	return s.String()
}
