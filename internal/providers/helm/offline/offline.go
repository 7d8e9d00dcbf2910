// Package offline reads charts of this machine and renders them without a
// cluster, as far as that can be done.
package offline

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/reconcile"
)

// Chart is a chart of this machine.
type Chart struct {
	files  map[string]string
	buffer []*loader.BufferedFile
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
	c := &Chart{files: map[string]string{}}
	for _, f := range files {
		c.files[f.Name] = string(f.Data)
		c.buffer = append(c.buffer, &loader.BufferedFile{Name: f.Name, Data: f.Data})
	}
	return c
}

// Files are the texts of its files, by name. Charts that lie in it are
// unpacked.
func (c *Chart) Files() map[string]string { return c.files }

// Render returns what its templates give, by their names: "templates/app.yaml".
// Of the cluster nothing is known but a version, and there is nothing to look
// up in it. It ends when ctx does, but what it has begun goes on: a template
// cannot be stopped.
func (c *Chart) Render(ctx context.Context, release, namespace string, values map[string]any) (map[string]string, error) {
	type outcome struct {
		texts map[string]string
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		texts, err := c.render(release, namespace, values)
		done <- outcome{texts, err}
	}()
	select {
	case o := <-done:
		return o.texts, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *Chart) render(release, namespace string, values map[string]any) (map[string]string, error) {
	ch, err := loader.LoadFiles(c.buffer)
	if err != nil {
		return nil, err
	}
	values = copied(values)
	if err := chartutil.ProcessDependenciesWithMerge(ch, values); err != nil {
		return nil, err
	}
	in, err := chartutil.ToRenderValuesWithSchemaValidation(ch, values, chartutil.ReleaseOptions{
		Name: release, Namespace: namespace, Revision: 1, IsInstall: true,
	}, chartutil.DefaultCapabilities.Copy(), leadsAway(ch))
	if err != nil {
		return nil, err
	}
	all, err := engine.Render(withoutNotes(ch), in)
	if err != nil {
		return nil, errors.New(shorter(err.Error(), ch.Name()))
	}
	texts := map[string]string{}
	for name, text := range all {
		texts[strings.TrimPrefix(name, ch.Name()+"/")] = text
	}
	return texts, nil
}

// elsewhere is a reference of a schema to another file or machine.
var elsewhere = regexp.MustCompile(`"\$ref"\s*:\s*"[a-z]+:`)

// leadsAway tells whether the schemas of a chart's values cannot be judged by
// what is in it: they are judged at the rollout then.
func leadsAway(ch *chart.Chart) bool {
	return elsewhere.Match(ch.Schema) || slices.ContainsFunc(ch.Dependencies(), leadsAway)
}

// withoutNotes drops what is for people who run helm.
func withoutNotes(ch *chart.Chart) *chart.Chart {
	var rest []*chart.File
	for _, t := range ch.Templates {
		if !strings.HasSuffix(t.Name, "NOTES.txt") {
			rest = append(rest, t)
		}
	}
	ch.Templates = rest
	for _, d := range ch.Dependencies() {
		withoutNotes(d)
	}
	return ch
}

// shorter drops what Helm's errors begin with and the name of the chart before
// the names of its templates.
func shorter(text, chart string) string {
	text = strings.ReplaceAll(text, chart+"/templates/", "templates/")
	return strings.TrimPrefix(text, "template: ")
}

// copied is a copy that the SDK may write into.
func copied(values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for k, v := range values {
		out[k] = copiedValue(v)
	}
	return out
}

func copiedValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return copied(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = copiedValue(v[i])
		}
		return out
	}
	return v
}
