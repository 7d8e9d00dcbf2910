package helm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// chartStore loads each chart once.
type chartStore struct {
	files  func(name string) ([]charts.File, error)
	mu     sync.Mutex
	loaded map[string]loadedChart
}

type loadedChart struct {
	files  []*loader.BufferedFile
	digest string
}

func (s *chartStore) get(name string) (loadedChart, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.loaded[name]; ok {
		return c, nil
	}
	files, err := s.files(name)
	if err != nil {
		return loadedChart{}, &reconcile.Error{Kind: reconcile.Invalid, Op: "load chart " + name, Err: err}
	}
	slices.SortFunc(files, func(a, b charts.File) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	c := loadedChart{}
	for _, f := range files {
		fmt.Fprintf(h, "%s\x00%d\x00", f.Name, len(f.Data))
		h.Write(f.Data)
		c.files = append(c.files, &loader.BufferedFile{Name: f.Name, Data: f.Data})
	}
	c.digest = hex.EncodeToString(h.Sum(nil))
	s.loaded[name] = c
	return c, nil
}

// load parses the chart anew: the SDK writes into the charts it is given.
func (c loadedChart) load(name string) (*chart.Chart, error) {
	ch, err := loader.LoadFiles(c.files)
	if err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Invalid, Op: "load chart " + name, Err: err}
	}
	return ch, nil
}

// desired is what a release is to be made of.
type desired struct {
	chart   loadedChart
	values  map[string]any
	key     string // of everything that could change the outcome; empty while an input is missing
	missing error  // of kind Waiting: an input that is not known yet
}

// desire puts the outputs of other resources into the values and computes the
// render key. Two equal keys render to equal bytes, so a release whose key
// has not moved is never rendered.
func (p *Provider) desire(req reconcile.Request, spec forge.ReleaseSpec) (desired, error) {
	ch, err := p.charts.get(spec.Chart)
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
