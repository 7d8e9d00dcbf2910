package helm

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// seal hashes what may hold secrets for a place that more people may read than
// may read Secrets: the inventory. Nobody without the key can try guesses on
// its hashes. The key is that of the environment's checksums, in a Secret.
//
// A nil seal hashes to nothing, which is equal to nothing.
type seal struct {
	key     string
	mark    string // names the key
	invents bool   // nothing that it hashes is written down
}

func newSeal(key string) *seal {
	s := &seal{key: key}
	s.mark = s.hash([]byte("mark"))[:8]
	return s
}

// inventedSeal serves to plan what was never installed, as long as the key is
// not there.
func inventedSeal() *seal {
	s := newSeal(rand.Text())
	s.invents = true
	return s
}

func (s *seal) hash(b []byte) string {
	if s == nil {
		return ""
	}
	sum := hmac.New(sha256.New, []byte(s.key))
	sum.Write(b)
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// renderKey is a hash that says which key it was made with.
func (s *seal) renderKey(b []byte) string {
	if s == nil {
		return ""
	}
	return s.mark + "." + s.hash(b)
}

// made tells whether a render key was made with this key, so that it can be
// compared. Those of another one are of before the key was lost, or of a forged
// that had none.
func (s *seal) made(renderKey string) bool {
	return s != nil && strings.HasPrefix(renderKey, s.mark+".")
}

// keyOutput is where the key of a resource's environment comes from.
func keyOutput(r forge.Resource) (from forge.ID, output string) {
	i := slices.IndexFunc(r.Needs, func(id forge.ID) bool { return id.Kind == forge.KindSecrets })
	if i >= 0 {
		from = r.Needs[i]
	}
	return from, kubernetes.HashKeyOutput(r.ID.Environment)
}

// sealOf is the seal of a release; nil as long as its key is not known. The
// caller holds the mutex of the provider.
func (u *unit) sealOf(req reconcile.Request) *seal {
	from, output := keyOutput(req.Resource)
	switch key := string(req.Inputs[from][output].Secret.Reveal()); {
	case key == "":
		return nil
	case u.seal == nil || u.seal.key != key:
		u.seal = newSeal(key)
	}
	return u.seal
}

// unsealed says that the key is not known yet.
func (h *handle) unsealed() error { return reconcile.WaitingFor(keyOutput(h.req.Resource)) }

// sealed tells whether an object is what an entry of the inventory says.
func (h *handle) sealed(e kubernetes.Entry, o object) bool {
	sum := h.seal.hash(o.json)
	return sum != "" && e.Desired == sum
}

// resealed are the entries of a record with the hashes of what was applied,
// where they were made with another key.
func (s *seen) resealed(objects map[kubernetes.Ref]object) []kubernetes.Entry {
	var out []kubernetes.Entry
	for _, e := range s.record.Entries {
		if o, ok := objects[e.Ref]; ok && !s.h.sealed(e, o) {
			e.Desired = s.h.seal.hash(o.json)
			out = append(out, e)
		}
	}
	return out
}
