package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"

	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/reconcile"
)

// rendering is a chart with values put in. It is made once for each change of
// what goes in: what is planned, what is applied and what Helm's record holds
// are the same bytes, also of a chart that never renders the same way twice.
type rendering struct {
	chart    *chart.Chart // as it is recorded
	source   string       // what a source of the user stood for; empty: embedded
	values   map[string]any
	manifest string
	hooks    []*release.Hook
	crds     []chart.CRD
	key      string             // of what forged put in
	asked    asked              // of the cluster, while rendering
	fitted   []reconcile.Change // what was made of it for the cluster to run it
}

// place is where and as what a chart is rendered.
type place struct {
	name, namespace string
	revision        int
	install         bool // as opposed to an upgrade
}

// dependencies drops the dependencies of a chart that its values switch off,
// and merges the values of the others into values.
func dependencies(ch *chart.Chart, values map[string]any) error {
	if err := chartutil.ProcessDependenciesWithMerge(ch, values); err != nil {
		return &reconcile.Error{Kind: reconcile.Invalid, Op: "render chart " + ch.Name(), Err: err}
	}
	return nil
}

// pending is a rendering that was planned and not applied yet.
type pending struct {
	at place
	r  *rendering
}

// renderOnce renders what is wanted, unless that was done for a plan before:
// the same world makes the same plan, also of a chart of chance, and what a
// person has looked at is what is applied.
func (s *seen) renderOnce(ctx context.Context) (*rendering, error) {
	h, at := s.h, s.place()
	was := h.p.charts.kept(h.key())
	if was.r != nil && was.at == at && was.r.key == s.desired.key {
		if moved, err := h.moved(ctx, was.r.asked); err == nil && moved == "" {
			return was.r, nil
		}
	}
	r, err := s.render(ctx, at)
	if err == nil {
		h.p.charts.keep(h.key(), pending{at, r})
	}
	return r, err
}

func (h *handle) key() releaseKey {
	return releaseKey{h.req.Resource.Target, h.spec.Namespace, h.spec.Name}
}

// place is where the next revision is rendered.
func (s *seen) place() place {
	return place{
		name: s.h.spec.Name, namespace: s.h.spec.Namespace,
		revision: s.newest.number + 1, install: s.installs(),
	}
}

// appliedPlace is where the applied revision was rendered.
func (s *seen) appliedPlace() place {
	at := s.place()
	at.revision, at.install = s.record.Revision, s.record.Revision == 1
	return at
}

// render renders what is wanted.
func (s *seen) render(ctx context.Context, at place) (*rendering, error) {
	ch, err := s.desired.chart.load()
	if err != nil {
		return nil, s.named(err)
	}
	invalid := func(err error) error {
		return s.named(&reconcile.Error{Kind: reconcile.Invalid, Op: "render chart " + ch.Name(), Err: err})
	}
	values := render.Copied(s.desired.values)
	if err := dependencies(ch, values); err != nil {
		return nil, s.named(err)
	}
	crds, err := readCRDs(ch.CRDObjects())
	if err != nil {
		return nil, s.named(err)
	}
	// Definitions that are there stay as they are, so that only the others
	// change what the cluster serves.
	missing, _, err := s.h.missingCRDs(ctx, crds)
	if err != nil {
		return nil, err
	}
	l, err := s.h.listen(ctx, missing)
	if err != nil {
		return nil, err
	}
	if need := ch.Metadata.KubeVersion; need != "" && !chartutil.IsCompatibleRange(need, l.serves.Version) {
		return nil, invalid(fmt.Errorf("it needs Kubernetes %s, the cluster has %s", need, l.serves.Version))
	}
	in := render.Input{
		Files: s.desired.chart.files, Values: s.desired.values, Serves: &l.serves,
		Name: at.name, Namespace: at.namespace, Revision: at.revision, Install: at.install,
	}
	out, err := s.h.p.charts.texts(ctx, s.desired, in, l)
	switch {
	case l.err != nil:
		return nil, l.err
	case err != nil && reconcile.KindOf(err) == reconcile.Internal:
		return nil, invalid(err)
	case err != nil:
		return nil, s.named(err)
	}
	hooks, manifests, err := releaseutil.SortManifests(out.Texts, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, invalid(err)
	}
	r := &rendering{
		chart: ch, source: s.desired.chart.source, values: values,
		hooks: hooks, crds: ch.CRDObjects(), key: s.desired.key, asked: l.asked(out.Heard),
	}
	if manifests, err = s.fit(ctx, r, manifests); err != nil {
		return nil, err
	}
	var b strings.Builder
	for _, m := range manifests {
		fmt.Fprintf(&b, "---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	r.manifest = b.String()
	return r, nil
}

// stored is the rendering that a record of Helm's holds.
func stored(rel *release.Release, key string, a asked) *rendering {
	r := &rendering{chart: rel.Chart, values: rel.Config, manifest: rel.Manifest, key: key, asked: a}
	for _, h := range rel.Hooks {
		fresh := *h
		fresh.LastRun = release.HookExecution{}
		r.hooks = append(r.hooks, &fresh)
	}
	if rel.Chart != nil {
		r.crds = rel.Chart.CRDObjects()
	}
	return r
}

// named adds the release to an error that does not name it.
func (s *seen) named(err error) error {
	var e *reconcile.Error
	if !errors.As(err, &e) || e.Error() != err.Error() {
		return err // it says more than the typed error within
	}
	named := *e
	named.ID = s.h.id
	if named.Object == "" {
		named.Object = s.object()
	}
	return &named
}

// capabilities are what the SDK would otherwise discover for itself; nothing
// is rendered from them.
func (h *handle) capabilities(ctx context.Context) (*chartutil.Capabilities, error) {
	v, apis, err := h.cluster.Discovery(ctx)
	if err != nil {
		return nil, err
	}
	return &chartutil.Capabilities{
		KubeVersion: kubeVersion(v.GitVersion, v.Major, v.Minor),
		APIVersions: chartutil.VersionSet(apis), HelmVersion: chartutil.DefaultCapabilities.HelmVersion,
	}, nil
}
