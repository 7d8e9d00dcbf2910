package kubernetes

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

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

// withHashKey returns the Secrets asked for, and the slot of the key, which is
// among them or else added.
func withHashKey(environment string, objects []forge.SecretObject) ([]forge.SecretObject, slotKey) {
	slot := slotKey{"forged-" + environment, hashKeyName}
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
	labels   map[string]string
	data     map[string]secret.Value
	checksum string // of the data
	rest     string // hash of what else is asked for
}

// desired is the hash that goes into the inventory.
func (w wanted) desired() string { return w.checksum + "/" + w.rest }

func (w wanted) object(c *Cluster, owner forge.ID, namespace string) *unstructured.Unstructured {
	data := make(map[string]any, len(w.data))
	for key, value := range w.data {
		data[key] = base64.StdEncoding.EncodeToString(value.Reveal())
	}
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
	}}
	obj.SetNamespace(namespace)
	obj.SetName(w.name)
	if len(w.labels) > 0 {
		obj.SetLabels(w.labels)
	}
	c.Stamp(obj, owner)
	return obj
}

type knownKey struct {
	target forge.Target
	id     forge.ID
}

type slotKey struct{ secret, key string }

// generated are the generated values in the cluster, kept so that a steady
// state asks for none of them and so that they can be put back when deleted.
type generated struct{ values map[slotKey]secret.Value }

// want resolves all references and computes the Secrets. fresh are generated
// values that are not in the cluster yet.
func (p *Secrets) want(ctx context.Context, c *Cluster, id forge.ID, target forge.Target, spec forge.SecretsSpec) (ws []wanted, fresh map[slotKey]secret.Value, err error) {
	objects, keySlot := withHashKey(id.Environment, spec.Secrets)
	values := map[slotKey]secret.Value{}
	fresh = map[slotKey]secret.Value{}
	for _, o := range objects {
		if err := p.resolve(ctx, c, knownKey{target, id}, spec.Namespace, o, values, fresh); err != nil {
			return nil, nil, err
		}
	}
	key := values[keySlot].Reveal()
	if len(key) == 0 {
		return nil, nil, invalidEntry(id, spec.Namespace, keySlot.secret, keySlot.key, errors.New("it must be generated"))
	}
	for _, o := range objects {
		w := wanted{name: o.Name, labels: o.Labels, data: map[string]secret.Value{}}
		for _, e := range o.Entries {
			v := values[slotKey{o.Name, e.Key}]
			if e.Ref == nil {
				if v, err = join(e, values); err != nil {
					return nil, nil, invalidEntry(id, spec.Namespace, o.Name, e.Key, err)
				}
			}
			w.data[e.Key] = v
		}
		sum := hmac.New(sha256.New, key)
		for _, k := range sortedKeys(w.data) {
			writeField(sum, []byte(k))
			writeField(sum, w.data[k].Reveal())
		}
		w.checksum = hex.EncodeToString(sum.Sum(nil)[:16])
		rest := sha256.New()
		for _, k := range sortedKeys(o.Labels) {
			writeField(rest, []byte(k))
			writeField(rest, []byte(o.Labels[k]))
		}
		w.rest = hex.EncodeToString(rest.Sum(nil)[:8])
		ws = append(ws, w)
	}
	return ws, fresh, nil
}

// writeField writes b so that no two sequences of fields look alike.
func writeField(h hash.Hash, b []byte) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(b)))
	h.Write(length[:])
	h.Write(b)
}

// resolve fills in the references of one Secret.
func (p *Secrets) resolve(ctx context.Context, c *Cluster, key knownKey, namespace string, o forge.SecretObject, values, fresh map[slotKey]secret.Value) error {
	var live map[string]secret.Value // read at most once
	for _, e := range o.Entries {
		if e.Ref == nil {
			continue
		}
		slot := slotKey{o.Name, e.Key}
		if e.Ref.Generate == nil {
			v, err := p.resolver.Resolve(ctx, *e.Ref)
			if err != nil {
				if ctx.Err() != nil {
					return Classify("resolve", secretRef(namespace, o.Name), ctx.Err())
				}
				return invalidEntry(key.id, namespace, o.Name, e.Key, err)
			}
			values[slot] = v
			continue
		}
		if v, ok := p.generatedValue(key, slot); ok {
			values[slot] = v
			continue
		}
		if live == nil {
			var err error
			if live, err = readSecret(ctx, c, secretRef(namespace, o.Name)); err != nil {
				return err // unknown is not absent: nothing is generated
			}
		}
		if v, ok := live[e.Key]; ok {
			values[slot] = v
			p.rememberGenerated(key, slot, v)
			continue
		}
		v, err := secret.Generate(*e.Ref.Generate)
		if err != nil {
			return invalidEntry(key.id, namespace, o.Name, e.Key, err)
		}
		values[slot], fresh[slot] = v, v
	}
	return nil
}

// readSecret reads what a Secret holds; empty if there is none.
func readSecret(ctx context.Context, c *Cluster, ref Ref) (map[string]secret.Value, error) {
	live, err := c.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	values := map[string]secret.Value{}
	if live == nil {
		return values, nil
	}
	for key, v := range child(live.Object, "data") {
		text, _ := v.(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "read", Object: ref.String(), Err: fmt.Errorf("key %s is not base64", key)}
		}
		if len(raw) > 0 {
			values[key] = secret.New(raw)
		}
	}
	return values, nil
}

func join(e forge.SecretEntry, values map[slotKey]secret.Value) (secret.Value, error) {
	var b []byte
	for _, part := range e.Join {
		if part.Secret == "" {
			b = append(b, part.Literal...)
			continue
		}
		v, ok := values[slotKey{part.Secret, part.Key}]
		if !ok {
			return secret.Value{}, fmt.Errorf("it is joined from key %s of Secret %s, which is not a reference of this resource", part.Key, part.Secret)
		}
		if part.URLEscape {
			b = appendEscaped(b, v.Reveal())
		} else {
			b = append(b, v.Reveal()...)
		}
	}
	if len(b) == 0 {
		return secret.Value{}, errors.New("it is joined from nothing")
	}
	return secret.New(b), nil
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

func invalidEntry(id forge.ID, namespace, name, key string, err error) error {
	return &reconcile.Error{
		Kind: reconcile.Invalid, ID: id, Op: "resolve", Object: secretRef(namespace, name).String(),
		Err: fmt.Errorf("key %s: %w", key, err),
	}
}

func (p *Secrets) generatedValue(key knownKey, slot slotKey) (secret.Value, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.known[key]; g != nil {
		v, ok := g.values[slot]
		return v, ok
	}
	return secret.Value{}, false
}

func (p *Secrets) rememberGenerated(key knownKey, slot slotKey, v secret.Value) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.known[key]
	if g == nil {
		g = &generated{map[slotKey]secret.Value{}}
		p.known[key] = g
	}
	g.values[slot] = v
}

// keepGenerated remembers fresh values once they are in the cluster.
func (p *Secrets) keepGenerated(r forge.Resource, fresh map[slotKey]secret.Value, applied []wanted) {
	for _, w := range applied {
		for key := range w.data {
			if v, ok := fresh[slotKey{w.name, key}]; ok {
				p.rememberGenerated(knownKey{r.Target, r.ID}, slotKey{w.name, key}, v)
			}
		}
	}
}

func (p *Secrets) forgetGenerated(r forge.Resource) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, knownKey{r.Target, r.ID})
}
