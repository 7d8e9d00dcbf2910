package kubernetes

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// The key of checksums is a generated entry like any other. Without it, a
// checksum in a pod's annotation could be tried against guesses of the secret.
const (
	hashKeyName   = "hash-key"
	hashKeyLength = 64 // hex digits: 256 bits
)

func hashKeySecret(environment string) string { return "forged-" + environment }

// HashKeyOutput is the output of the Secrets of an environment that is the key
// of its checksums: what lies where everybody may read it is hashed with it.
func HashKeyOutput(environment string) string {
	return "value/" + hashKeySecret(environment) + "/" + hashKeyName
}

// withHashKey returns the Secrets asked for, and the slot of the key, which is
// among them or else added.
func withHashKey(environment string, objects []forge.SecretObject) ([]forge.SecretObject, slotKey) {
	slot := slotKey{hashKeySecret(environment), hashKeyName}
	for _, o := range objects {
		if o.Name == slot.secret {
			return objects, slot
		}
	}
	return append([]forge.SecretObject{{
		Name: slot.secret,
		Entries: []forge.SecretEntry{{
			Key: slot.key,
			Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "hex", Length: hashKeyLength}},
		}},
	}}, objects...), slot
}

// wanted is one Secret as it is to be.
type wanted struct {
	name     string
	kind     string // type of the Secret
	labels   map[string]string
	data     map[string]secret.Value
	checksum string // of the data
	rest     string // hash of what else is asked for

	rotations map[string]int // of the generated keys
	lost      []slotKey      // generated values that nobody knows any more: it cannot be made
}

// desired is the hash that goes into the inventory.
func (w wanted) desired() string { return w.checksum + "/" + w.rest }

func (w wanted) object(c *Cluster, owner forge.ID, namespace string) *unstructured.Unstructured {
	data := make(map[string]any, len(w.data))
	for key, value := range w.data {
		data[key] = base64.StdEncoding.EncodeToString(value.Reveal())
	}
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": w.kind, "data": data,
	}}
	obj.SetNamespace(namespace)
	obj.SetName(w.name)
	if len(w.labels) > 0 {
		obj.SetLabels(w.labels)
	}
	if text := rotationText(w.rotations, false); text != "" {
		obj.SetAnnotations(map[string]string{AnnotationRotation: text})
	}
	c.Stamp(obj, owner)
	return obj
}

type knownKey struct {
	target forge.Target
	id     forge.ID
}

type slotKey struct{ secret, key string }

// want resolves all references and computes the Secrets. fresh are generated
// values that are not in the cluster yet.
func (p *Secrets) want(ctx context.Context, c *Cluster, r reconcile.Request, spec forge.SecretsSpec, record Record) (ws []wanted, fresh map[slotKey]made, err error) {
	id := r.Resource.ID
	objects, keySlot := withHashKey(id.Environment, spec.Secrets)
	l := &resolving{
		p: p, c: c, r: r, namespace: spec.Namespace, pass: p.resolver.Pass(r.Policy.Interval),
		values: map[slotKey]secret.Value{}, fresh: map[slotKey]made{}, live: map[string]liveSecret{},
		record: record, keySlot: keySlot, rotations: map[slotKey]int{}, lost: map[slotKey]bool{}, unmade: map[slotKey]bool{},
	}
	c.follow(id, followedRefs(spec))
	for _, o := range objects {
		if err := l.references(ctx, o); err != nil {
			return nil, nil, err
		}
		l.hold(o)
	}
	key := l.values[keySlot].Reveal()
	if len(key) == 0 {
		return nil, nil, l.invalid(keySlot.secret, keySlot.key, errors.New("it must be generated"))
	}
	for _, o := range objects {
		w := wanted{
			name: o.Name, kind: cmp.Or(o.Type, string(corev1.SecretTypeOpaque)), labels: o.Labels,
			data: map[string]secret.Value{}, rotations: map[string]int{},
		}
		for _, e := range o.Entries {
			slot := slotKey{o.Name, e.Key}
			v := l.values[slot]
			if e.Ref == nil {
				var gone *lostValue
				if v, err = l.join(ctx, o.Name, e); errors.As(err, &gone) {
					w.lost = append(w.lost, gone.slot)
					continue
				}
				if err != nil {
					return nil, nil, err
				}
			}
			if l.lost[slot] {
				w.lost = append(w.lost, slot)
				continue
			}
			w.data[e.Key] = v
			if n, ok := l.rotations[slot]; ok {
				w.rotations[e.Key] = n
			}
		}
		w.checksum = checksumOf(key, w.data)
		rest := sha256.New()
		for _, k := range sortedKeys(o.Labels) {
			writeField(rest, []byte(k))
			writeField(rest, []byte(o.Labels[k]))
		}
		if o.Type != "" {
			writeField(rest, []byte(o.Type))
		}
		w.rest = hex.EncodeToString(rest.Sum(nil)[:8])
		ws = append(ws, w)
	}
	return ws, l.fresh, nil
}

