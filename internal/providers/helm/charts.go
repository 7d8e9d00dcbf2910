package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/reconcile"
)

// Charts finds charts of the user's own. A *chartsource.Source does.
type Charts interface {
	// Load is called with every look at a release, so it answers from memory
	// while the chart is as it was.
	Load(ctx context.Context, r chartsource.Request) (chartsource.Chart, error)
	// Watch calls changed when a source stands for another chart than before,
	// until ctx ends.
	Watch(ctx context.Context, changed func()) error
}

const (
	// renderLimit is how long templates may take. Those of a large chart take a
	// tenth of a second.
	renderLimit = 20 * time.Second
	// beyondPause is how long a chart is left alone that took longer, or too
	// much memory. It may be the machine that was to blame.
	beyondPause = 10 * time.Minute
)

// chartStore finds charts; each of the embedded ones is read once.
type chartStore struct {
	embedded func(name string) ([]charts.File, error)
	others   Charts

	apart *render.Child

	mu      sync.Mutex
	loaded  map[string]loadedChart
	beyond  map[string]beyondBounds // by render key
	planned map[releaseKey]pending
}

// beyondBounds is a rendering that would not end.
type beyondBounds struct {
	at  time.Time
	err error
}

// loadedChart is a chart as it lies in its files.
type loadedChart struct {
	name    string // for people
	foreign bool   // it is a user's
	source  string // what a source of the user stood for, for people; empty: it is embedded
	files   []charts.File
	digest  string
	stale   error // why it could not be looked at; nil: it is up to date
}

// get finds the chart of the user that is asked for.
func (s *chartStore) get(ctx context.Context, r chartsource.Request) (loadedChart, error) {
	if s.others == nil {
		return loadedChart{}, reconcile.Errorf(reconcile.Internal, "load chart", "nothing here loads charts of a user")
	}
	ch, err := s.others.Load(ctx, r)
	return loadedChart{name: ch.String(), foreign: true, source: ch.String(), files: ch.Files, digest: ch.Digest, stale: ch.Stale}, err
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

// texts renders a chart: one of our own here, one of a user apart, within
// bounds. What went beyond them is not begun again for a while, so that what
// runs is looked after meanwhile.
func (s *chartStore) texts(ctx context.Context, d desired, in render.Input, c render.Cluster) (out render.Output, err error) {
	if !d.chart.foreign || s.apart == nil {
		defer func() {
			if what := recover(); what != nil {
				err = reconcile.Errorf(reconcile.Invalid, "render chart", "its templates made a library panic: %v", what)
			}
		}()
		return render.Here(in, c)
	}
	s.mu.Lock()
	last, before := s.beyond[d.key]
	s.mu.Unlock()
	if before && time.Since(last.at) < beyondPause {
		return out, last.err
	}
	limited, cancel := context.WithTimeoutCause(ctx, renderLimit, apart.ErrTime)
	defer cancel()
	out, err = s.apart.Render(limited, in, c)
	if err == nil || ctx.Err() == nil && reconcile.KindOf(err) != reconcile.Internal {
		return out, err
	}
	start, _ := errors.AsType[*apart.StartError](err)
	end, _ := errors.AsType[*apart.EndError](err)
	var why, hint string
	switch {
	case ctx.Err() != nil:
		return out, reconcile.Errorf(reconcile.Unavailable, "render chart", "%v", context.Cause(ctx))
	case start != nil:
		return out, reconcile.Errorf(reconcile.Unavailable, "render chart", "start a process for its templates: %v", start)
	case end != nil:
		return out, reconcile.Errorf(reconcile.Unavailable, "render chart", "the process of its templates %v", end)
	case errors.Is(err, apart.ErrTime):
		why = "its templates do not come to an end within " + renderLimit.String()
		hint = "look for a template that includes itself, or a range over a very large number"
	case errors.Is(err, apart.ErrMemory):
		why = "its templates need more than " + apart.Size(s.apart.Bounds().Memory) + " of memory"
		hint = "look for a range over a very large number, or text that is repeated, or allow more with " + apart.MemoryVariable
	case errors.Is(err, apart.ErrDepth):
		why, hint = "its templates nest too deep", "look for a template that includes itself"
	default:
		return out, err
	}
	err = &reconcile.Error{Kind: reconcile.Invalid, Op: "render chart", Err: errors.New(why), Hint: hint}
	s.mu.Lock()
	maps.DeleteFunc(s.beyond, func(_ string, b beyondBounds) bool { return time.Since(b.at) >= beyondPause })
	s.beyond[d.key] = beyondBounds{time.Now(), err}
	s.mu.Unlock()
	return out, err
}

// kept is what was rendered for a release and not applied yet.
func (s *chartStore) kept(key releaseKey) pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.planned[key]
}

// keep notes what was rendered for a release; nothing, once it was applied.
func (s *chartStore) keep(key releaseKey, p pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.planned == nil {
		s.planned = map[releaseKey]pending{}
	}
	if p.r == nil {
		delete(s.planned, key)
		return
	}
	s.planned[key] = p
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
	key     string // of everything forged puts in, sealed; empty while an input is missing
	missing error  // of kind Waiting: an input that is not known yet
	guessed error  // the same, where something stands for it, to show what would be made
	// unloaded tells that what is missing is the chart itself, and missing why.
	unloaded bool
}

// unknownYet stands in a plan for an input that is not known before something
// else is applied.
const unknownYet = "known-after-apply"

// desire puts the outputs of other resources into the values and computes the
// render key. What is rendered follows from it and from what the chart asks
// the cluster, and nothing else is a reason to render again.
func (h *handle) desire(ctx context.Context, keep string, guess bool) (desired, error) {
	p, req, spec := h.p, h.req, h.spec
	var ch loadedChart
	var err error
	if spec.Source == nil {
		if ch, err = p.charts.own(spec.Chart); err != nil {
			return desired{}, err
		}
	} else if ch, err = p.charts.get(ctx, p.wanted(req, spec, keep)); err != nil {
		if ctx.Err() != nil {
			return desired{}, err
		}
		return desired{missing: err, unloaded: true}, nil // what runs is looked after all the same
	}
	d := desired{chart: ch, values: render.Copied(spec.Values)}
	waiting := false
	for _, in := range spec.Inputs {
		out, ok := req.Inputs[in.From][in.Output]
		switch {
		case ok:
		case guess:
			d.guessed = reconcile.WaitingFor(in.From, in.Output)
			out.Value = unknownYet
		default:
			d.missing, waiting = reconcile.WaitingFor(in.From, in.Output), true
			continue
		}
		if err := put(d.values, in.Path, out.Value); err != nil {
			return desired{}, &reconcile.Error{Kind: reconcile.Internal, ID: req.Resource.ID, Op: "set input", Err: err}
		}
	}
	if h.seal == nil && !waiting {
		d.missing, waiting = h.unsealed(), true
	}
	if waiting {
		return d, nil // told as a field: what is known serves to observe
	}
	values, err := json.Marshal(d.values) // sorts the keys
	if err != nil {
		return desired{}, &reconcile.Error{Kind: reconcile.Internal, ID: req.Resource.ID, Op: "encode values", Err: err}
	}
	d.key = h.seal.renderKey(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%s%s", ch.digest, spec.Namespace, spec.Name, req.Resource.ID, values, rulesKey(spec.Rules)))
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
