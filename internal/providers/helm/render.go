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

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"

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

// render renders a chart exactly as the SDK will for the next revision.
func (s *seen) render(ch *chart.Chart, values map[string]any, caps *chartutil.Capabilities) (string, error) {
	invalid := func(err error) error {
		return &reconcile.Error{Kind: reconcile.Invalid, ID: s.h.id, Object: s.object(), Op: "render chart " + ch.Name(), Err: err}
	}
	values = cloneMap(values)
	if err := chartutil.ProcessDependenciesWithMerge(ch, values); err != nil {
		return "", invalid(err)
	}
	vals, err := chartutil.ToRenderValues(ch, values, chartutil.ReleaseOptions{
		Name: s.h.spec.Name, Namespace: s.h.spec.Namespace, Revision: s.newest.number + 1,
		IsInstall: !s.exists, IsUpgrade: s.exists,
	}, caps)
	if err != nil {
		return "", invalid(err)
	}
	files, err := engine.Render(ch, vals)
	if err != nil {
		return "", invalid(err)
	}
	maps.DeleteFunc(files, func(name, _ string) bool { return strings.HasSuffix(name, "NOTES.txt") })
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", invalid(err)
	}
	if len(hooks) > 0 {
		return "", invalid(fmt.Errorf("%s is a Helm hook; this build runs no hooks", hooks[0].Path))
	}
	var b strings.Builder
	for _, m := range manifests {
		fmt.Fprintf(&b, "---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	return b.String(), nil
}

// capabilities are the cluster's own, so that a chart that asks for them
// renders as it would with the helm command.
func (h *handle) capabilities(ctx context.Context) (*chartutil.Capabilities, error) {
	v, apis, err := h.cluster.Discovery(ctx)
	if err != nil {
		return nil, err
	}
	return &chartutil.Capabilities{
		KubeVersion: chartutil.KubeVersion{Version: v.GitVersion, Major: v.Major, Minor: v.Minor},
		APIVersions: chartutil.VersionSet(apis),
		HelmVersion: chartutil.DefaultCapabilities.HelmVersion,
	}, nil
}
