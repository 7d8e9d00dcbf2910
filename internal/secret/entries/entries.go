// Package entries finds the values of the entries of secrets: what they refer to
// and what they are joined from. What only a platform can read, its provider is
// asked for.
package entries

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Slot is the place of one value: a key of a SecretObject.
type Slot struct{ Object, Key string }

// Compare orders slots by object and key.
func (s Slot) Compare(other Slot) int {
	return cmp.Or(cmp.Compare(s.Object, other.Object), cmp.Compare(s.Key, other.Key))
}

// Places reads what only the provider of a platform can.
type Places interface {
	// Generated is a value that is made once and kept where the workload lives.
	// The zero value says that there is one and that nobody can tell it.
	Generated(ctx context.Context, slot Slot, g forge.Generate) (secret.Value, error)

	// Kubernetes is one key of a Secret in a cluster. A mistake that only new
	// config or the world can mend it may leave to Invalid.
	Kubernetes(ctx context.Context, slot Slot, ref forge.KubernetesRef, multiLine bool) (secret.Value, error)

	// Object names a SecretObject for people: "Secret shop/app-env".
	Object(name string) string
}

// Reading is the work of finding the values of one resource at one moment. It is
// used by one goroutine.
type Reading struct {
	request reconcile.Request
	places  Places
	pass    *secret.Pass
	values  map[Slot]secret.Value
}

// Read begins to read what a request is about.
func Read(r reconcile.Request, resolver *secret.Resolver, places Places) *Reading {
	return &Reading{request: r, places: places, pass: resolver.Pass(r.Policy.Interval), values: map[Slot]secret.Value{}}
}

// Refer reads the references of one object. Those of all objects are read before
// anything is joined.
func (l *Reading) Refer(ctx context.Context, o forge.SecretObject) error {
	for _, e := range o.Entries {
		if e.Ref == nil {
			continue
		}
		slot := Slot{o.Name, e.Key}
		var v secret.Value
		var err error
		if e.Ref.Generate != nil {
			v, err = l.places.Generated(ctx, slot, *e.Ref.Generate)
		} else {
			v, err = l.resolve(ctx, slot, *e.Ref, e.MultiLine)
		}
		if err != nil {
			return err
		}
		l.values[slot] = v
	}
	return nil
}

// Value is what was read for a reference; zero if nobody can tell it.
func (l *Reading) Value(slot Slot) secret.Value { return l.values[slot] }

// Withhold has nobody be told a value: it will not be kept anywhere.
func (l *Reading) Withhold(slot Slot) { l.values[slot] = secret.Value{} }

// resolve reads a value where forge.cue says it is.
func (l *Reading) resolve(ctx context.Context, slot Slot, ref forge.SecretRef, multiLine bool) (secret.Value, error) {
	if ref.Kubernetes != nil {
		return l.places.Kubernetes(ctx, slot, *ref.Kubernetes, multiLine)
	}
	resolve := l.pass.Resolve
	if multiLine {
		resolve = l.pass.ResolveText
	}
	v, err := resolve(ctx, ref)
	switch {
	case err == nil:
		return v, nil
	case ctx.Err() != nil:
		return v, &reconcile.Error{Kind: reconcile.Unavailable, ID: l.request.Resource.ID, Op: "resolve", Object: l.places.Object(slot.Object), Err: ctx.Err()}
	}
	err = l.Invalid(slot, err)
	var e *reconcile.Error
	if errors.As(err, &e) {
		e.Hint = "forged validate --resolve looks up every secret, where it runs"
		if secret.MayPass(err) {
			e.Kind = reconcile.Unavailable
		}
	}
	return v, err
}

// Invalid is what only new config or the world can mend.
func (l *Reading) Invalid(slot Slot, err error) error {
	return &reconcile.Error{
		Kind: reconcile.Invalid, ID: l.request.Resource.ID, Op: "resolve", Object: l.places.Object(slot.Object),
		Err: fmt.Errorf("key %s: %w", slot.Key, err),
	}
}

// Silent tells of objects that refer to what tells nobody when it changes: files,
// commands and vaults are asked in every round.
func Silent(objects []forge.SecretObject) bool {
	silent := func(ref *forge.SecretRef) bool {
		return ref != nil && (ref.File != "" || ref.SOPS != nil || ref.OP != "" || len(ref.Exec) > 0)
	}
	for _, o := range objects {
		for _, e := range o.Entries {
			if silent(e.Ref) || slices.ContainsFunc(e.Join, func(part forge.SecretPart) bool { return silent(part.Ref) }) {
				return true
			}
		}
	}
	return false
}

// Raise says what to write in forge.cue to have generated values made anew.
func Raise(objects []forge.SecretObject, slots ...Slot) []string {
	var lines []string
	for _, o := range objects {
		for _, e := range o.Entries {
			if slices.Contains(slots, Slot{o.Name, e.Key}) && e.Ref != nil && e.Ref.Generate != nil {
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
