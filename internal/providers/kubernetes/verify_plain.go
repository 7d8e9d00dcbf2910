package kubernetes

import (
	"context"
	"encoding/base64"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/secret"
)

// verify checks a namespace by applying it again as it was wanted last.
func (p *Namespaces) verify(ctx context.Context, c *Cluster, _ string, r Record, e Entry) (Verdict, error) {
	p.mu.Lock()
	spec, known := p.wanted[knownKey{c.target, r.ID}]
	p.mu.Unlock()
	n := &namespace{cluster: c, spec: spec, ref: e.Ref}
	if !known || n.desired() != e.Desired {
		return VerdictUnknown, nil // a new one waits to be rolled out
	}
	return c.Unchanged(ctx, n.object(r.ID), e)
}

// verify checks a Secret by the checksum of what it holds: the values that were
// applied are not kept.
func (p *Secrets) verify(ctx context.Context, c *Cluster, _ string, r Record, e Entry) (Verdict, error) {
	m, known := p.generatedValue(knownKey{c.target, r.ID}, slotKey{Object: hashKeySecret(r.ID.Environment), Key: hashKeyName})
	checksum, _, applied := strings.Cut(e.Desired, "/")
	if !known || !applied || e.Baseline.Lens != "" {
		return VerdictUnknown, nil // what is ignored may hold anything
	}
	live, err := c.Get(ctx, e.Ref)
	if err != nil {
		return VerdictUnknown, err
	}
	if live == nil || string(live.GetUID()) != e.Baseline.UID {
		return VerdictDiffers, nil
	}
	ours, err := fieldSet(entryOf(live.GetManagedFields(), c.manager))
	if err != nil {
		return VerdictUnknown, err
	}
	data := map[string]secret.Value{}
	for key, v := range child(live.Object, "data") {
		text, _ := v.(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err == nil && ours.Has(fieldpath.MakePathOrDie("data", key)) {
			data[key] = secret.New(raw)
		}
	}
	if checksumOf(m.value.Reveal(), data) != checksum {
		return VerdictDiffers, nil
	}
	return VerdictSame, nil
}
