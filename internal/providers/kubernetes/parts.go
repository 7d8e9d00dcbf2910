package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
)

// An inventory that is too large for one ConfigMap is kept in parts: ConfigMaps
// beside it, each named by a hash of what it holds and never changed. The
// inventory itself then only names its parts.
const (
	partsVersion = 2 // of a document that has parts
	labelPart    = "forged.dev/inventory-part"
	inOnePiece   = 2000 // entries that need no parts
	aimOfPart    = 1000 // entries
	mostOfPiece  = 500  // entries of one record that stay together
	mostParts    = 1024
	mostPacked   = maxInventory - 4096 // bytes; the rest is for metadata
)

// part is what one part holds.
type part struct {
	Version int     `json:"version"`
	Pieces  []piece `json:"pieces"`
}

// piece is a record, or some of the entries of one.
type piece struct {
	Record
	Place int `json:"place,omitempty"` // of the piece in its record
}

func (s stored) partNames() []string {
	if s.parts == "" {
		return nil
	}
	return strings.Split(s.parts, ",")
}

// pack writes an inventory as one packed document and the parts it names, by
// name. A small one has none.
func pack(doc document, name string) (head []byte, parts map[string][]byte, err error) {
	entries := 0
	for _, r := range doc.Records {
		entries += len(r.Entries)
	}
	if entries <= inOnePiece {
		if head, err = encode(doc); err != nil || len(head) <= mostPacked {
			return head, nil, err
		}
	}
	count := 2
	for count*aimOfPart < entries {
		count *= 2
	}
	for ; count <= mostParts; count *= 2 {
		parts, err := divide(doc.Records, name, count)
		if err != nil {
			return nil, nil, err
		}
		if parts == nil {
			continue
		}
		small := doc
		small.Version, small.Records, small.Parts = partsVersion, nil, sortedKeys(parts)
		head, err := encode(small)
		return head, parts, err
	}
	return nil, nil, fmt.Errorf("%d entries do not fit into %d ConfigMaps", entries, mostParts)
}

// divide puts records into parts. Which part a piece goes to depends on its
// resource alone, so that most parts stay what they are when one resource
// changes. nil: they would be too large.
func divide(records []Record, name string, count int) (map[string][]byte, error) {
	shards := make([]part, count)
	for _, r := range records {
		h := fnv.New32a()
		h.Write([]byte(r.ID.String()))
		first := int(h.Sum32() % uint32(count))
		rest := r.Entries
		for place := 0; place == 0 || len(rest) > 0; place++ {
			n := min(mostOfPiece, len(rest))
			p := piece{Record: r, Place: place}
			p.Entries = rest[:n]
			rest = rest[n:]
			at := &shards[(first+place)%count]
			at.Pieces = append(at.Pieces, p)
		}
	}
	parts := make(map[string][]byte, count)
	for _, s := range shards {
		if len(s.Pieces) == 0 {
			continue
		}
		s.Version = partsVersion
		raw, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		packed, err := encode(json.RawMessage(raw))
		if err != nil {
			return nil, err
		}
		if len(packed) > mostPacked {
			return nil, nil
		}
		parts[partName(name, raw)] = packed
	}
	return parts, nil
}

// partName is the name of a part. Environments have no dot in theirs, so that
// no inventory is called like a part of another.
func partName(inventory string, raw []byte) string {
	sum := sha256.Sum256(raw)
	return inventory + "." + hex.EncodeToString(sum[:8])
}

// partGone says that a part is named and not there.
type partGone struct{ name string }

func (e *partGone) Error() string { return fmt.Sprintf("its part, ConfigMap %s, is gone", e.name) }

