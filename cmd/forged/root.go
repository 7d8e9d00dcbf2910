package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Exit codes; docs/reference/cli.md states them.
const (
	exitOK      = 0
	exitError   = 1 // an error, or an invalid configuration
	exitPending = 2 // plan and run --once: changes are pending
	exitNotRun  = 2 // validate: could not run

	exitInterrupted = 130 // init: Ctrl-C at a question
)

// exit ends a command with a code. err may be nil when everything was said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitError
	if e := (*exit)(nil); errors.As(err, &e) {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	_, _ = fmt.Fprintf(s.err, "forged: %v\n", err)
	return code
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "forged",
		Short: "Keep environments as forge.cue says they should be",
		Long: `forged reads one forge.cue, compares it with what runs, and puts right what differs:
when forge.cue changes, and when somebody changes what runs.`,
		Example: `  forged init         # write a first forge.cue
  forged validate     # check forge.cue, offline
  forged plan         # show what would change, and why
  forged run          # stay, and keep everything as it should be
  forged status       # ask the running forged how things are`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", columns)))
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exit{usageCode(c), fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.AddCommand(newInit(s), newSchema(s), newValidate(s), newRender(s), newExplain(s), newPlan(s), newRun(s), newStatus(s), newVersion(s), newGenDocs(s), newEvaluate(s))
	// cobra adds these two late; they are wanted now, for their texts.
	root.InitDefaultCompletionCmd("validate")
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		// cobra's own answer to a wrong argument names no next step.
		if check := c.Args; check != nil {
			c.Args = func(c *cobra.Command, args []string) error {
				if err := check(c, args); err != nil {
					return &exit{usageCode(c), fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
				}
				return nil
			}
		}
	}
	return root
}

// usageCode is the exit code for a command line that makes no sense. For plan
// it must not be the one that means that changes are pending.
func usageCode(c *cobra.Command) int {
	if c.Name() == "validate" {
		return exitNotRun
	}
	return exitError
}

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("want one of %s", strings.Join(c.of, ", "))
	}
	c.value = s
	return nil
}

// choiceFlag adds such a flag, with completion; the first word is the default.
func choiceFlag(c *cobra.Command, name, short, usage string, words ...string) *choice {
	v := &choice{words[0], words}
	c.Flags().VarP(v, name, short, usage)
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	return v
}

// configFlags are the flags of every command that works with a forge.cue and
// its clusters.
type configFlags struct {
	config       string
	tags         []string
	environments []string
	instance     string
}

func (f *configFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.config, "config", "c", "forge.cue", "the forge to read: a file, or a directory")
	c.Flags().StringArrayVarP(&f.tags, "tag", "t", nil, "give a tag its value: KEY=VALUE (may be repeated)")
	c.Flags().StringSliceVarP(&f.environments, "environment", "e", nil, "only these environments (may be repeated)")
	c.Flags().StringVar(&f.instance, "instance", "", "name under which forged owns what it makes (default: the app's name)")
	_ = c.MarkFlagFilename("config", "cue")
}
