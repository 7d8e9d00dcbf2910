package up

import (
	"context"
	"errors"
	"os"

	"forged.dev/forged/sandbox/edge"
	"forged.dev/forged/sandbox/fks"
	"forged.dev/forged/sandbox/fly"
)

// platform is Fly: the emulator, its Kubernetes, and the way to what runs there.
type platform struct {
	dir      *directory
	emulator *fly.Fly
	clusters *fks.Host
	edge     *edge.Edge // nil without Kubernetes
}

// startFly returns when Fly answers; clusters are not there yet.
func startFly(ctx context.Context, dir *directory, opts Options) (*platform, error) {
	p := &platform{dir: dir}
	config := fly.Config{State: dir.path(dataDir, "fly.json"), Pace: opts.FlySpeed}
	if opts.FKSWay == "" {
		opts.FKSWay = fks.WayProxy
	}
	if opts.FKSAdmission == "" {
		opts.FKSAdmission = fks.AdmissionIgnore
	}
	data, authority := dir.path(dataDir, "fks"), dir.path(dataDir, "edge")
	p.clusters = fks.New(fks.Config{
		Clusters: opts.FKS, Dir: data, LogDir: dir.path("logs"), Command: opts.Command, Way: opts.FKSWay, Admission: opts.FKSAdmission, Report: opts.report,
	})
	if opts.FKS > 0 {
		config.Clusters = p.clusters
		if err := errors.Join(os.MkdirAll(data, 0o700), os.MkdirAll(authority, 0o700)); err != nil {
			return nil, err
		}
	}
	var err error
	if p.emulator, err = fly.Start(ctx, config); err != nil {
		return nil, err
	}
	if opts.FKS > 0 {
		if p.edge, err = edge.Start(ctx, edge.Config{Dir: authority, Network: p.clusters, Control: p.clusters}); err != nil {
			return nil, errors.Join(err, p.stop())
		}
	}
	return p, nil
}

// open starts what is behind Fly Kubernetes.
func (p *platform) open(ctx context.Context) error {
	if p.edge == nil {
		return nil
	}
	return p.clusters.Open(ctx, p.emulator.Emulator, p.edge.URL)
}

// files are what is published beside the kubeconfig.
func (p *platform) files() map[string][]byte {
	if p.edge == nil {
		return nil
	}
	return map[string][]byte{caFile: p.edge.CA}
}

func (p *platform) stop() error {
	err := p.clusters.Close()
	if p.edge != nil {
		err = errors.Join(err, p.edge.Stop())
	}
	return errors.Join(err, p.emulator.Stop())
}

// env are the variables by which Fly's own tools, and forged, find the
// emulator: one for each of Fly's services. Those of the proxy have names that
// nobody reads by himself: who wants to use it says so.
func (p *platform) env() []string {
	out := []string{
		"export FLY_FLAPS_BASE_URL=" + shellQuote(p.emulator.URL),
		"export FLY_API_BASE_URL=" + shellQuote(p.emulator.URL),
		"export FLY_UIEX_BASE_URL=" + shellQuote(p.emulator.URL),
		"export FLY_API_TOKEN=" + shellQuote(fly.Token),
	}
	if p.edge != nil {
		out = append(out, "export FORGED_SANDBOX_PROXY="+shellQuote(p.edge.URL), "export FORGED_SANDBOX_CA="+shellQuote(p.dir.path(caFile)))
	}
	return out
}
