package kubernetes

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
)

// AnnotationRotation on a Secret says which rotation its generated values are
// of, where that is not the first. It is written with the values, in one
// request, so that a crash never leaves a value without it.
const AnnotationRotation = "forged.dev/rotation"

// made is a generated value.
type made struct {
	value    secret.Value
	rotation int
}

// generated are the generated values in the cluster, kept so that a steady
// state asks for none of them and so that they can be put back when deleted.
type generated struct{ values map[slotKey]made }

// liveSecret is what a Secret in the cluster holds.
type liveSecret struct {
	values    map[string]secret.Value
	rotations map[string]int
}

// Generated implements [entries.Places]: the value is kept in the cluster. A new
// one is made when there never was one, or when forge.cue asks for a further
// rotation; one that was there and is gone is lost, and is not replaced in
// silence: whatever was made with it does not open with another.
func (l *resolving) Generated(ctx context.Context, slot slotKey, g forge.Generate) (secret.Value, error) {
	known := knownKey{l.r.Resource.Target, l.r.Resource.ID}
	if m, ok := l.p.generatedValue(known, slot); ok && m.rotation >= g.Rotation {
		l.rotations[slot] = m.rotation
		return m.value, nil
	}
	live, ok := l.live[slot.Object]
	if !ok {
		var err error
		if live, err = readSecret(ctx, l.c, secretRef(l.namespace, slot.Object)); err != nil {
			return secret.Value{}, err // unknown is not absent: nothing is generated
		}
		l.live[slot.Object] = live
	}
	if v, ok := live.values[slot.Key]; ok && live.rotations[slot.Key] >= g.Rotation {
		m := made{v, live.rotations[slot.Key]}
		l.p.rememberGenerated(known, slot, m)
		l.rotations[slot] = m.rotation
		return v, nil
	}
	if last, ok := l.recorded(slot); ok && live.values[slot.Key].IsZero() && g.Rotation <= last && slot != l.keySlot {
		l.lost[slot] = true
		return secret.Value{}, nil
	}
	v, err := secret.Generate(g)
	if err != nil {
		return v, l.Invalid(slot, err)
	}
	l.fresh[slot] = made{v, g.Rotation}
	l.rotations[slot] = g.Rotation
	return v, nil
}

// hold keeps new values of a Secret that cannot be made from being used in
// others: nobody would know them any more a moment later.
func (l *resolving) hold(o forge.SecretObject) {
	if !slices.ContainsFunc(o.Entries, func(e forge.SecretEntry) bool { return l.lost[slotKey{Object: o.Name, Key: e.Key}] }) {
		return
	}
	for _, e := range o.Entries {
		slot := slotKey{Object: o.Name, Key: e.Key}
		if _, fresh := l.fresh[slot]; fresh {
			delete(l.fresh, slot)
			l.Withhold(slot)
		}
	}
}

// recorded is the rotation of a generated value as it was applied last.
func (l *resolving) recorded(slot slotKey) (int, bool) {
	ref := secretRef(l.namespace, slot.Object)
	for _, e := range l.record.Entries {
		if e.Ref == ref && e.Desired != "" {
			n, ok := readRotations(e.Generated)[slot.Key]
			return n, ok
		}
	}
	return 0, false
}

// rotationText writes rotations, in an order: "password=0,token=2". Unless all,
// those that are 0 are left out.
func rotationText(rotations map[string]int, all bool) string {
	var parts []string
	for _, key := range sortedKeys(rotations) {
		if n := rotations[key]; all || n != 0 {
			parts = append(parts, key+"="+strconv.Itoa(n))
		}
	}
	return strings.Join(parts, ",")
}

// readRotations reads what rotationText writes. What a person scribbled is left
// out.
func readRotations(text string) map[string]int {
	rotations := map[string]int{}
	for part := range strings.SplitSeq(text, ",") {
		key, number, ok := strings.Cut(part, "=")
		if n, err := strconv.Atoi(number); ok && err == nil {
			rotations[key] = n
		}
	}
	return rotations
}

// readSecret reads what a Secret holds; empty if there is none.
func readSecret(ctx context.Context, c *Cluster, ref Ref) (liveSecret, error) {
	s := liveSecret{values: map[string]secret.Value{}}
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil {
		return s, err
	}
	s.rotations = readRotations(live.GetAnnotations()[AnnotationRotation])
	for key, v := range child(live.Object, "data") {
		text, _ := v.(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return s, &reconcile.Error{Kind: reconcile.Internal, Op: "read", Object: ref.String(), Err: fmt.Errorf("key %s is not base64", key)}
		}
		if len(raw) > 0 {
			s.values[key] = secret.New(raw)
		}
	}
	return s, nil
}

func (p *Secrets) generatedValue(key knownKey, slot slotKey) (made, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.known[key]; g != nil {
		m, ok := g.values[slot]
		return m, ok
	}
	return made{}, false
}

func (p *Secrets) rememberGenerated(key knownKey, slot slotKey, m made) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.known[key]
	if g == nil {
		g = &generated{map[slotKey]made{}}
		p.known[key] = g
	}
	g.values[slot] = m
}

// keepGenerated remembers fresh values once they are in the cluster.
func (p *Secrets) keepGenerated(r forge.Resource, fresh map[slotKey]made, applied []wanted) {
	for _, w := range applied {
		for key := range w.data {
			if m, ok := fresh[slotKey{Object: w.name, Key: key}]; ok {
				p.rememberGenerated(knownKey{r.Target, r.ID}, slotKey{Object: w.name, Key: key}, m)
			}
		}
	}
}

func (p *Secrets) forgetGenerated(r forge.Resource) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, knownKey{r.Target, r.ID})
}

// lostStep is the blocked step about a Secret that cannot be made any more.
func (s *secrets) lostStep(id forge.ID, w wanted, d *Drift) reconcile.Step {
	ref := secretRef(s.spec.Namespace, w.name)
	step := reconcile.Step{
		ID: id, Action: reconcile.ActionHeal, Object: ref.String(),
		Reason: reconcile.Reason{Code: reconcile.ReasonDeleted}, Detail: &change{set: s},
	}
	if d == nil {
		step.Action, step.Reason.Code = reconcile.ActionUpdate, reconcile.ReasonConfig
	} else {
		step.Reason.Code = d.Code
	}
	own, others, slots := []string{}, []string{}, []slotKey{}
	for _, slot := range w.lost {
		if slot.Object == w.name {
			own, slots = append(own, slot.Key), append(slots, slot)
		} else {
			others = append(others, slot.Object)
		}
	}
	slices.Sort(own)
	slices.Sort(others)
	if len(own) == 0 {
		step.Blocked = "it is made of generated values that are lost: see Secret " + strings.Join(slices.Compact(others), ", ")
		return step
	}
	step.Blocked = fmt.Sprintf("the generated values of %s are lost: they were deleted while forged did not run, and nothing else knows them; "+
		"restore the Secret from a backup; or, when what they open takes new ones, have new ones made: in forge.cue, %s",
		strings.Join(own, ", "), strings.Join(entries.Raise(s.spec.Secrets, slots...), ", "))
	return step
}

// irreplaceable tells of an entry that values are lost with it which only the
// cluster knows. The key of checksums is none: a new one costs restarts.
func irreplaceable(environment string, e Entry) bool {
	return e.Generated != "" && (e.Ref.Name != hashKeySecret(environment) || e.Generated != hashKeyName+"=0")
}
