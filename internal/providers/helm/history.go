package helm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"helm.sh/helm/v3/pkg/release"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Revision is one that Helm has a record of, as people see it.
type Revision struct {
	Number     int       `json:"revision"`
	At         time.Time `json:"at"`
	Status     string    `json:"status"` // Helm's word: deployed, superseded, failed, …
	Runs       bool      `json:"runs"`   // it is what was applied last
	Ready      bool      `json:"ready"`  // forged has seen it ready, and would go back to it
	By         string    `json:"by"`     // forged, another forged, helm
	Chart      string    `json:"chart"`
	AppVersion string    `json:"appVersion,omitempty"`
	Images     []string  `json:"images,omitempty"`
}

// History lists what was rolled out of a release, the newest first: as much as
// Helm has a record of.
func (p *Provider) History(ctx context.Context, r forge.Resource) ([]Revision, error) {
	h, err := p.open(ctx, reconcile.Request{Resource: r})
	if err != nil {
		return nil, err
	}
	s := &seen{h: h}
	s.read()
	if s.revs, err = h.store.listed(ctx, h.release); err != nil {
		return nil, err
	}
	slices.SortFunc(s.revs, func(a, b revision) int { return b.number - a.number })
	records := h.store.records(ctx, h.release, s.revs)
	all := make([]Revision, 0, len(s.revs))
	for _, rev := range s.revs {
		rel, err := records.Get(h.spec.Name, rev.number)
		if err != nil {
			return nil, s.wrap(fmt.Sprintf("read revision %d of", rev.number), err)
		}
		all = append(all, s.shownAs(rev, rel))
	}
	return all, nil
}

// Objects are those that the applied revision of a release is made of, and the
// cluster that they are in.
func (p *Provider) Objects(ctx context.Context, r forge.Resource) (*kubernetes.Cluster, []kubernetes.Ref, error) {
	h, err := p.open(ctx, reconcile.Request{Resource: r})
	if err != nil {
		return nil, nil, err
	}
	record, _ := h.inventory.Record(h.id)
	refs := make([]kubernetes.Ref, len(record.Entries))
	for i, e := range record.Entries {
		refs[i] = e.Ref
	}
	return h.cluster, refs, nil
}

// shownAs is a revision as people see it. Of what a record holds, values and
// manifests are left out: there may be secrets in them.
func (s *seen) shownAs(rev revision, rel *release.Release) Revision {
	out := Revision{
		Number: rev.number, At: rev.written, Status: string(rev.status), By: "helm",
		Runs:  s.recorded && rev.ours && rev.number == s.record.Revision,
		Ready: rev.ours && rev.number == s.notes.Good.Revision,
	}
	switch {
	case rev.ours:
		out.By = "forged"
	case rev.rival:
		out.By = "another forged"
	}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		out.Chart = rel.Chart.Metadata.Name + " " + rel.Chart.Metadata.Version
		out.AppVersion = rel.Chart.Metadata.AppVersion
	}
	objs, err := parseManifest(rel.Manifest)
	if err != nil {
		return out // it ran once, by whatever means; its images are not known
	}
	for _, o := range objs {
		out.Images = images(out.Images, o.Object)
	}
	slices.Sort(out.Images)
	return out
}

// images adds those of the containers in an object.
func images(all []string, in any) []string {
	switch v := in.(type) {
	case map[string]any:
		for key, child := range v {
			list, ok := child.([]any)
			if !ok || key != "containers" && key != "initContainers" {
				all = images(all, child)
				continue
			}
			for _, c := range list {
				container, _ := c.(map[string]any)
				if image, _ := container["image"].(string); image != "" && !slices.Contains(all, image) {
					all = append(all, image)
				}
			}
		}
	case []any:
		for _, child := range v {
			all = images(all, child)
		}
	}
	return all
}
