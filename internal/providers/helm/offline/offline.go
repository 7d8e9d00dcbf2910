// Package offline reads charts of this machine and renders them without a
// cluster, as far as that can be done.
package offline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/reconcile"
)

// Chart is a chart of this machine.
type Chart struct {
	// Apart renders it; nil: it is rendered here, which is for charts of our
	// own.
	Apart *render.Child

	files  map[string]string
	buffer []charts.File
}

// Error says why a directory or an archive is not a chart.
type Error struct {
	err  error
	hint string
}

func (e *Error) Error() string { return e.err.Error() }

// Unwrap implements errors.Unwrap.
func (e *Error) Unwrap() error { return e.err }

// Hint says what to do next; it may be empty.
func (e *Error) Hint() string { return e.hint }

// Open reads the chart in a directory or an archive.
func Open(ctx context.Context, path string) (*Chart, error) {
	read, err := chartsource.Read(ctx, path)
	if err != nil {
		var full *reconcile.Error
		if errors.As(err, &full) {
			err = &Error{full.Err, full.Hint}
		}
		return nil, err
	}
	return Of(read.Files), nil
}

// Of is the chart that consists of these files.
func Of(files []charts.File) *Chart {
	c := &Chart{files: map[string]string{}, buffer: files}
	for _, f := range files {
		c.files[f.Name] = string(f.Data)
	}
	return c
}

// Files are the texts of its files, by name. Charts that lie in it are
// unpacked.
func (c *Chart) Files() map[string]string { return c.files }

// Render returns what its templates give, by their names: "templates/app.yaml".
// Of the cluster nothing is known but a version, and there is nothing to look
// up in it.
func (c *Chart) Render(ctx context.Context, release, namespace string, values map[string]any) (map[string]string, error) {
	out, err := c.render(ctx, render.Input{Name: release, Namespace: namespace, Values: values})
	return c.named(out.Texts), err
}

// RenderTwice is Render, twice: what differs then will differ always.
func (c *Chart) RenderTwice(ctx context.Context, release, namespace string, values map[string]any) (first, again map[string]string, err error) {
	out, err := c.render(ctx, render.Input{Name: release, Namespace: namespace, Values: values, Twice: true})
	return c.named(out.Texts), c.named(out.Again), err
}

func (c *Chart) render(ctx context.Context, in render.Input) (render.Output, error) {
	in.Files, in.Revision, in.Install = c.buffer, 1, true
	if c.Apart == nil {
		return render.Here(in, nil)
	}
	out, err := c.Apart.Render(ctx, in, nil)
	end, _ := errors.AsType[*apart.EndError](err)
	switch {
	case err == nil, ctx.Err() != nil:
		return out, err
	case errors.Is(err, apart.ErrMemory):
		err = fmt.Errorf("its templates need more than %s of memory; allow more with %s", apart.Size(c.Apart.Bounds().Memory), apart.MemoryVariable)
	case end != nil:
		err = fmt.Errorf("the process of its templates %w", end)
	}
	return out, errors.New(shorter(err.Error(), c.name()))
}

// name is that of the chart; empty if it cannot be read.
func (c *Chart) name() string {
	var head struct{ Name string }
	_ = yaml.Unmarshal([]byte(c.files["Chart.yaml"]), &head) // who renders it says what is wrong
	return head.Name
}

// named are texts by the names of their templates in the chart.
func (c *Chart) named(all map[string]string) map[string]string {
	texts, of := make(map[string]string, len(all)), c.name()+"/"
	for name, text := range all {
		texts[strings.TrimPrefix(name, of)] = text
	}
	return texts
}

// shorter drops what Helm's errors begin with and the name of the chart before
// the names of its templates.
func shorter(text, chart string) string {
	text = strings.ReplaceAll(text, chart+"/templates/", "templates/")
	return strings.TrimPrefix(text, "template: ")
}
