package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/schema"
)

// loaded is a valid forge and what it asks for.
type loaded struct {
	forge      *forge.Forge
	generation reconcile.Generation // without number
	secrets    map[string][]string  // secret files, by absolute path, with the environments that use them
}

// load turns text into what it asks for. What is wrong with the text comes
// back as schema.Diagnostics; any other error means that it was not judged.
// It touches nothing but src.
func load(ctx context.Context, src schema.Source, only []string) (*loaded, error) {
	f, _, err := schema.Load(ctx, src)
	if err != nil {
		return nil, err
	}
	resources, err := compile.Forge(f)
	if err != nil {
		return nil, compileDiagnostics(src.Files[0].Name, err)
	}
	l := &loaded{forge: f, secrets: map[string][]string{}}
	of := map[string][]forge.Resource{}
	for _, r := range resources {
		of[r.ID.Environment] = append(of[r.ID.Environment], r)
	}
	var names []string
	for _, env := range f.Environments {
		names = append(names, env.Name)
		if len(only) > 0 && !slices.Contains(only, env.Name) {
			continue
		}
		l.generation.Environments = append(l.generation.Environments, reconcile.Environment{
			Name: env.Name, Platform: env.Platform.Kind, Target: env.Platform.Context,
			Policy:    env.Policy,
			Resources: of[env.Name],
		})
		for _, ref := range secretRefs(env) {
			if ref.File != "" {
				path := inDir(src.Dir, ref.File)
				l.secrets[path] = append(l.secrets[path], env.Name)
			}
		}
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no environment %q in %s; it has %s", name, src.Files[0].Name, strings.Join(names, ", "))
		}
	}
	for path, envs := range l.secrets {
		l.secrets[path] = slices.Compact(envs)
	}
	return l, nil
}

// secretRefs are all references to secrets in an environment.
func secretRefs(env forge.Environment) []forge.SecretRef {
	refs := []forge.SecretRef{env.Services.Postgres.Password, env.Services.Redis.Password}
	for _, ref := range env.App.Secrets {
		refs = append(refs, ref)
	}
	return refs
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
	var walk func(error)
	walk = func(err error) {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				walk(e)
			}
			return
		}
		out = append(out, schema.Diagnostic{
			Severity: schema.SeverityError, File: file, Rule: "compile", Message: err.Error(),
		})
	}
	walk(err)
	return out
}

// source builds configurations for a daemon.
type source struct {
	only     []string
	instance string
	activate func(*loaded, int, string) error
}

// build is a daemon.Build.
func (s *source) build(ctx context.Context, path string, data []byte) (*daemon.Config, error) {
	src := schema.Source{Dir: filepath.Dir(path), Files: []schema.File{{Name: path, Data: data}}}
	l, err := load(ctx, src, s.only)
	if d := schema.Diagnostics(nil); errors.As(err, &d) {
		return nil, invalid(d)
	}
	if err != nil {
		return nil, err
	}
	if s.instance == "" {
		s.instance = l.forge.App.Name // at the first load; what is owned is marked with it from then on
	}
	return &daemon.Config{
		Secrets:  l.secrets,
		Activate: func(generation int, hash string) error { return s.activate(l, generation, hash) },
	}, nil
}

func invalid(diagnostics schema.Diagnostics) *daemon.InvalidError {
	e := &daemon.InvalidError{}
	for _, d := range diagnostics {
		e.Problems = append(e.Problems, daemon.Problem{
			File: d.File, Line: d.Line, Column: d.Col, Path: d.Path, Message: d.Message, Hint: d.Hint,
		})
	}
	return e
}

// loadFile is load for the commands that read a forge once. Diagnostics are
// shown on the way out.
func loadFile(ctx context.Context, f configFlags, s streams) (*loaded, error) {
	src, err := schema.Read(f.config)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; name another file with --config", err)
	}
	if err != nil {
		return nil, err
	}
	l, err := load(ctx, src, f.environments)
	if d := schema.Diagnostics(nil); errors.As(err, &d) {
		return nil, refuse(f.config, d, s)
	}
	if err != nil {
		return nil, err
	}
	l.generation.Number, l.generation.Hash = 1, daemon.Hash(src.Files[0].Data)
	return l, nil
}

// refuse shows diagnostics to a person and makes the error that ends the
// command.
func refuse(file string, d schema.Diagnostics, s streams) error {
	_ = d.Write(s.err, schema.WriteOptions{Color: colored(s.err), Excerpt: true})
	return fmt.Errorf("%s is invalid: %s", file, count(len(d), "mistake"))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
