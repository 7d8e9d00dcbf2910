package kubernetes

import (
	"context"

	"forged.dev/forged/internal/forge"
)

// Owned lists what the inventories of an environment hold of one kind. They
// are looked for where the environment's resources are. spec makes the spec of
// a resource that only its inventory knows.
func (cs *Clusters) Owned(ctx context.Context, environment, kind string, wanted []forge.Resource, spec func(namespace string) forge.Spec) ([]forge.Resource, error) {
	type place struct {
		target    forge.Target
		namespace string
	}
	looked := map[place]bool{}
	var all []forge.Resource
	for _, r := range wanted {
		at := place{r.Target, namespaceOf(r.Spec)}
		if at.namespace == "" || looked[at] {
			continue
		}
		looked[at] = true
		c, err := cs.Cluster(ctx, at.target)
		if err != nil {
			return nil, err
		}
		inv, err := c.Inventory(ctx, environment, at.namespace)
		if err != nil {
			return nil, err
		}
		for _, id := range inv.IDs() {
			if record, ok := inv.Record(id); ok && id.Kind == kind {
				all = append(all, forge.Resource{ID: id, Target: at.target, Needs: record.Needs, Spec: spec(at.namespace)})
			}
		}
	}
	return all, nil
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
