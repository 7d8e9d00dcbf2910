package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Charts finds charts of the user's own.
type Charts interface {
	// Load returns the files of a chart, named from the chart's directory
	// ("Chart.yaml", "templates/app.yaml", "charts/db/Chart.yaml"; a packed
	// dependency is one file below charts/), and a digest: of equal digests
	// the files are equal. The files are not changed afterwards, by anybody.
	//
	// It is called with every look at a release, so it answers from memory
	// while the chart is as it was. Errors are *reconcile.Error: Unavailable
	// when the place does not answer, Invalid when there is no such chart or
	// it is not the one that was locked.
	Load(ctx context.Context, source forge.ChartSource) (files []charts.File, digest string, err error)
}

// chartStore finds charts; each of the embedded ones is read once.
type chartStore struct {
	embedded func(name string) ([]charts.File, error)
	others   Charts

	mu     sync.Mutex
	loaded map[string]loadedChart
}

// loadedChart is a chart as it lies in its files.
type loadedChart struct {
	name   string // for people
	files  []charts.File
	digest string
}

func (s *chartStore) get(ctx context.Context, spec forge.ReleaseSpec) (loadedChart, error) {
	if spec.Source == nil {
		return s.own(spec.Chart)
	}
	name := sourceName(*spec.Source)
	if s.others == nil {
		return loadedChart{}, reconcile.Errorf(reconcile.Internal, "load chart "+name, "nothing here loads charts of a user")
	}
	files, digest, err := s.others.Load(ctx, *spec.Source)
	return loadedChart{name: name, files: files, digest: digest}, err
}

// sourceName is what a chart of the user's is called in messages.
func sourceName(s forge.ChartSource) string {
	switch {
	case s.Path != "":
		return s.Path
	case s.Name != "":
		return s.Name
	}
	return s.URL
}

func (s *chartStore) own(name string) (loadedChart, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.loaded[name]; ok {
		return c, nil
	}
	files, err := s.embedded(name)
	if err != nil {
		return loadedChart{}, &reconcile.Error{Kind: reconcile.Invalid, Op: "load chart " + name, Err: err}
	}
	slices.SortFunc(files, func(a, b charts.File) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s\x00%d\x00", f.Name, len(f.Data))
		h.Write(f.Data)
	}
	c := loadedChart{name: name, files: files, digest: hex.EncodeToString(h.Sum(nil))}
	s.loaded[name] = c
	return c, nil
}

// load parses the chart anew: rendering writes into the charts it is given.
func (c loadedChart) load() (*chart.Chart, error) {
	invalid := func(err error, hint string) error {
		return &reconcile.Error{Kind: reconcile.Invalid, Op: "load chart " + c.name, Err: err, Hint: hint}
	}
	files := make([]*loader.BufferedFile, len(c.files))
	for i, f := range c.files {
		files[i] = &loader.BufferedFile{Name: f.Name, Data: f.Data}
	}
	ch, err := loader.LoadFiles(files)
	if err != nil {
		return nil, invalid(err, "")
	}
	if ch.Metadata.Type == "library" {
		return nil, invalid(fmt.Errorf("it is a library chart, which makes nothing by itself"), "name a chart that uses it")
	}
	if err := action.CheckDependencies(ch, ch.Metadata.Dependencies); err != nil {
		return nil, invalid(err, "run helm dependency update in the chart's directory")
	}
	return ch, nil
}

// desired is what a release is to be made of.
type desired struct {
	chart   loadedChart
	values  map[string]any
	key     string // of everything forged puts in; empty while an input is missing
	missing error  // of kind Waiting: an input that is not known yet
}

// desire puts the outputs of other resources into the values and computes the
// render key. What is rendered follows from it and from what the chart asks
// the cluster, and nothing else is a reason to render again.
func (p *Provider) desire(ctx context.Context, req reconcile.Request, spec forge.ReleaseSpec) (desired, error) {
	ch, err := p.charts.get(ctx, spec)
	if err != nil {
		return desired{}, err
	}
	d := desired{chart: ch, values: cloneMap(spec.Values)}
	waiting := false
	for _, in := range spec.Inputs {
		out, ok := req.Inputs[in.From][in.Output]
		if !ok {
			d.missing, waiting = reconcile.WaitingFor(in.From, in.Output), true
			continue
		}
		if err := put(d.values, in.Path, out.Value); err != nil {
			return desired{}, &reconcile.Error{Kind: reconcile.Internal, ID: req.Resource.ID, Op: "set input", Err: err}
		}
	}
	if waiting {
		return d, nil // told as a field: what is known serves to observe
	}
	values, err := json.Marshal(d.values) // sorts the keys
	if err != nil {
		return desired{}, &reconcile.Error{Kind: reconcile.Internal, ID: req.Resource.ID, Op: "encode values", Err: err}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00", ch.digest, spec.Namespace, spec.Name, req.Resource.ID)
	h.Write(values)
	d.key = hex.EncodeToString(h.Sum(nil))
	return d, nil
}

func put(m map[string]any, path []string, v string) error {
	if len(path) == 0 {
		return fmt.Errorf("empty path")
	}
	for _, k := range path[:len(path)-1] {
		next, ok := m[k].(map[string]any)
		if !ok {
			if m[k] != nil {
				return fmt.Errorf("%s: %s is a %T", strings.Join(path, "."), k, m[k])
			}
			next = map[string]any{}
			m[k] = next
		}
		m = next
	}
	m[path[len(path)-1]] = v
	return nil
}

func cloneMap(m map[string]any) map[string]any {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range out {
		out[k] = cloneValue(v)
	}
	return out
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneMap(v)
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = cloneValue(out[i])
		}
		return out
	}
	return v
}
