package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/forge"
)

// completeEnvironments completes the names of the environments that forge.cue
// has. Where it has none, or cannot be read, there is nothing to complete: a
// shell is no place for errors.
func (f *configFlags) completeEnvironments(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	read := f.readQuietly(c)
	if read == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, env := range read.Environments {
		if strings.HasPrefix(env.Name, typed) {
			names = append(names, env.Name)
		}
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeReleases completes the name of a release, of any environment unless
// some are named.
func (f *configFlags) completeReleases(c *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	if len(given) > 0 {
		return nil, nothing
	}
	ctx, cancel := context.WithTimeout(contextOf(c), 5*time.Second)
	defer cancel()
	e, err := newEvaluator(false)
	if err != nil {
		return nil, nothing
	}
	l, err := loadFile(ctx, e, *f, streams{out: io.Discard, err: io.Discard})
	if err != nil {
		return nil, nothing
	}
	var names []string
	for _, env := range l.generation.Environments {
		for _, r := range env.Resources {
			if r.ID.Kind == forge.KindRelease && strings.HasPrefix(r.ID.Name, typed) {
				names = append(names, r.ID.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nothing
}

// contextOf is that of a command; completion may have none.
func contextOf(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// readQuietly reads the forge; nil: there is none, or none that can be read.
func (f *configFlags) readQuietly(c *cobra.Command) *forge.Forge {
	ctx, cancel := context.WithTimeout(contextOf(c), 5*time.Second)
	defer cancel()
	src, err := readFile(ctx, f.config)
	if err != nil {
		return nil
	}
	src.Tags = f.tags
	e, err := newEvaluator(false)
	if err != nil {
		return nil
	}
	read, _, err := e.Evaluate(ctx, src)
	if err != nil {
		return nil
	}
	return read
}
