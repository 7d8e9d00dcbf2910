package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"forged.dev/forged/schema"
)

// besideCUE times `forged validate` and `cue vet` on the same files, with the
// same schema, as cold processes that take turns. cue judges the text alone;
// forged also builds the model, checks its rules and compiles it.
func (b *bench) besideCUE(ctx context.Context) ([]result, error) {
	if b.cue == "" {
		return nil, nil
	}
	base := map[string]cost{}
	for _, name := range []string{b.forged, b.cue} {
		c, err := costs(ctx, 15, b.dir, []string{name, "version"})
		if err != nil {
			return nil, err
		}
		base[name] = c[0]
	}
	var all []result
	for _, size := range []struct{ environments, runs int }{{1, 31}, {10, 31}, {100, 15}, {1000, 7}} {
		dir := filepath.Join(b.dir, fmt.Sprintf("validate-%d", size.environments))
		if err := module(dir, size.environments); err != nil {
			return nil, err
		}
		c, err := costs(ctx, size.runs, dir, []string{b.forged, "validate", "forge.cue"}, []string{b.cue, "vet", "-c", "."})
		if err != nil {
			return nil, err
		}
		ours, theirs := c[0], c[1]
		line := func(what, unit string, value, floor float64) {
			r := result{Name: fmt.Sprintf("validate %d environments, %s", size.environments, what), Value: value, Unit: unit, Floor: floor}
			r.Target, r.Met = "-", true
			if size.environments >= 10 {
				r.Target, r.Met = "≤ 1.15× cue vet", value <= 1.15*floor
			}
			all = append(all, r)
		}
		line("p50", "ms", ours.wall, theirs.wall)
		line("peak memory", "MB", ours.memory, theirs.memory)
		// What is left when each program alone is taken away, code pages and
		// the start of its packages.
		line("peak memory above an idle start", "MB", ours.memory-base[b.forged].memory, theirs.memory-base[b.cue].memory)
	}
	return all, nil
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
		all[i] = cost{quantile(walls[i], 0.5), quantile(memories[i], 0.5) / 1024}
	}
	return all, nil
}

// module writes a forge of that many environments as a module that cue
// understands by itself, as forged init does.
func module(dir string, environments int) error {
	beside, inModule := schema.Workspace("forge", nil)
	files := map[string]string{"forge.cue": forgeOf(environments)}
	maps.Copy(files, beside)
	for name, text := range inModule {
		files["cue.mod/"+name] = text
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
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
