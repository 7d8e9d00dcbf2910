package kubernetes

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
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

// lostValue says that something is made of a generated value that is lost.
type lostValue struct{ slot slotKey }

func (e *lostValue) Error() string {
	return "the generated value of " + e.slot.key + " in Secret " + e.slot.secret + " is lost"
}

// generated is a value that is made once and then kept in the cluster. A new one
// is made when there never was one, or when forge.cue asks for a further
// rotation; one that was there and is gone is lost, and is not replaced in
// silence: whatever was made with it does not open with another.
func (l *resolving) generated(ctx context.Context, slot slotKey, g forge.Generate) (secret.Value, error) {
	known := knownKey{l.r.Resource.Target, l.r.Resource.ID}
	if m, ok := l.p.generatedValue(known, slot); ok && m.rotation >= g.Rotation {
		l.rotations[slot] = m.rotation
		return m.value, nil
	}
	live, ok := l.live[slot.secret]
	if !ok {
		var err error
		if live, err = readSecret(ctx, l.c, secretRef(l.namespace, slot.secret)); err != nil {
			return secret.Value{}, err // unknown is not absent: nothing is generated
		}
		l.live[slot.secret] = live
	}
	if v, ok := live.values[slot.key]; ok && live.rotations[slot.key] >= g.Rotation {
		m := made{v, live.rotations[slot.key]}
		l.p.rememberGenerated(known, slot, m)
		l.rotations[slot] = m.rotation
		return v, nil
	}
	if last, ok := l.recorded(slot); ok && live.values[slot.key].IsZero() && g.Rotation <= last && slot != l.keySlot {
		l.lost[slot] = true
		return secret.Value{}, nil
	}
	v, err := secret.Generate(g)
	if err != nil {
		return v, l.invalid(slot.secret, slot.key, err)
	}
	l.fresh[slot] = made{v, g.Rotation}
	l.rotations[slot] = g.Rotation
	return v, nil
}

// hold keeps new values of a Secret that cannot be made from being used in
// others: nobody would know them any more a moment later.
func (l *resolving) hold(o forge.SecretObject) {
	if !slices.ContainsFunc(o.Entries, func(e forge.SecretEntry) bool { return l.lost[slotKey{o.Name, e.Key}] }) {
		return
	}
	for _, e := range o.Entries {
		slot := slotKey{o.Name, e.Key}
		if _, fresh := l.fresh[slot]; fresh {
			delete(l.fresh, slot)
			l.unmade[slot] = true
		}
	}
}

// recorded is the rotation of a generated value as it was applied last.
func (l *resolving) recorded(slot slotKey) (int, bool) {
	ref := secretRef(l.namespace, slot.secret)
	for _, e := range l.record.Entries {
		if e.Ref == ref && e.Desired != "" {
			n, ok := readRotations(e.Generated)[slot.key]
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
			if m, ok := fresh[slotKey{w.name, key}]; ok {
				p.rememberGenerated(knownKey{r.Target, r.ID}, slotKey{w.name, key}, m)
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
	own, others := []string{}, []string{}
	for _, slot := range w.lost {
		if slot.secret == w.name {
			own = append(own, slot.key)
		} else {
			others = append(others, slot.secret)
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
		strings.Join(own, ", "), strings.Join(s.raise(w.name, own), ", "))
	return step
}

// raise says what to write in forge.cue to have generated values made anew.
func (s *secrets) raise(secret string, keys []string) (lines []string) {
	for _, o := range s.spec.Secrets {
		for _, e := range o.Entries {
			if o.Name == secret && slices.Contains(keys, e.Key) && e.Ref != nil && e.Ref.Generate != nil {
				field := cmp.Or(e.Field, "of "+e.Key)
				lines = append(lines, fmt.Sprintf("%s: generate: rotation: %d", field, e.Ref.Generate.Rotation+1))
			}
		}
	}
	if len(lines) == 0 {
		return []string{"raise rotation beside generate"}
	}
	slices.Sort(lines)
	return lines
}

// irreplaceable tells of an entry that values are lost with it which only the
// cluster knows. The key of checksums is none: a new one costs restarts.
func irreplaceable(environment string, e Entry) bool {
	return e.Generated != "" && (e.Ref.Name != hashKeySecret(environment) || e.Generated != hashKeyName+"=0")
}
