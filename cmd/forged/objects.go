package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/reconcile"
)

// rendition is what a release or a job comes to. Its JSON form is stable.
type rendition struct {
	ID      forge.ID         `json:"id"`
	Objects []map[string]any `json:"objects"`
	Fitted  []fitLine        `json:"fitted,omitempty"` // to Fly Kubernetes
}

// fitLine is what a rule of Fly Kubernetes had to say of an object.
type fitLine struct {
	Rule    string     `json:"rule"`
	Action  fks.Action `json:"action"`
	Object  string     `json:"object"`
	Path    string     `json:"path,omitempty"`
	From    string     `json:"from,omitempty"`
	To      string     `json:"to,omitempty"`
	Message string     `json:"message"`
}

// maker finds out offline what environments come to.
type maker struct {
	judge fitJudge
	out   []rendition
	left  []string // what could not be rendered, and why
	unfit int      // what a cluster would refuse
}

// newMaker renders charts of the user that lie below a directory.
func newMaker(dir string) *maker {
	local := func(ctx context.Context, s forge.ChartSource) (chartsource.Chart, error) {
		if s.Kind != forge.ChartPath {
			return chartsource.Chart{}, fmt.Errorf("its chart is not on this machine: forged plan renders it")
		}
		path := s.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return chartsource.Read(ctx, path)
	}
	return &maker{judge: fitJudge{load: local, templates: newTemplates()}}
}

// environment adds the objects of all releases and jobs.
func (m *maker) environment(ctx context.Context, env forge.Environment) error {
	resources, err := compile.Environment(env)
	if err != nil {
		return err
	}
	for r := range m.judge.renderings(ctx, env.Name, resources) {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.err != nil:
			m.left = append(m.left, fmt.Sprintf("%s: %v", r.id, r.err))
		default:
			m.add(r)
		}
	}
	return nil
}

func (m *maker) add(r rendering) {
	a, objects := rendition{ID: r.id}, r.objects
	if r.rules.Table == forge.TableFKS {
		var findings []fks.Finding
		objects, findings = fks.Fit(objects, r.options())
		for _, f := range findings {
			a.Fitted = append(a.Fitted, fitLine{f.Rule, f.Action, f.Object, f.Path, f.From, f.To, f.Message})
			if f.Action == fks.Error {
				m.unfit++
			}
		}
	}
	for _, o := range objects {
		a.Objects = append(a.Objects, o.Object)
	}
	m.out = append(m.out, a)
}

// renderObjects writes the objects that environments come to.
func renderObjects(ctx context.Context, s streams, dir string, envs []forge.Environment, form string) error {
	if form == "cue" {
		return fmt.Errorf("objects have no form in CUE; write -o yaml or -o json")
	}
	m := newMaker(dir)
	defer m.judge.templates.Close()
	for _, env := range envs {
		if err := m.environment(ctx, env); err != nil {
			return err
		}
	}
	write := m.yaml
	if form == "json" {
		write = func(w io.Writer) error { return writeJSON(w, map[string]any{"renditions": m.out}) }
	}
	if err := write(s.out); err != nil {
		return err
	}
	switch {
	case len(m.left) > 0:
		return fmt.Errorf("not everything could be rendered:\n  %s", strings.Join(m.left, "\n  "))
	case m.unfit > 0:
		return fmt.Errorf("not all of it can run on Fly Kubernetes: see what is marked with error above, or forged validate")
	}
	return nil
}

// yaml writes objects as kubectl reads them. What was done to each stands before
// it; what was taken out as a whole stands first.
func (m *maker) yaml(w io.Writer) error {
	var b strings.Builder
	for _, a := range m.out {
		told := map[string][]fitLine{}
		for _, f := range a.Fitted {
			told[f.Object] = append(told[f.Object], f)
		}
		for _, o := range a.Objects {
			delete(told, fks.Title(o))
		}
		b.WriteString("---\n# " + a.ID.String() + "\n")
		for _, f := range a.Fitted {
			if len(told[f.Object]) > 0 {
				b.WriteString(f.comment(f.Object))
			}
		}
		for i, o := range a.Objects {
			if i > 0 {
				b.WriteString("---\n")
			}
			for _, f := range a.Fitted {
				if f.Object == fks.Title(o) {
					b.WriteString(f.comment(f.Path))
				}
			}
			text, err := yaml.Marshal(o)
			if err != nil {
				return err
			}
			b.Write(text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f fitLine) comment(at string) string {
	line := "# " + f.Rule
	if at != "" {
		line += " " + at
	}
	if f.Action == fks.Drop || f.Action == fks.Rewrite {
		c := onOneLine([]reconcile.Change{{From: f.From, To: f.To}})[0]
		return fmt.Sprintf("%s: %s → %s\n", line, orNone(c.From), orNone(c.To))
	}
	return fmt.Sprintf("%s: %s: %s\n", line, f.Action, f.Message)
}
