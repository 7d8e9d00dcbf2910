package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/evaluate"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/localfiles"
	"forged.dev/forged/internal/providers/helm/offline"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/schema"
)

// loaded is a valid forge and what it asks for.
type loaded struct {
	forge      *forge.Forge
	source     schema.Source
	warnings   schema.Diagnostics
	dir        string               // where relative paths in it start
	generation reconcile.Generation // without number
	secrets    map[string][]string  // secret files, by absolute path, with the environments that use them
	local      map[string][]string  // charts and files that it names, likewise
}

// load turns text into what it asks for. What is wrong with the text comes
// back as schema.Diagnostics; any other error means that it was not judged.
// It looks at nothing but src, and the charts and files that it names: with an
// error it may return a loaded that has nothing but these.
func load(ctx context.Context, e *evaluate.Evaluator, src schema.Source, only []string) (*loaded, error) {
	f, warnings, err := e.Evaluate(ctx, src)
	if err != nil {
		return nil, err
	}
	found, err := localfiles.Check(ctx, src.Dir, f, localfiles.Options{Open: openChart(nil)})
	if err != nil {
		return nil, err
	}
	l := &loaded{forge: f, source: src, dir: src.Dir, secrets: map[string][]string{}, local: named(src.Dir, f, only)}
	warnings = src.Find(warnings, found...)
	if warnings.Errors() > 0 {
		return &loaded{local: l.local}, warnings
	}
	l.generation.Hash = src.Hash()
	var names []string
	for _, env := range f.Environments {
		names = append(names, env.Name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no environment %q in %s; it has %s", name, src.Name(), strings.Join(names, ", "))
		}
	}
	chosen := func(name string) bool { return len(only) == 0 || slices.Contains(only, name) }
	if d := notYet(warnings, names, chosen); len(d) > 0 {
		return nil, d
	}
	var problems []error
	for _, env := range f.Environments {
		if !chosen(env.Name) {
			continue
		}
		resources, err := compile.Runnable(env)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		l.generation.Environments = append(l.generation.Environments, reconcile.Environment{
			Name: env.Name, Platform: env.Platform.Kind, Target: targetOf(env),
			Policy: env.Policy, Resources: resources, Former: compile.Former(env), Workers: workersOf(env),
		})
		for _, ref := range f.References(env) {
			file := ref.File
			if ref.SOPS != nil {
				file = ref.SOPS.File
			}
			if file != "" {
				path := inDir(src.Dir, file)
				l.secrets[path] = append(l.secrets[path], env.Name)
			}
		}
	}
	if len(problems) > 0 {
		return nil, compileDiagnostics(src.Name(), errors.Join(problems...))
	}
	for path, envs := range l.secrets {
		l.secrets[path] = slices.Compact(envs)
	}
	l.warnings = about(warnings, names, chosen)
	return l, nil
}

// workersOf is how many resources of an environment are worked on at a time. On
// Fly it is not work but waiting: for the one request a second that each thing is
// allowed, and for the machine that keeps the inventory, which takes in at once
// what many have to write.
func workersOf(env forge.Environment) int {
	if env.Platform.Kind == forge.PlatformFly || env.Platform.Kind == forge.PlatformFKS {
		return 16
	}
	return 0 // the engine's
}

// targetOf is where an environment runs, for people: each of its clusters.
func targetOf(env forge.Environment) string {
	regions := compile.Regions(env)
	switch {
	case env.Platform.Kind == forge.PlatformFly:
		return env.Platform.Org
	case env.Platform.Kind == forge.PlatformFKS:
		return env.Platform.Org + "/" + env.Platform.Cluster
	case len(regions) == 0:
		return env.Platform.Context
	}
	clusters := make([]string, len(regions))
	for i, r := range regions {
		clusters[i] = r.Name + " → " + r.Context
	}
	return strings.Join(clusters, ", ")
}

// openChart reads charts that a forge names; those that are rendered need a
// child for that.
func openChart(templates *render.Child) func(context.Context, string) (localfiles.Chart, error) {
	return func(ctx context.Context, path string) (localfiles.Chart, error) {
		c, err := offline.Open(ctx, path)
		if err != nil {
			return nil, err // and no chart that is not there
		}
		c.Apart = templates
		return c, nil
	}
}

// named are the charts and files that a forge names, by absolute path, with the
// environments that use them.
func named(dir string, f *forge.Forge, only []string) map[string][]string {
	paths := map[string][]string{}
	for _, env := range f.Environments {
		if len(only) > 0 && !slices.Contains(only, env.Name) {
			continue
		}
		add := func(path string) {
			if path == "" {
				return
			}
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
			if !slices.Contains(paths[path], env.Name) {
				paths[path] = append(paths[path], env.Name)
			}
		}
		for _, file := range env.App.ConfigFiles {
			if file.File != "" {
				add(inDir(dir, file.File))
			}
		}
		if env.App.Chart != nil {
			add(env.App.Chart.Path)
		}
		for _, chart := range env.Charts {
			add(chart.Path)
		}
	}
	return paths
}

// notYet are the warnings about what this build cannot do yet in the chosen
// environments, as the mistakes they are for who asks it to act on them.
func notYet(warnings schema.Diagnostics, all []string, chosen func(string) bool) schema.Diagnostics {
	gaps := slices.DeleteFunc(slices.Clone(warnings), func(d schema.Diagnostic) bool {
		return d.Name != "unsupported"
	})
	others := ""
	for _, name := range all {
		if !slices.ContainsFunc(gaps, func(d schema.Diagnostic) bool {
			return concerns(d, name) || !strings.HasPrefix(d.Path, "environments.")
		}) {
			others += " -e " + name
		}
	}
	gaps = about(gaps, all, chosen)
	for i := range gaps {
		gaps[i].Severity = schema.SeverityError
		if others != "" {
			gaps[i].Hint += "; the other environments go on without it:" + others
		}
	}
	return gaps
}

