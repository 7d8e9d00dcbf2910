package kubernetes

import (
	"context"
	"slices"

	"forged.dev/forged/internal/forge"
)

// Owned lists what the inventories of an environment hold of one kind: where
// the environment's resources are, and in every place where something of it was
// left when forge.cue moved it. spec makes the spec of a resource that only its
// inventory knows.
//
// What was left bears another id than what is wanted now under its old name: see
// HomeID.
func (cs *Clusters) Owned(ctx context.Context, environment, kind string, wanted []forge.Resource, spec func(namespace string) forge.Spec) ([]forge.Resource, error) {
	return cs.OwnedRecords(ctx, environment, kind, wanted, func(namespace string, _ Record) forge.Spec { return spec(namespace) })
}

// OwnedRecords is Owned for kinds whose specs take more than a namespace.
func (cs *Clusters) OwnedRecords(ctx context.Context, environment, kind string, wanted []forge.Resource, spec func(namespace string, r Record) forge.Spec) ([]forge.Resource, error) {
	places, lost, err := cs.places(ctx, environment, wanted)
	if err != nil {
		return cs.reachable(ctx, environment, kind, wanted, spec), err
	}
	var all []forge.Resource
	for _, at := range places {
		inv, err := at.cluster.Inventory(ctx, environment, at.namespace)
		if err != nil {
			if at.suffix == "" {
				return nil, err
			}
			at.cluster.log.WarnContext(ctx, "what was left behind cannot be read; nothing is done to it",
				"environment", environment, "namespace", at.namespace, "error", err)
			continue
		}
		for _, id := range inv.IDs() {
			id.Name += at.suffix
			if record, ok := inv.Record(id); ok && id.Kind == kind {
				all = append(all, forge.Resource{ID: id, Target: at.target, Needs: record.Needs, Spec: spec(at.namespace, record)})
			}
		}
	}
	if kind == forge.KindNamespace {
		// A place that cannot be reached is listed by its namespace: looking at
		// that says why.
		for _, l := range lost {
			all = append(all, forge.Resource{
				ID:     forge.ID{Environment: environment, Kind: kind, Name: l.Namespace + suffixOf(l.Namespace, l.Target, false)},
				Target: l.Target, Spec: spec(l.Namespace, Record{}),
			})
		}
	}
	slices.SortFunc(all, func(a, b forge.Resource) int { return a.ID.Compare(b.ID) })
	return all, nil
}

// reachable lists what is owned where an environment can be reached, when it
// cannot be everywhere: what is there is kept as it is meanwhile.
func (cs *Clusters) reachable(ctx context.Context, environment, kind string, wanted []forge.Resource, spec func(namespace string, r Record) forge.Spec) []forge.Resource {
	var all []forge.Resource
	seen := map[Left]bool{}
	for _, r := range wanted {
		at := Left{Target: r.Target, Namespace: namespaceOf(r.Spec)}
		if at.Namespace == "" || seen[at] {
			continue
		}
		seen[at] = true
		c, err := cs.Cluster(ctx, at.Target)
		if err != nil {
			continue
		}
		inv, err := c.Inventory(ctx, environment, at.Namespace)
		if err != nil {
			continue
		}
		for _, id := range inv.IDs() {
			if record, ok := inv.Record(id); ok && id.Kind == kind {
				all = append(all, forge.Resource{ID: id, Target: at.Target, Needs: record.Needs, Spec: spec(at.Namespace, record)})
			}
		}
	}
	return all
}

// namespaceOf is where a resource's inventory is kept.
func namespaceOf(spec forge.Spec) string {
	switch s := spec.(type) {
	case forge.NamespaceSpec:
		return s.Name
	case forge.SecretsSpec:
		return s.Namespace
	case forge.ReleaseSpec:
		return s.Namespace
	case forge.ConfigSpec:
		return s.Namespace
	case forge.ClaimSpec:
		return s.Namespace
	case forge.JobSpec:
		return s.Namespace
	case forge.ProbeSpec:
		return s.Namespace
	case forge.IssuerSpec:
		return s.Namespace
	case forge.CertificateSpec:
		return s.Namespace
	case forge.DNSSpec:
		return s.Namespace
	default:
		return ""
	}
}
