// Package schema is the language of forge.cue: its definition in CUE, the way
// from text to a [forge.Forge], and the diagnostics for text that is not
// valid. Reading is hermetic: no network, and no files but those of the forge's
// package and of the module around it.
package schema

import (
	"context"
	_ "embed"
	"fmt"
	"runtime/debug"
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"forged.dev/forged/internal/forge"
)

//go:embed forge.cue
var definition string

//go:embed scalars.cue
var scalars string

// Check reports what a forge that is valid by itself means elsewhere. It sees
// the whole model and touches nothing.
type Check func(*forge.Forge) []forge.Finding

// Load reads, completes and checks a forge. The error is [Diagnostics] when
// the text is at fault, all of it at once and the warnings among them;
// anything else means that the text could not be judged. Without an error the
// diagnostics are warnings. The result depends on nothing but src and checks.
//
// CUE cannot be cancelled: when ctx ends first, Load returns its error and
// leaves the evaluation to itself. It holds no lock and no file, but it goes
// on using CPU and memory until it is done; a process that must not bear that
// runs Load in a child process.
func Load(ctx context.Context, src Source, checks ...Check) (*forge.Forge, Diagnostics, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", src.Name(), err)
	}
	if ctx.Done() == nil {
		return load(src, checks)
	}
	type result struct {
		forge    *forge.Forge
		warnings Diagnostics
		err      error
	}
	done := make(chan result, 1)
	go func() {
		f, warnings, err := load(src, checks)
		done <- result{f, warnings, err}
	}()
	select {
	case r := <-done:
		return r.forge, r.warnings, r.err
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("read %s: its evaluation takes too long: %w", src.Name(), ctx.Err())
	}
}

func load(src Source, checks []Check) (f *forge.Forge, warnings Diagnostics, err error) {
	defer func() {
		// The evaluator is large and its input is not ours.
		if p := recover(); p != nil {
			f, warnings, err = nil, nil, fmt.Errorf("read %s: internal error: %v\n%s", src.Name(), p, debug.Stack())
		}
	}()
	text, diags := newProgram(src)
	if len(diags) > 0 {
		return nil, nil, src.sorted(diags)
	}
	l := &loader{src: src, text: text, files: text.files}
	if f = l.load(); f != nil {
		for _, check := range checks {
			for _, found := range check(f) {
				l.find(found)
			}
		}
	}
	diags = src.sorted(l.diags)
	if diags.Errors() > 0 {
		return nil, nil, diags
	}
	return f, diags, nil
}

// find reports what a check has found.
func (l *loader) find(f forge.Finding) {
	p := path(f.Path)
	if len(p) > 3 && p[0] == "environments" && p[2] == "app" && !l.written(p) {
		// An environment has what the shared app says.
		if shared := (path{"app"}).with(p[3:]...); l.written(shared) {
			p = shared
		}
	}
	l.add(p, l.pos(p, false), f.Rule, f.Message, f.Hint)
}

// loader holds what one Load works on.
type loader struct {
	src   Source
	text  *program
	files []*ast.File
	index *index // of files; made when the first position is asked for
	model *model // of the schema; made when the first diagnostic needs it

	ctx   *cue.Context // makes every value here
	lang  cue.Value    // the schema
	user  cue.Value    // what is written
	whole cue.Value    // unified with the schema: what is meant; not made where parts will do

	complete bool // the whole is asked for

	broken   map[string]bool                 // paths with a diagnostic, and everything above them
	without  []path                          // objects in which a name was forgotten
	selected map[token.Pos]*ast.SelectorExpr // see selectors
	diags    Diagnostics
}

// load returns nil when there are diagnostics.
func (l *loader) load() *forge.Forge {
	// The settings of the environment are for people who debug CUE; a
	// forge.cue means the same wherever it is read.
	l.ctx = cuecontext.New(cuecontext.EvaluatorVersion(cuecontext.EvalV3), cuecontext.CUE_DEBUG(""))
	l.lang = l.ctx.CompileString(definition+scalars, cue.Filename("schema.cue"))
	if err := l.lang.Err(); err != nil {
		panic(err) // it is embedded and tested
	}
	inst, err := l.text.instance()
	if err != nil {
		l.addCompileErrors(err)
		return nil
	}
	l.user = l.ctx.BuildInstance(inst)
	if !l.complete {
		if w, ok := l.parts(); ok {
			return l.judge(w)
		}
	}
	l.whole = l.lang.LookupPath(cue.MakePath(cue.Def("Forge"))).Unify(l.user)
	if err := l.whole.Validate(cue.Concrete(true), cue.Final()); err != nil {
		if err := l.user.Err(); err != nil && !l.compiled() {
			l.addCompileErrors(err)
			return nil
		}
		l.explain(l.explainTags(l.errors(err)))
	}
	return l.judge(l.decode())
}

// judge checks the rules on what is written, and builds the model of it.
func (l *loader) judge(w wire) *forge.Forge {
	l.check(w)
	if l.diags.Errors() > 0 {
		return nil
	}
	return w.forge(l.src.Dir)
}

// errors are all that CUE finds: beside an error it does not look for values
// that are missing, so each part is asked by itself.
func (l *loader) errors(whole error) []errors.Error {
	all := errors.Errors(whole)
	parts := []path{{"app"}}
	for _, name := range l.fields(path{"environments"}) {
		parts = append(parts, path{"environments", name})
	}
	for _, p := range parts {
		if v := l.whole.LookupPath(selectors(l.whole, p)); v.Exists() {
			all = append(all, errors.Errors(v.Validate(cue.Concrete(true), cue.Final()))...)
		}
	}
	return all
}

// compiled tells whether the text has become fields. A name that stands for
// nothing leaves none of them, whereas a wrong value leaves the others.
func (l *loader) compiled() bool {
	return slices.ContainsFunc(l.places().children[""], func(name string) bool { return l.written(path{name}) })
}