// readParts reads all parts and puts the records together.
func (inv *Inventory) readParts(ctx context.Context, names []string) (map[forge.ID]Record, error) {
	pieces := map[forge.ID][]piece{}
	for _, name := range names {
		cm, err := inv.c.client.CoreV1().ConfigMaps(inv.key.namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil, &partGone{name}
		case err != nil:
			return nil, Classify("read inventory", inv.partRef(name), err)
		}
		var p part
		raw, err := unpack(cm.BinaryData[inventoryKeyGZ], &p)
		if err != nil {
			return nil, fmt.Errorf("part %s: %w", name, err)
		}
		if partName(inv.name(), raw) != name {
			return nil, fmt.Errorf("part %s: it holds something else than was written", name)
		}
		for _, piece := range p.Pieces {
			pieces[piece.ID] = append(pieces[piece.ID], piece)
		}
	}
	records := make(map[forge.ID]Record, len(pieces))
	for id, ps := range pieces {
		slices.SortFunc(ps, func(a, b piece) int { return a.Place - b.Place })
		r := ps[0].Record
		for place, p := range ps {
			if p.Place != place {
				return nil, fmt.Errorf("piece %d of %s is missing", place, id)
			}
			if place > 0 {
				r.Entries = append(r.Entries, p.Entries...)
			}
		}
		records[id] = r
	}
	return records, nil
}

func (inv *Inventory) partRef(name string) Ref {
	ref := inv.ref()
	ref.Name = name
	return ref
}

// writeParts writes those parts that are not there yet. at is the inventory as
// it is stored now, with its parts.
func (inv *Inventory) writeParts(ctx context.Context, parts map[string][]byte, at stored) error {
	const op = "write inventory"
	there := at.partNames()
	api := inv.c.client.CoreV1().ConfigMaps(inv.key.namespace)
	for _, name := range sortedKeys(parts) {
		if slices.Contains(there, name) {
			continue
		}
		cm := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: inv.key.namespace,
				Labels: map[string]string{managedByLabel: managedByForged, labelPart: inv.c.instance},
			},
			BinaryData: map[string][]byte{inventoryKeyGZ: parts[name]},
		}
		_, err := api.Create(ctx, cm, metav1.CreateOptions{FieldManager: inv.c.manager})
		if apierrors.IsAlreadyExists(err) {
			// Left by a crash, or in use still: the name is a hash of what it
			// holds. Writing it anew says that it is wanted, in case somebody
			// is about to tidy it away.
			cm.Annotations = map[string]string{annotationHolder: "again after " + at.rv}
			_, err = api.Update(ctx, cm, metav1.UpdateOptions{FieldManager: inv.c.manager})
		}
		if err != nil {
			return Classify(op, inv.partRef(name), err)
		}
	}
	return nil
}

// tidy removes parts that are not named any more, once for each process also
// those that a crash has left. What fails here is found by the next process.
func (inv *Inventory) tidy(ctx context.Context, before, now stored) {
	named := now.partNames()
	inv.removeParts(ctx, slices.DeleteFunc(before.partNames(), func(name string) bool { return slices.Contains(named, name) }))
	inv.c.mu.Lock()
	tidied := inv.tidied || len(named)+len(before.partNames()) == 0
	inv.tidied = inv.tidied || !tidied
	inv.c.mu.Unlock()
	if tidied {
		return
	}
	list, err := inv.c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(inv.key.namespace).
		List(ctx, metav1.ListOptions{LabelSelector: labelPart + "=" + inv.c.instance})
	if err != nil {
		return
	}
	for i := range list.Items {
		cm := &list.Items[i]
		// One that is younger than the inventory may be another process's, which
		// is about to name it.
		if !strings.HasPrefix(cm.Name, inv.name()+".") || slices.Contains(named, cm.Name) || !olderThan(cm.ResourceVersion, now.rv) {
			continue
		}
		uid, rv := cm.UID, cm.ResourceVersion
		inv.removePart(ctx, cm.Name, &metav1.Preconditions{UID: &uid, ResourceVersion: &rv})
	}
}

func (inv *Inventory) removeParts(ctx context.Context, names []string) {
	for _, name := range names {
		inv.removePart(ctx, name, nil)
	}
}

func (inv *Inventory) removePart(ctx context.Context, name string, only *metav1.Preconditions) {
	err := inv.c.client.CoreV1().ConfigMaps(inv.key.namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: only})
	if err != nil && !apierrors.IsNotFound(err) && !errors.Is(err, context.Canceled) {
		inv.c.log.DebugContext(ctx, "a part of an inventory that is not used any more is left", "object", inv.partRef(name).String(), "error", Classify("delete", inv.partRef(name), err))
	}
}
