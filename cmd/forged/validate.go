package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/evaluate"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/localfiles"
	"forged.dev/forged/internal/report"
	"forged.dev/forged/schema"
)

func newValidate(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "validate [FILE...]",
		Short: "Check forges, offline",
		Long: `Check forges and say everything that is wrong with them, with line and column.
Each FILE is a forge, or a file of one: files of one package are checked together, and
once. A directory stands for the package in it; - is standard input; without any FILE
it is forge.cue in the working directory. Charts and configuration files that a forge
names are looked at, and charts of this machine are rendered; no cluster is asked and no
secret is read, unless --resolve is given: then each secret is looked up where the file
says it is.

Every mistake has a rule, whose id stands at its end; forged explain says more about it.
A warning does not make a forge invalid, unless --strict is given.

Exit codes: 0 all are valid, 1 at least one is not, 2 one could not be judged, or a
secret of it could not be looked up.`,
		Example: `  forged validate
  forged validate --strict staging/forge.cue prod/forge.cue
  forged validate -t sha=$GITHUB_SHA --format github
  forged validate --format sarif > forged.sarif
  forged validate --resolve -e prod
  git ls-files '*forge.cue' | xargs forged validate`,
		Args: func(_ *cobra.Command, files []string) error {
			if n := len(slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f != "-" })); n > 1 {
				return errors.New("standard input can be read once: write - once")
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"cue"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	format := choiceFlag(c, "format", "", "form of the answer", report.Formats()...)
	c.Flags().VarP(format, "output", "o", "the same as --format")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(report.Formats(), cobra.ShellCompDirectiveNoFileComp))
	strict := c.Flags().Bool("strict", false, "refuse warnings too")
	var tags []string
	tagFlag(c, &tags)
	lookup := resolution{errs: s.err}
	lookup.add(c)
	c.RunE = func(c *cobra.Command, files []string) error {
		if err := lookup.misplaced(c, files); err != nil {
			return &exit{exitNotRun, err}
		}
		resolve, err := lookup.resolver()
		if err != nil {
			return &exit{exitNotRun, err}
		}
		v := validator{in: s.in, tags: tags, judge: bounded(), resolve: resolve}
		r := report.Report{Strict: *strict, Forges: v.all(c.Context(), files)}
		r.Dir, r.Root = directories()
		if format.value == "sarif" {
			r.Version = buildInfo().Version
		}
		if err := r.Write(format.value, s.out, s.err, colored(s.err)); err != nil {
			return &exit{exitNotRun, fmt.Errorf("write the report: %w", err)}
		}
		switch {
		case !r.Judged():
			return &exit{exitNotRun, nil}
		case !r.Accepted():
			return &exit{exitError, nil}
		}
		return nil
	}
	return c
}

// validator judges forges, one after the other.
type validator struct {
	in   interface{ Read([]byte) (int, error) } // standard input
	tags []string

	// judge says what can be said of a forge offline.
	judge func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error)
	// resolve looks up what the references of a valid forge lead to; nil: they
	// are not looked at. Relative paths start at dir. An error says what could
	// not be looked up.
	resolve func(ctx context.Context, dir string, f *forge.Forge) ([]forge.Finding, error)
}

func (v validator) all(ctx context.Context, files []string) []report.Forge {
	var all []report.Forge
	if len(files) == 0 {
		reading := readEach(ctx, "forge.cue")[0]
		if err := follow("forge.cue"); err != nil {
			reading.Err = err
		}
		one := v.one(ctx, reading)
		if errors.Is(one.Err, os.ErrNotExist) {
			one.Err = fmt.Errorf("%w; name the file: forged validate FILE", one.Err)
		}
		return append(all, one)
	}
	var named []string
	for _, file := range files {
		if err := follow(file); err != nil {
			all = append(all, report.Forge{File: file, Err: err})
			continue
		}
		if file != "-" {
			named = append(named, file)
			continue
		}
		src, err := readInput(ctx, v.in)
		all = append(all, v.one(ctx, schema.Reading{Paths: []string{"<stdin>"}, Source: src, Err: err}))
	}
	for _, reading := range readEach(ctx, named...) {
		all = append(all, v.one(ctx, reading))
	}
	at := func(f report.Forge) int {
		if f.File == "<stdin>" {
			return slices.Index(files, "-")
		}
		return slices.Index(files, f.File)
	}
	slices.SortStableFunc(all, func(a, b report.Forge) int { return cmp.Compare(at(a), at(b)) })
	return all
}

// readEach reads forges, if the system lets us.
func readEach(ctx context.Context, paths ...string) []schema.Reading {
	if len(paths) == 0 {
		return nil
	}
	readings, err := evaluate.Read(ctx, paths[0], readLimit(), func() ([]schema.Reading, error) { return schema.ReadEach(paths...), nil })
	if err != nil {
		return []schema.Reading{{Paths: paths, Err: err}}
	}
	return readings
}

// follow refuses a symbolic link to what is no text of a forge. Whoever proposes
// a change chooses where its links lead, and what is wrong with a forge is told
// with its lines, in logs that many read.
func follow(file string) error {
	for _, at := range []string{file, filepath.Join(file, "forge.cue")} {
		info, err := os.Lstat(at)
		if err != nil || info.Mode()&os.ModeSymlink == 0 {
			continue
		}
		to, err := filepath.EvalSymlinks(at)
		if err != nil {
			continue // reading it says why
		}
		if info, err := os.Stat(to); err == nil && info.Mode().IsRegular() && !slices.Contains([]string{".cue", ".json"}, filepath.Ext(to)) {
			return fmt.Errorf("read %s: it is a symbolic link to a file whose name does not end in .cue; name that file itself", at)
		}
	}
	return nil
}

func (v validator) one(ctx context.Context, reading schema.Reading) report.Forge {
	out := report.Forge{File: reading.Paths[0], Err: reading.Err}
	if out.Err != nil {
		return out
	}
	src := reading.Source
	src.Tags = v.tags
	f, diagnostics, err := v.judge(ctx, src)
	if err == nil {
		templates := newTemplates()
		defer templates.Close()
		var found []forge.Finding
		if found, err = localfiles.Check(ctx, src.Dir, f, localfiles.Options{Open: openChart(templates), Render: true}); err != nil {
			out.Err = err
			return out
		}
		unfit, unjudged := fits(ctx, f)
		if unjudged != nil {
			out.Err = unjudged
			return out
		}
		found = append(found, unfit...)
		if v.resolve != nil {
			var missing []forge.Finding
			missing, out.Err = v.resolve(ctx, src.Dir, f)
			found = append(found, missing...)
		}
		diagnostics = src.Find(diagnostics, found...)
	}
	if err != nil && !errors.As(err, &diagnostics) {
		out.Err = err
		return out
	}
	out.Diagnostics = diagnostics
	if diagnostics.Errors() == 0 {
		out.App = f.App.Name
		for _, env := range f.Environments {
			out.Environments = append(out.Environments, env.Name)
		}
	}
	return out
}

// judge is everything that can be said of a forge offline.
func judge(ctx context.Context, src schema.Source) (*forge.Forge, schema.Diagnostics, error) {
	return schema.Load(ctx, src, compile.Check, compile.Gaps)
}

// directories are the working directory, and the one that names of files start
// at for those who look at a whole repository.
func directories() (dir, root string) {
	dir, err := os.Getwd()
	if err != nil {
		return "", ""
	}
	if root = os.Getenv("GITHUB_WORKSPACE"); root != "" {
		if rel, err := filepath.Rel(root, dir); err == nil && filepath.IsLocal(rel) {
			return dir, root
		}
	}
	return dir, dir
}

func writeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
