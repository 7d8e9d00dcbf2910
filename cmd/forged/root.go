package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"forged.dev/forged/schema"
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
  forged apply        # the same, and change it if you say yes
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
		if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok && errors.Is(err, errNoTag) {
			err = fmt.Errorf("--%s: %w", e.GetFlag().Name, errNoTag) // its value may be meant to be a secret
		}
		return &exit{usageCode(c), fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.Version = versionLine(buildInfo())
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "say which forged this is")
	root.AddCommand(newInit(s), newSchema(s), newValidate(s), newRender(s), newExplain(s), newRBAC(s), newPlan(s), newApply(s), newRun(s), newStatus(s), newApprove(s), newHistory(s), newRollback(s), newLogs(s), newDown(s), newVersion(s), newGenDocs(s), newEvaluate(s), newTemplatesCommand(s), newProbe(s))
	// cobra adds these two late; they are wanted now, for their texts.
	root.InitDefaultCompletionCmd("validate")
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			c.Use, c.Args, c.RunE = "completion SHELL", cobra.ArbitraryArgs, completeNothing
		case "help":
			c.Run, c.RunE = nil, help
		}
		if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 && !c.HasSubCommands() {
			c.ValidArgsFunction = cobra.NoFileCompletions // a shell's own answer is files, which none of these takes
		}
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

// completeNothing answers to forged completion without a shell, or with one
// that has no script. cobra's own answer is its help, and that all is well.
func completeNothing(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	return &exit{exitError, fmt.Errorf("there is no completion for %q; there is for %s", args[0], strings.Join(commandNames(c), ", "))}
}

// help is cobra's, with an error about what there is no help for.
func help(c *cobra.Command, args []string) error {
	topic, rest, err := c.Root().Find(args)
	if err != nil || topic == nil || len(rest) > 0 {
		name := strings.Join(args, " ")
		hint := schema.DidYouMean(name, commandNames(c.Root()))
		if hint == "" {
			hint = "forged --help lists the commands"
		}
		return fmt.Errorf("there is no command %q; %s", name, hint)
	}
	topic.InitDefaultHelpFlag()
	return topic.Help()
}

func commandNames(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// noArguments is cobra.NoArgs for a command that people give one to: hint says
// where it belongs, with COMMAND and ARGUMENT for the two.
func noArguments(hint string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return nil
		case hint == "":
			return fmt.Errorf("%s takes no arguments", c.CommandPath())
		}
		hint := strings.NewReplacer("COMMAND", c.CommandPath(), "ARGUMENT", schema.Printable(args[0])).Replace(hint)
		return fmt.Errorf("%s takes no arguments; %s", c.CommandPath(), hint)
	}
}

// errNoTag is about the value of a flag --tag.
var errNoTag = errors.New("it gives no tag a value; write -t KEY=VALUE")

// tagList is a flag that gives tags their values.
type tagList []string

func (l *tagList) String() string { return strings.Join(*l, ",") }
func (l *tagList) Type() string   { return "KEY=VALUE" }

func (l *tagList) Set(s string) error {
	if s == "" || strings.HasPrefix(s, "=") {
		return errNoTag
	}
	*l = append(*l, s)
	return nil
}

// tagFlag adds such a flag.
func tagFlag(c *cobra.Command, tags *[]string) {
	c.Flags().VarP((*tagList)(tags), "tag", "t", "give a tag its value: KEY=VALUE (may be repeated)")
	_ = c.RegisterFlagCompletionFunc("tag", cobra.NoFileCompletions)
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

// usualConfig is the forge that is read without --config.
const usualConfig = "forge.cue"

// given are the flags that another command about the same forge takes as well, in
// front of which is a space.
func (f *configFlags) given() (flags string) {
	if f.config != usualConfig {
		flags += " -c " + quoteWord(f.config)
	}
	for _, tag := range f.tags {
		flags += " -t " + quoteWord(tag)
	}
	if f.instance != "" {
		flags += " --instance " + quoteWord(f.instance)
	}
	return flags
}

func (f *configFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.config, "config", "c", usualConfig, "the forge to read: a file, or a directory")
	tagFlag(c, &f.tags)
	c.Flags().StringSliceVarP(&f.environments, "environment", "e", nil, "only these environments (may be repeated)")
	c.Flags().StringVar(&f.instance, "instance", "", "name under which forged owns what it makes (default: the app's name)")
	_ = c.MarkFlagFilename("config", "cue")
	_ = c.RegisterFlagCompletionFunc("environment", f.completeEnvironments)
}
