// Package jobs reconciles processes that have to run to their end once: the
// migration of a database before the app that needs it.
//
// What has run is told by its content: image, entrypoint and arguments. That
// it has ended well is written down with what is owned, so that it is not run
// again when the cluster has cleaned the Job away, nor when an older image
// comes back. Two never run at the same time. One that has failed is tried
// again when anything that it is given has changed, or when a person asks.
//
// It runs as a Job, or as a Pod by itself where nobody looks after Jobs
// (form.go).
package jobs

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

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

const (
	// mostDone bounds how many images are remembered to have run.
	mostDone = 100

	outputChecksum = "checksum/" // and the name of a Secret
)

// Options configure a Provider.
type Options struct {
	Clusters *kubernetes.Clusters

	// Fitter brings what runs into the form that a table of rules asks for. It is
	// called for specs that name one, and nil where there are none.
	Fitter kubernetes.Fitter
}

// Provider reconciles resources of kind job.
type Provider struct {
	clusters *kubernetes.Clusters
	fitter   kubernetes.Fitter

	mu   sync.Mutex
	seen map[forge.ID]*look // at the last look, for verification
}

var (
	_ reconcile.Provider = (*Provider)(nil)
	_ reconcile.Owner    = (*Provider)(nil)
)

// New makes a Provider.
func New(o Options) *Provider {
	p := &Provider{clusters: o.Clusters, fitter: o.Fitter, seen: map[forge.ID]*look{}}
	p.clusters.VerifyBy(forge.KindJob, p.verify)
	return p
}

// verify checks what is wanted now by applying it again, without
// effect. What others have run is over, and of no consequence.
func (p *Provider) verify(ctx context.Context, c *kubernetes.Cluster, _ string, r kubernetes.Record, e kubernetes.Entry) (kubernetes.Verdict, error) {
	p.mu.Lock()
	l := p.seen[r.ID]
	p.mu.Unlock()
	if l == nil || l.cluster != c || e != l.entry(l.ref(), kubernetes.Applied{Baseline: e.Baseline}) {
		return kubernetes.VerdictUnknown, nil
	}
	obj, err := l.stamped()
	if err != nil {
		return kubernetes.VerdictUnknown, err
	}
	return c.Unchanged(ctx, obj, e)
}

// Watch implements reconcile.Provider.
func (p *Provider) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return p.clusters.Watch(ctx, forge.KindJob, notify)
}

// Owned implements reconcile.Owner.
func (p *Provider) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return p.clusters.Owned(ctx, environment, forge.KindJob, wanted, func(namespace string) forge.Spec {
		return forge.JobSpec{Namespace: namespace}
	})
}

// book is what is written down beside the entries of a resource.
type book struct {
	Done   []string `json:"done,omitempty"`   // codes that have run to their end, the last one last
	Run    int      `json:"run,omitempty"`    // how often a person has asked for another run
	Asked  string   `json:"asked,omitempty"`  // the Job by which that was asked last
	Failed *failure `json:"failed,omitempty"` // of the Job that failed last
	Fits   []string `json:"fits,omitempty"`   // marks of what was done to the last one for the cluster to run it
}

type failure struct {
	Job     string `json:"job"`
	Expires bool   `json:"expires,omitempty"` // the cluster cleans it away by itself: that it is gone is nobody's wish
}

func readBook(raw json.RawMessage) (b book, err error) {
	if len(raw) == 0 {
		return b, nil
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return b, reconcile.Errorf(reconcile.Internal, "read what was noted of jobs", "%v", err)
	}
	return b, nil
}

func (b book) write() (json.RawMessage, error) {
	raw, err := json.Marshal(b)
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "note jobs", "%v", err)
	}
	return raw, nil
}

func (b book) has(code string) bool { return slices.Contains(b.Done, code) }

// with notes that a code has run to its end.
func (b book) with(code string) book {
	b = b.without(code)
	b.Done = append(b.Done, code)
	b.Done = b.Done[max(0, len(b.Done)-mostDone):]
	return b
}

func (b book) without(code string) book {
	b.Done = slices.DeleteFunc(slices.Clone(b.Done), func(c string) bool { return c == code })
	return b
}

// code tells what runs: it has run when this has.
func code(s forge.JobSpec) string { return digest(s.Image, s.Entrypoint, s.Args) }

// attempt tells one way to run it from another: a change of anything that it
// is given may be what makes a failed one succeed.
func attempt(s forge.JobSpec, checksums map[string]string, run int, fit string) string {
	all := []any{code(s), s.Env, s.SecretNames, s.Files, checksums, s.Resources, s.Timeout, s.PullPolicy, s.PullSecret, s.Rules, run}
	if fit != "" {
		all = append(all, "fit", fit)
	}
	if s.Pod {
		all = append(all, "pod")
	}
	return digest(all...)
}

// digest is a short hash of values that have a form as JSON.
func digest(values ...any) string {
	raw, err := json.Marshal(values)
	if err != nil {
		panic(err) // strings, numbers, and lists and maps of them
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// checksums are those of the Secrets and files that the process gets. A
// Secret that is to be made first has none yet: that is waited for.
func checksums(r reconcile.Request, s forge.JobSpec) (map[string]string, error) {
	all := map[string]string{}
	var secrets forge.ID
	for id, outputs := range r.Inputs {
		switch id.Kind {
		case forge.KindSecrets:
			for name, o := range outputs {
				all[name] = o.Value
			}
		case forge.KindConfig:
			all["config/"+id.Name] = outputs[forge.OutputChecksum].Value
		}
	}
	for _, need := range r.Resource.Needs {
		switch need.Kind {
		case forge.KindSecrets:
			secrets = need
		case forge.KindConfig:
			if all["config/"+need.Name] == "" {
				return nil, reconcile.WaitingFor(need, forge.OutputChecksum)
			}
		}
	}
	used := map[string]bool{}
	for _, name := range s.SecretNames {
		used[outputChecksum+name] = true
	}
	for _, f := range s.Files {
		if f.Secret != "" && all[outputChecksum+f.Secret] != "" { // others are not made by us
			used[outputChecksum+f.Secret] = true
		}
	}
	for name := range used {
		if all[name] == "" && secrets != (forge.ID{}) {
			return nil, reconcile.WaitingFor(secrets, name)
		}
	}
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasPrefix(name, outputChecksum) && !used[name] })
	return all, nil
}

// jobName is the name of an object: no longer than the label that the cluster
// makes of it may be.
func jobName(base, attempt string) string {
	const most = 63
	hash := attempt[:10]
	if len(base) > most-1-len(hash) {
		base = strings.TrimRight(base[:most-1-len(hash)], "-.")
	}
	return base + "-" + hash
}

// staleError says that a step no longer fits.
func staleError(s reconcile.Step) error {
	return &reconcile.Error{
		Kind: reconcile.Stale, ID: s.ID, Object: s.Object, Op: string(s.Action),
		Err: fmt.Errorf("it has changed since the step was planned"),
	}
}
