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
	"hash"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
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
	slot := slotKey{Object: hashKeySecret(environment), Key: hashKeyName}
	for _, o := range objects {
		if o.Name == slot.Object {
			return objects, slot
		}
	}
	return append([]forge.SecretObject{{
		Name: slot.Object,
		Entries: []forge.SecretEntry{{
			Key: slot.Key,
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

type slotKey = entries.Slot

// want resolves all references and computes the Secrets. fresh are generated
// values that are not in the cluster yet.
func (p *Secrets) want(ctx context.Context, c *Cluster, r reconcile.Request, spec forge.SecretsSpec, record Record) (ws []wanted, fresh map[slotKey]made, err error) {
	id := r.Resource.ID
	objects, keySlot := withHashKey(id.Environment, spec.Secrets)
	l := &resolving{
		p: p, c: c, r: r, namespace: spec.Namespace, fresh: map[slotKey]made{}, live: map[string]liveSecret{},
		record: record, keySlot: keySlot, rotations: map[slotKey]int{}, lost: map[slotKey]bool{},
	}
	l.Reading = entries.Read(r, p.resolver, l)
	c.follow(id, followedRefs(spec))
	for _, o := range objects {
		if err := l.Refer(ctx, o); err != nil {
			return nil, nil, err
		}
		l.hold(o)
	}
	key := l.Value(keySlot).Reveal()
	if len(key) == 0 {
		return nil, nil, l.Invalid(keySlot, errors.New("it must be generated"))
	}
	for _, o := range objects {
		w := wanted{
			name: o.Name, kind: cmp.Or(o.Type, string(corev1.SecretTypeOpaque)), labels: o.Labels,
			data: map[string]secret.Value{}, rotations: map[string]int{},
		}
		for _, e := range o.Entries {
			slot := slotKey{Object: o.Name, Key: e.Key}
			v := l.Value(slot)
			if e.Ref == nil {
				var gone *entries.UnknownError
				if v, err = l.Join(ctx, o.Name, e); errors.As(err, &gone) {
					w.lost = append(w.lost, gone.Slot)
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
	*entries.Reading
	p         *Secrets
	c         *Cluster
	r         reconcile.Request
	namespace string
	fresh     map[slotKey]made
	live      map[string]liveSecret // Secrets in the cluster, each read at most once
	record    Record                // what was applied last
	keySlot   slotKey               // of the key of checksums
	rotations map[slotKey]int       // of generated values
	lost      map[slotKey]bool      // generated values that nobody knows any more
}

// Object implements [entries.Places].
func (l *resolving) Object(name string) string { return secretRef(l.namespace, name).String() }
