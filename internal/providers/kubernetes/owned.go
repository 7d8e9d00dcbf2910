package kubernetes

import (
	"context"
	"slices"

	"forged.dev/forged/internal/forge"
)

// Owned lists what the inventories of an environment hold of one kind: where
// the environment's resources are, and in every place where something of it was
// left when forge.cue moved it. spec makes the spec of a resource that only its
// inventory knows. With an error it is not all; what is listed is there.
//
// What was left bears another id than what is wanted now under its old name: see
// HomeID.
func (cs *Clusters) Owned(ctx context.Context, environment, kind string, wanted []forge.Resource, spec func(namespace string) forge.Spec) ([]forge.Resource, error) {
	return cs.OwnedRecords(ctx, environment, kind, wanted, func(namespace string, _ Record) forge.Spec { return spec(namespace) })
}

// OwnedRecords is Owned for kinds whose specs take more than a namespace.
func (cs *Clusters) OwnedRecords(ctx context.Context, environment, kind string, wanted []forge.Resource, spec func(namespace string, r Record) forge.Spec) ([]forge.Resource, error) {
	places, lost, unknown := cs.places(ctx, environment, wanted)
	var all []forge.Resource
	for _, at := range places {
		inv, err := at.cluster.Inventory(ctx, environment, at.namespace)
		switch {
		case err != nil && at.left:
			lost = append(lost, at)
			continue
		case err != nil:
			if unknown == nil {
				unknown = err
			}
			continue
		}
		for _, home := range inv.IDs() {
			id := at.id(home)
			if record, ok := inv.Record(id); ok && id.Kind == kind {
				all = append(all, forge.Resource{ID: id, Target: at.target, Needs: record.Needs, Spec: spec(at.namespace, record)})
			}
		}
	}
	if kind == forge.KindNamespace {
		// A place that cannot be read is listed by its namespace: looking at that
		// says why.
		for _, at := range lost {
			id := at.id(forge.ID{Environment: environment, Kind: kind, Name: at.namespace})
			i := slices.IndexFunc(all, func(r forge.Resource) bool { return r.ID == id })
			if i < 0 {
				i, all = len(all), append(all, forge.Resource{ID: id, Target: at.target, Spec: spec(at.namespace, Record{})})
			}
			all[i].Unread = true
		}
	}
	slices.SortFunc(all, func(a, b forge.Resource) int { return a.ID.Compare(b.ID) })
	return all, unknown
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
