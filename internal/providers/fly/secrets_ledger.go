package fly

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"

	"forged.dev/forged/internal/secret/entries"
)

// noted is what is written down of one secret. Fly shows no values, and forged
// writes none down: it keeps a hash by which it knows its own value again, and
// the digest that Fly showed of it.
type noted struct {
	Hash      string   `json:"hash,omitempty"`      // of what it was set to; empty: forged did not set it
	Digest    string   `json:"digest,omitempty"`    // that Fly showed then; empty: it was never seen to be set
	Generated bool     `json:"generated,omitempty"` // forged made the value, and nobody else knows it
	Rotation  int      `json:"rotation,omitempty"`  // of a generated value
	Of        []string `json:"of,omitempty"`        // the generated values it is joined from: "app/NAME"
	Taken     bool     `json:"taken,omitempty"`     // it was there before, and is left at what it was
	Kept      bool     `json:"kept,omitempty"`      // nobody asks for it any more; it is found again when somebody does
	Writing   bool     `json:"writing,omitempty"`   // it is being set, and was not seen to be
	Was       string   `json:"was,omitempty"`       // while Writing: the digest of somebody else's value in its place
}

// settled tells that Fly was seen to hold what is noted.
func (n noted) settled() bool { return n.Digest != "" }

// ledger is what is written down of the secrets of an environment.
type ledger struct {
	names    map[entries.Slot]noted
	versions map[string]uint64 // of the newest write of ours, by app
}

// Keys of a ledger in the data of a record.
const (
	ledgerSecret  = "secret/"  // and app/NAME
	ledgerVersion = "version/" // and the app
)

func readLedger(data map[string]string) (ledger, error) {
	l := ledger{map[entries.Slot]noted{}, map[string]uint64{}}
	for key, text := range data {
		if app, ok := strings.CutPrefix(key, ledgerVersion); ok {
			version, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return l, fmt.Errorf("what is written down of the version of app %s: %w", app, err)
			}
			l.versions[app] = version
			continue
		}
		app, name, ok := strings.Cut(strings.TrimPrefix(key, ledgerSecret), "/")
		if !ok {
			continue // of a later forged
		}
		var n noted
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			return l, fmt.Errorf("what is written down of secret %s of app %s: %w", name, app, err)
		}
		l.names[entries.Slot{Object: app, Key: name}] = n
	}
	return l, nil
}

func (l ledger) clone() ledger { return ledger{maps.Clone(l.names), maps.Clone(l.versions)} }

// data is the ledger as readLedger reads it.
func (l ledger) data() map[string]string {
	data := map[string]string{}
	for slot, n := range l.names {
		text, _ := json.Marshal(n) // plain data: it never fails
		data[ledgerSecret+slotName(slot)] = string(text)
	}
	for app, version := range l.versions {
		data[ledgerVersion+app] = strconv.FormatUint(version, 10)
	}
	return data
}

// writing tells that an action has begun on any of them.
func (l ledger) writing() bool {
	for _, n := range l.names {
		if n.Writing {
			return true
		}
	}
	return false
}

// slots are all secrets, sorted.
func (l ledger) slots() []entries.Slot {
	return slices.SortedFunc(maps.Keys(l.names), entries.Slot.Compare)
}

// drop takes a secret out, and the version with the last one of an app.
func (l ledger) drop(slot entries.Slot) {
	delete(l.names, slot)
	for other := range l.names {
		if other.Object == slot.Object {
			return
		}
	}
	delete(l.versions, slot.Object)
}

func slotName(s entries.Slot) string { return s.Object + "/" + s.Key }

// Argon2id with these takes some 30 ms and 19 MiB for each guess at a value,
// with a key that lies beside the hash: OWASP's second choice.
const (
	hashPasses = 2
	hashMemory = 19 << 10 // KiB
	hashLength = 16
)

// hashes are hashes that were made, so that a steady state makes none.
type hashes struct {
	one  *sync.Mutex // one is made at a time, for the sake of memory
	kept map[entries.Slot]hashed
}

type hashed struct {
	key, sum [sha256.Size]byte // of what it is a hash of
	text     string
}

// of is the hash of what a secret is made of. It is salted with the key of the
// inventory and with the place: the same value looks different elsewhere.
func (h hashes) of(key []byte, slot entries.Slot, material []byte) string {
	ask := hashed{key: sha256.Sum256(key), sum: sha256.Sum256(material)}
	if had, ok := h.kept[slot]; ok && had.key == ask.key && had.sum == ask.sum {
		return had.text
	}
	var salt bytes.Buffer
	salt.Write(key)
	writeField(&salt, []byte(slot.Object))
	writeField(&salt, []byte(slot.Key))
	salted := sha256.Sum256(salt.Bytes())
	h.one.Lock()
	defer h.one.Unlock()
	ask.text = base64.RawURLEncoding.EncodeToString(argon2.IDKey(material, salted[:], hashPasses, hashMemory, 1, hashLength))
	h.kept[slot] = ask
	return ask.text
}

// writeField writes b so that no two sequences of fields look alike.
func writeField(to *bytes.Buffer, b []byte) {
	_ = binary.Write(to, binary.BigEndian, uint64(len(b))) // a buffer takes everything
	to.Write(b)
}
