package fly

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
)

// wantedSecret is one secret as it is to be.
type wantedSecret struct {
	slot  entries.Slot
	value secret.Value // zero: nobody can tell it
	file  bool         // machines read it as a file, which Fly takes in base64

	generated bool
	rotation  int
	fresh     bool // it is to be made anew, with value

	join   []forge.SecretPart
	pieces []entries.Piece // of join
	of     []entries.Slot  // generated values that it is joined from; of a generated one: itself
	open   []entries.Slot  // those of them that nobody can tell

	hash string // of what it is to hold; only of what was written before
}

// text is what Fly is to hold.
func (w *wantedSecret) text() secret.Value {
	if !w.file {
		return w.value
	}
	return secret.New([]byte(base64.StdEncoding.EncodeToString(w.value.Reveal())))
}

// finding is the work of finding what the secrets of one environment hold.
type finding struct {
	*entries.Reading
	*vault
	fresh map[entries.Slot]bool // generated values that are new
	turns map[entries.Slot]int  // rotations of generated values
}

// want resolves all references.
func (p *Secrets) want(ctx context.Context, v *vault) error {
	f := &finding{vault: v, fresh: map[entries.Slot]bool{}, turns: map[entries.Slot]int{}}
	f.Reading = entries.Read(v.request, p.resolver, f)
	for _, o := range v.spec.Apps {
		if err := f.Refer(ctx, o); err != nil {
			return err
		}
	}
	var all []*wantedSecret
	for _, o := range v.spec.Apps {
		for _, e := range o.Entries {
			w, err := f.entry(ctx, o.Name, e)
			if err != nil {
				return err
			}
			all = append(all, w)
		}
	}
	v.wanted = all
	if key := v.inv.HashKey(); len(key) > 0 {
		for _, w := range all {
			if n, ok := v.ledger.names[w.slot]; ok && n.settled() && !v.isFresh(w) {
				w.hash = v.hash(key, w)
			}
		}
	}
	return nil
}

func (f *finding) entry(ctx context.Context, app string, e forge.SecretEntry) (*wantedSecret, error) {
	slot := entries.Slot{Object: app, Key: e.Key}
	w := &wantedSecret{slot: slot, file: e.MultiLine, join: e.Join}
	switch {
	case e.Ref != nil && e.Ref.Generate != nil:
		w.value, w.generated, w.rotation, w.fresh = f.Value(slot), true, f.turns[slot], f.fresh[slot]
		w.of = []entries.Slot{slot}
		if w.value.IsZero() {
			w.open = w.of
		}
		return w, nil
	case e.Ref != nil:
		w.value = f.Value(slot)
		return w, nil
	}
	var err error
	if w.pieces, err = f.Pieces(ctx, app, e); err != nil {
		return nil, err
	}
	for _, piece := range w.pieces {
		if _, ok := f.turns[piece.Slot]; ok && !slices.Contains(w.of, piece.Slot) {
			w.of = append(w.of, piece.Slot)
			if piece.Open {
				w.open = append(w.open, piece.Slot)
			}
		}
	}
	if len(w.open) == 0 {
		w.value, err = f.Join(ctx, app, e)
	}
	return w, err
}

// Generated implements [entries.Places]. A new value is made when there never
// was one, when the last attempt to set it was not seen to end, or when
// forge.cue asks for a further rotation. One that is there and that this
// process did not make is known to Fly alone.
func (f *finding) Generated(_ context.Context, slot entries.Slot, g forge.Generate) (secret.Value, error) {
	n := f.ledger.names[slot]
	f.turns[slot] = g.Rotation
	m, known := f.memory.generated[slot]
	switch {
	case n.settled() && n.Rotation >= g.Rotation:
		f.turns[slot] = n.Rotation
		if known && n.Hash != "" && f.memory.hashes.of(f.inv.HashKey(), slot, valueMaterial(m.value)) == n.Hash {
			return m.value, nil
		}
		return secret.Value{}, nil
	case known && m.rotation >= g.Rotation:
		f.turns[slot] = m.rotation
		f.fresh[slot] = true
		return m.value, nil
	case f.foreign(slot):
		return secret.Value{}, nil // or ours of before the inventory was lost
	}
	v, err := secret.Generate(g)
	if err != nil {
		return v, f.Invalid(slot, err)
	}
	f.fresh[slot] = true
	return v, nil
}

// Kubernetes implements [entries.Places].
func (f *finding) Kubernetes(_ context.Context, slot entries.Slot, _ forge.KubernetesRef, _ bool) (secret.Value, error) {
	return secret.Value{}, f.Invalid(slot, errors.New("it refers to a Secret of Kubernetes, and Fly Machines know none: take another source"))
}

// Object implements [entries.Places].
func (f *finding) Object(name string) string { return secretsOf(name) }

// foreign tells of a secret that is there and that forged did not set.
func (v *vault) foreign(slot entries.Slot) bool {
	live, there := v.seen(slot)
	n, noted := v.ledger.names[slot]
	return there && (!noted || !n.settled() && n.Was == live.Digest)
}

// isFresh tells of a secret that holds a generated value which is new.
func (v *vault) isFresh(w *wantedSecret) bool { return len(v.newIn(w)) > 0 }

// newIn are the generated values in a secret that are new.
func (v *vault) newIn(w *wantedSecret) []entries.Slot {
	var all []entries.Slot
	for _, slot := range w.of {
		if source := v.want(slot); source != nil && source.fresh {
			all = append(all, slot)
		}
	}
	return all
}

// want is what is asked for in one place; nil: nothing.
func (v *vault) want(slot entries.Slot) *wantedSecret {
	i := slices.IndexFunc(v.wanted, func(w *wantedSecret) bool { return w.slot == slot })
	if i < 0 {
		return nil
	}
	return v.wanted[i]
}

// hash is that of what a secret is to hold. Of a generated value that nobody can
// tell it is the one that is written down; what is joined from generated values
// is hashed with their hashes in their places, so that it can be told from what
// was written before without knowing them.
func (v *vault) hash(key []byte, w *wantedSecret) string {
	if w.generated {
		if w.value.IsZero() {
			return v.ledger.names[w.slot].Hash
		}
		return v.memory.hashes.of(key, w.slot, valueMaterial(w.value))
	}
	if len(w.of) == 0 {
		return v.memory.hashes.of(key, w.slot, valueMaterial(w.value))
	}
	var b bytes.Buffer
	b.WriteByte('r')
	for i, piece := range w.pieces {
		if !slices.Contains(w.of, piece.Slot) {
			writeField(&b, []byte("t"))
			writeField(&b, piece.Text.Reveal())
			continue
		}
		writeField(&b, []byte("g"))
		writeField(&b, fmt.Appendf(nil, "%s %t", w.join[i].Field, w.join[i].URLEscape))
		writeField(&b, []byte(v.identity(key, piece.Slot)))
	}
	return v.memory.hashes.of(key, w.slot, b.Bytes())
}

// identity stands for a generated value.
func (v *vault) identity(key []byte, slot entries.Slot) string {
	if w := v.want(slot); w != nil {
		if h := v.hash(key, w); h != "" {
			return h
		}
	}
	if n := v.ledger.names[slot]; n.settled() {
		return "taken " + n.Digest
	}
	return "taken " + v.live[slot.Object].byName[slot.Key].Digest
}

func valueMaterial(value secret.Value) []byte { return append([]byte{'v'}, value.Reveal()...) }
