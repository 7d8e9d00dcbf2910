package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeEnvironments completes the names of the environments that forge.cue
// has. Where it has none, or cannot be read, there is nothing to complete: a
// shell is no place for errors.
func (f *configFlags) completeEnvironments(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	src, err := readFile(ctx, f.config)
	if err != nil {
		return nil, nothing
	}
	src.Tags = f.tags
	e, err := newEvaluator(false)
	if err != nil {
		return nil, nothing
	}
	read, _, err := e.Evaluate(ctx, src)
	if err != nil {
		return nil, nothing
	}
	var names []string
	for _, env := range read.Environments {
		if strings.HasPrefix(env.Name, typed) {
			names = append(names, env.Name)
		}
	}
	slices.Sort(names)
	return names, nothing
}
