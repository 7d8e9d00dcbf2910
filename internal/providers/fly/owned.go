package fly

import (
	"context"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Owned lists what the inventories of an environment hold of one kind, in every
// organization in which forge.cue asks for something.
func (a *Accounts) Owned(ctx context.Context, environment, kind string, wanted []forge.Resource) ([]forge.Resource, error) {
	type place struct{ org, inventory string }
	seen := map[place]bool{}
	var all []forge.Resource
	for _, r := range wanted {
		spec, ok := r.Spec.(forge.OnFly)
		if !ok {
			continue
		}
		account := spec.OnFly()
		at := place{orgKey(account), account.Inventory}
		if seen[at] {
			continue
		}
		seen[at] = true
		org, err := a.Open(ctx, account)
		if err != nil {
			return nil, err
		}
		inv, err := org.Inventory(ctx, environment, account)
		if err != nil {
			return nil, err
		}
		for _, id := range inv.IDs() {
			record, ok := inv.Record(id)
			if !ok || id.Kind != kind {
				continue
			}
			spec, err := DecodeSpec(kind, record.Spec, account)
			if err != nil {
				return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "read", Object: inv.object(), Err: err}
			}
			all = append(all, forge.Resource{ID: id, Target: forge.Target{Org: account.Org}, Needs: record.Needs, Spec: spec})
		}
	}
	slices.SortFunc(all, func(x, y forge.Resource) int { return x.ID.Compare(y.ID) })
	return all, nil
}