// about are the diagnostics that concern the chosen environments, or all.
func about(diagnostics schema.Diagnostics, all []string, chosen func(string) bool) schema.Diagnostics {
	return slices.DeleteFunc(slices.Clone(diagnostics), func(d schema.Diagnostic) bool {
		return slices.ContainsFunc(all, func(name string) bool { return !chosen(name) && concerns(d, name) })
	})
}

// concerns tells whether a diagnostic is about that environment alone.
func concerns(d schema.Diagnostic, name string) bool {
	at := "environments." + name
	return d.Path == at || strings.HasPrefix(d.Path, at+".")
}

// inDir is path as seen from dir.
func inDir(dir, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}

// compileDiagnostics are mistakes that show only when an environment is
// compiled: they name the environment and the field, and have no line.
func compileDiagnostics(file string, err error) schema.Diagnostics {
	var out schema.Diagnostics
	rule, _ := schema.RuleNamed("compile")
	var walk func(error)
	walk = func(err error) {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				walk(e)
			}
			return
		}
		out = append(out, schema.Diagnostic{
			Severity: schema.SeverityError, File: file, Rule: rule.ID, Name: "compile", Message: err.Error(),
		})
	}
	walk(err)
	return out
}

// source is where a daemon's configurations come from.
type source struct {
	configFlags
	evaluator *evaluate.Evaluator
	ahead     func(context.Context, *loaded) error
	activate  func(*loaded, int, string) error

	mu    sync.Mutex
	first *loaded // was built already, before there was a daemon
}

// read looks at the text. It may be called from several goroutines.
func (s *source) read() daemon.Reading {
	src, err := schema.Read(s.config)
	if err != nil {
		return daemon.Reading{Err: err}
	}
	src.Tags = s.tags
	return daemon.Reading{
		Hash: src.Hash(), Files: src.Paths(), Dirs: src.Dirs,
		Build: func(ctx context.Context) (*daemon.Config, error) { return s.build(ctx, src) },
	}
}

func (s *source) build(ctx context.Context, src schema.Source) (*daemon.Config, error) {
	l := s.takeFirst(src.Hash())
	if l == nil {
		var err error
		if l, err = load(ctx, s.evaluator, src, s.environments); err == nil {
			err = s.ahead(ctx, l)
		}
		if d, ok := errors.AsType[schema.Diagnostics](err); ok {
			invalid := &daemon.InvalidError{Problems: problems(d, schema.SeverityError)}
			if l == nil {
				return nil, invalid
			}
			return &daemon.Config{Local: l.local}, invalid
		}
		if x, ok := errors.AsType[*evaluate.UnjudgedError](err); ok {
			return nil, &daemon.UnjudgedError{Err: x}
		}
		if x, ok := errors.AsType[*unreadError](err); ok {
			return nil, &daemon.UnjudgedError{Err: x}
		}
		if err != nil {
			return nil, err
		}
	}
	return &daemon.Config{
		Secrets:  l.secrets,
		Local:    l.local,
		Warnings: problems(l.warnings, schema.SeverityWarning),
		Activate: func(generation int, hash string) error { return s.activate(l, generation, hash) },
	}, nil
}

func (s *source) takeFirst(hash string) *loaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.first
	s.first = nil
	if l != nil && l.generation.Hash == hash {
		return l
	}
	return nil
}

// problems are the diagnostics of one severity.
func problems(diagnostics schema.Diagnostics, severity schema.Severity) []daemon.Problem {
	var out []daemon.Problem
	for _, d := range diagnostics {
		if d.Severity == severity {
			out = append(out, daemon.Problem{
				File: d.File, Line: d.Line, Column: d.Col, Path: d.Path, Rule: d.Rule, Message: d.Message, Hint: d.Hint,
			})
		}
	}
	return out
}

// loadFile is load for the commands that read a forge once, and for the start
// of a daemon. Diagnostics are shown on the way out.
func loadFile(ctx context.Context, e *evaluate.Evaluator, f configFlags, s streams) (*loaded, error) {
	src, err := readFile(ctx, f.config)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; name another file with --config", err)
	}
	if err != nil {
		return nil, err
	}
	src.Tags = f.tags
	l, err := load(ctx, e, src, f.environments)
	if d, ok := errors.AsType[schema.Diagnostics](err); ok {
		return nil, refuse(src.Name(), d, s)
	}
	if err != nil {
		return nil, err
	}
	l.generation.Number = 1
	return l, nil
}

// warn shows the warnings to a person.
func (l *loaded) warn(s streams) {
	_ = l.warnings.Write(s.err, schema.WriteOptions{Color: colored(s.err), Excerpt: true})
}

// refuse shows diagnostics to a person and makes the error that ends the
// command.
func refuse(file string, d schema.Diagnostics, s streams) error {
	_ = d.Write(s.err, schema.WriteOptions{Color: colored(s.err), Excerpt: true})
	var later []string // environments that are valid, and not for this build
	for _, x := range d {
		switch at := strings.Split(x.Path, "."); {
		case x.Severity != schema.SeverityError:
		case x.Name != "unsupported" || len(at) < 2:
			return fmt.Errorf("%s is invalid: %s", file, count(d.Errors(), "error"))
		case !slices.Contains(later, at[1]):
			later = append(later, at[1])
		}
	}
	return fmt.Errorf("%s is valid, and %s cannot be run by this build yet", file, strings.Join(later, ", "))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