// checksumOf is a hash of values by which nobody without the key can try guesses.
func checksumOf(key []byte, data map[string]secret.Value) string {
	sum := hmac.New(sha256.New, key)
	for _, k := range sortedKeys(data) {
		writeField(sum, []byte(k))
		writeField(sum, data[k].Reveal())
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// writeField writes b so that no two sequences of fields look alike.
func writeField(h hash.Hash, b []byte) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(b)))
	h.Write(length[:])
	h.Write(b)
}

// resolving is the work of finding what one resource refers to at one moment.
type resolving struct {
	p         *Secrets
	c         *Cluster
	r         reconcile.Request
	namespace string
	pass      *secret.Pass
	values    map[slotKey]secret.Value
	fresh     map[slotKey]made
	live      map[string]liveSecret // Secrets in the cluster, each read at most once
	record    Record                // what was applied last
	keySlot   slotKey               // of the key of checksums
	rotations map[slotKey]int       // of generated values
	lost      map[slotKey]bool      // generated values that nobody knows any more
	unmade    map[slotKey]bool      // new ones of Secrets that cannot be made because of those
}

// references fills in the references of one Secret.
func (l *resolving) references(ctx context.Context, o forge.SecretObject) error {
	for _, e := range o.Entries {
		if e.Ref == nil {
			continue
		}
		slot := slotKey{o.Name, e.Key}
		var v secret.Value
		var err error
		if e.Ref.Generate != nil {
			v, err = l.generated(ctx, slot, *e.Ref.Generate)
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

// resolve reads a value where forge.cue says it is.
func (l *resolving) resolve(ctx context.Context, slot slotKey, ref forge.SecretRef, multiLine bool) (secret.Value, error) {
	if ref.Kubernetes != nil {
		return l.followed(ctx, slot, *ref.Kubernetes, multiLine)
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
		return v, Classify("resolve", secretRef(l.namespace, slot.secret), ctx.Err())
	}
	err = l.invalid(slot.secret, slot.key, err)
	var e *reconcile.Error
	if errors.As(err, &e) {
		e.Hint = "forged validate --resolve looks up every secret, where it runs"
		if secret.MayPass(err) {
			e.Kind = reconcile.Unavailable
		}
	}
	return v, err
}

// join puts a text together.
func (l *resolving) join(ctx context.Context, name string, e forge.SecretEntry) (secret.Value, error) {
	var b []byte
	for _, part := range e.Join {
		v, err := l.part(ctx, slotKey{name, e.Key}, part)
		if err == nil && part.Field != "" {
			if v, err = secret.Field(v, part.Field); err != nil {
				err = l.invalid(name, e.Key, fmt.Errorf("%s %w", l.describe(part), err))
			}
		}
		switch {
		case err != nil:
			return secret.Value{}, err
		case part.URLEscape:
			b = appendEscaped(b, v.Reveal())
		default:
			b = append(b, v.Reveal()...)
		}
	}
	if len(b) == 0 {
		return secret.Value{}, l.invalid(name, e.Key, errors.New("it is joined from nothing"))
	}
	return secret.New(b), nil
}

// part is the value of one part, before anything is taken out of it.
func (l *resolving) part(ctx context.Context, slot slotKey, part forge.SecretPart) (secret.Value, error) {
	switch {
	case part.Secret != "":
		v, ok := l.values[slotKey{part.Secret, part.Key}]
		if from := (slotKey{part.Secret, part.Key}); l.lost[from] || l.unmade[from] {
			return v, &lostValue{from}
		}
		if !ok {
			return v, l.invalid(slot.secret, slot.key, fmt.Errorf("it is joined from key %s of Secret %s, which is not a reference of this resource", part.Key, part.Secret))
		}
		return v, nil
	case part.Ref != nil && part.Ref.Generate != nil:
		return secret.Value{}, l.invalid(slot.secret, slot.key, errors.New("a part of it is to be generated and has no place of its own"))
	case part.Ref != nil:
		return l.resolve(ctx, slot, *part.Ref, false)
	case part.Output != "":
		out, ok := l.r.Inputs[part.From][part.Output]
		if !ok {
			return secret.Value{}, reconcile.WaitingFor(part.From, part.Output)
		}
		if out.Secret.IsZero() {
			return secret.New([]byte(out.Value)), nil
		}
		return out.Secret, nil
	}
	return secret.New([]byte(part.Literal)), nil
}

// describe names the source of a part for people.
func (l *resolving) describe(part forge.SecretPart) string {
	switch {
	case part.Secret != "":
		return "key " + part.Key + " of Secret " + part.Secret
	case part.Ref != nil:
		return l.pass.Describe(*part.Ref)
	case part.Output != "":
		return "output " + part.Output + " of " + part.From.String()
	}
	return "a literal"
}

// appendEscaped percent-encodes all but the unreserved characters of RFC 3986.
// The functions of net/url leave more alone than is safe in a password.
func appendEscaped(b, raw []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range raw {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// invalid is what only new config or the world can mend.
func (l *resolving) invalid(name, key string, err error) error {
	return &reconcile.Error{
		Kind: reconcile.Invalid, ID: l.r.Resource.ID, Op: "resolve", Object: secretRef(l.namespace, name).String(),
		Err: fmt.Errorf("key %s: %w", key, err),
	}
}
