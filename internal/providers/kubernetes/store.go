package kubernetes

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

const (
	// labelInventory marks inventories. They do not bear LabelInstance, which
	// marks what they list.
	labelInventory = "forged.dev/inventory"
	inventoryKeyGZ = "inventory.json.gz"

	// annotationHolder says which process wrote an inventory last. A new holder
	// of the lease writes it at once, so that the writes of the one before are
	// refused.
	annotationHolder = "forged.dev/holder"

	formatVersion = 1
	maxInventory  = 1 << 20 // bytes, unpacked as well; the API server takes no more packed

	flushDelay   = 2 * time.Second  // heals within it share one write
	flushRetry   = 15 * time.Second // after a failed write
	flushTimeout = 5 * time.Second  // of the last write, while closing
)

// stored is what is known of the ConfigMap as read or written last; zero if
// there is none.
type stored struct {
	uid, rv string
	parts   string // names of its parts, comma-separated
}

type document struct {
	Version     int      `json:"version"`
	Instance    string   `json:"instance"`
	ClusterUID  string   `json:"clusterUID"`
	Environment string   `json:"environment"`
	Records     []Record `json:"records"`
	Parts       []string `json:"parts,omitempty"` // where the records are, if not here
	Left        []Left   `json:"left,omitempty"`  // other places where something of the environment was left
}

const inventoryPrefix = "forged-inventory-"

func (inv *Inventory) name() string { return inventoryPrefix + inv.key.environment }

func (inv *Inventory) ref() Ref {
	return Ref{GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Namespace: inv.key.namespace, Name: inv.name()}
}

// contents is all that an inventory holds.
type contents struct {
	records map[forge.ID]Record
	left    []Left
}

// load reads the ConfigMap and its parts.
func (inv *Inventory) load(ctx context.Context) (contents, stored, error) {
	const op = "read inventory"
	ctx, cancel := bound(ctx)
	defer cancel()
	// Another forged may replace the parts between the reads.
	const attempts = 5
	last := ""
	for range attempts {
		cm, err := inv.c.client.CoreV1().ConfigMaps(inv.key.namespace).Get(ctx, inv.name(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return contents{records: map[forge.ID]Record{}}, stored{}, nil
		}
		if err != nil {
			return contents{}, stored{}, Classify(op, inv.ref(), err)
		}
		got, at, err := inv.read(ctx, cm)
		if err == nil {
			return got, at, nil
		}
		var gone *partGone
		if !errors.As(err, &gone) || last == cm.ResourceVersion {
			return contents{}, stored{}, err
		}
		last = cm.ResourceVersion
	}
	return contents{}, stored{}, reconcile.Errorf(reconcile.Stale, op, "another forged writes %s at the same time", inv.ref())
}

func (inv *Inventory) read(ctx context.Context, cm *corev1.ConfigMap) (contents, stored, error) {
	damaged := func(err error) error {
		return &reconcile.Error{
			Kind: reconcile.Invalid, Op: "read inventory", Object: inv.ref().String(), Err: err,
			Hint: "put it back from a backup, or delete it to let forged take its objects over anew",
		}
	}
	doc, err := decode(cm.BinaryData[inventoryKeyGZ])
	if err != nil {
		return contents{}, stored{}, damaged(err)
	}
	if err := inv.check(doc); err != nil {
		return contents{}, stored{}, err
	}
	records := make(map[forge.ID]Record, len(doc.Records))
	for _, r := range doc.Records {
		records[r.ID] = r
	}
	if len(doc.Parts) > 0 {
		if records, err = inv.readParts(ctx, doc.Parts); err != nil {
			var known *reconcile.Error
			if errors.As(err, &known) {
				return contents{}, stored{}, err
			}
			return contents{}, stored{}, damaged(err)
		}
	}
	return contents{records, doc.Left}, stored{string(cm.UID), cm.ResourceVersion, strings.Join(doc.Parts, ",")}, nil
}

// check refuses an inventory that is of another cluster or another forged.
func (inv *Inventory) check(doc document) error {
	e := &reconcile.Error{Kind: reconcile.Conflict, Op: "read inventory", Object: inv.ref().String()}
	switch {
	case doc.ClusterUID != inv.c.uid:
		e.Err = fmt.Errorf("it was written in another cluster (kube-system %s, this one has %s); nothing is done here", doc.ClusterUID, inv.c.uid)
		e.Hint = "is this a copy of a cluster, or the wrong context? delete the ConfigMap to let forged take its objects over here"
	case doc.Instance != inv.c.instance:
		e.Err = fmt.Errorf("environment %s is managed by another forged, %q (this is %q)", inv.key.environment, doc.Instance, inv.c.instance)
		e.Hint = "stop the other one, or give this environment another namespace"
	case doc.Environment != inv.key.environment:
		e.Err = fmt.Errorf("it is the inventory of environment %s, and not of %s", doc.Environment, inv.key.environment)
		e.Hint = "was it copied? put the right one back from a backup, or delete it to let forged take its objects over anew"
	default:
		return nil
	}
	return e
}

func encode(doc any) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(doc); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// unpack is the opposite of encode. It returns the JSON as well.
func unpack(packed []byte, into any) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	const most = 64 * maxInventory // a bomb is refused, a large inventory is not
	raw, err := io.ReadAll(io.LimitReader(z, most+1))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if len(raw) > most {
		return nil, errors.New("it is damaged: too large")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return bytes.TrimSpace(raw), nil
}

func decode(packed []byte) (document, error) {
	var doc document
	if _, err := unpack(packed, &doc); err != nil {
		return doc, err
	}
	if doc.Version != formatVersion && doc.Version != partsVersion {
		return doc, fmt.Errorf("it has format version %d, this forged knows %d and %d", doc.Version, formatVersion, partsVersion)
	}
	return doc, nil
}

// document is the inventory as it is to be written. The caller holds c.mu.
func (inv *Inventory) document() document {
	doc := document{
		Version: formatVersion, Instance: inv.c.instance,
		ClusterUID: inv.c.uid, Environment: inv.key.environment,
		Left: slices.Clone(inv.left),
	}
	for _, r := range inv.records {
		doc.Records = append(doc.Records, r)
	}
	slices.SortFunc(doc.Records, func(a, b Record) int { return a.ID.Compare(b.ID) })
	return doc
}

// update changes records in memory and writes them. change runs under c.mu and
// returns what takes it back, which is done if the write fails.
func (inv *Inventory) update(ctx context.Context, change func() (undo func())) error {
	select {
	case inv.turn <- struct{}{}:
		defer func() { <-inv.turn }()
	case <-ctx.Done():
		return Classify("write inventory", inv.ref(), ctx.Err())
	}
	c := inv.c
	if err := c.fence.inventory(inv.key); err != nil {
		return about(err, inv.ref())
	}
	c.fence.act(inv.key.environment)
	c.mu.Lock()
	undo := change()
	doc, at, holder := inv.document(), inv.stored, inv.holder
	inv.dirty = false
	c.mu.Unlock()

	written, err := inv.put(ctx, doc, at, holder)
	if err == nil {
		c.mu.Lock()
		inv.stored = written
		c.mu.Unlock()
		return nil
	}
	c.mu.Lock()
	undo()
	inv.dirty, inv.tidied = true, false
	c.mu.Unlock()
	if reconcile.KindOf(err) == reconcile.Stale {
		// Somebody else wrote it: theirs is what counts now.
		now, at, loadErr := inv.load(ctx)
		if loadErr != nil {
			return loadErr
		}
		c.mu.Lock()
		inv.adopt(now, at)
		c.mu.Unlock()
	}
	return err
}

// put writes the document over the one read or written last, and over no
// other. Where it has parts, those are written first and the document names
// them, so that a crash in between leaves the old document with its old parts.
func (inv *Inventory) put(ctx context.Context, doc document, at stored, holder string) (stored, error) {
	const op = "write inventory"
	ctx, cancel := bound(ctx)
	defer cancel()
	api := inv.c.client.CoreV1().ConfigMaps(inv.key.namespace)
	if len(doc.Records) == 0 && len(doc.Left) == 0 {
		if at == (stored{}) {
			return at, nil
		}
		uid := types.UID(at.uid)
		err := api.Delete(ctx, inv.name(), metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &at.rv},
		})
		if apierrors.IsNotFound(err) {
			err = nil
		}
		if err == nil {
			inv.removeParts(ctx, at.partNames())
		}
		return stored{}, Classify(op, inv.ref(), err)
	}
	packed, parts, err := pack(doc, inv.name())
	if err != nil {
		return stored{}, &reconcile.Error{
			Kind: reconcile.Invalid, Op: op, Object: inv.ref().String(), Err: err, Hint: "divide the environment",
		}
	}
	if err := inv.writeParts(ctx, parts, at); err != nil {
		return stored{}, err
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: inv.name(), Namespace: inv.key.namespace,
			Labels: map[string]string{managedByLabel: managedByForged, labelInventory: inv.c.instance},
			UID:    types.UID(at.uid), ResourceVersion: at.rv,
		},
		BinaryData: map[string][]byte{inventoryKeyGZ: packed},
	}
	if holder != "" {
		cm.Annotations = map[string]string{annotationHolder: holder}
	}
	var got *corev1.ConfigMap
	if at != (stored{}) {
		got, err = api.Update(ctx, cm, metav1.UpdateOptions{FieldManager: inv.c.manager})
		if apierrors.IsNotFound(err) {
			// It was deleted, perhaps with its namespace. What we know of what
			// we own is in memory, so write it anew.
			if err := inv.writeParts(ctx, parts, stored{}); err != nil {
				return stored{}, err
			}
			cm.UID, cm.ResourceVersion, got = "", "", nil
		}
	}
	if got == nil && (err == nil || apierrors.IsNotFound(err)) {
		got, err = api.Create(ctx, cm, metav1.CreateOptions{FieldManager: inv.c.manager})
	}
	if err != nil {
		return stored{}, Classify(op, inv.ref(), err)
	}
	now := stored{string(got.UID), got.ResourceVersion, strings.Join(sortedKeys(parts), ",")}
	inv.tidy(ctx, at, now)
	return now, nil
}

// flushLoop writes down rebased entries, a moment after the first of them, and
// what is left when the cluster is closed.
func (inv *Inventory) flushLoop(ctx context.Context) {
	for {
		select {
		case <-inv.wake:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			inv.flush(last)
			return
		}
		delay := flushDelay
		for delay > 0 {
			timer := time.NewTimer(delay)
			select {
			case <-timer.C:
				delay = 0
				if !inv.flush(ctx) {
					delay = flushRetry
				}
			case <-ctx.Done():
				timer.Stop()
				delay = 0
			}
		}
	}
}

// flush writes if there is anything to write, and reports whether it succeeded.
func (inv *Inventory) flush(ctx context.Context) bool {
	inv.c.mu.Lock()
	dirty := inv.dirty
	inv.c.mu.Unlock()
	if !dirty || !inv.c.fence.acts(inv.key) {
		return true // nobody else's business, or somebody else acts here
	}
	err := inv.update(ctx, func() func() { return func() {} })
	if err != nil && ctx.Err() == nil {
		// Baselines that are not written down cost a comparison after a
		// restart, no more.
		inv.c.log.Warn("inventory not written", "environment", inv.key.environment, "error", err)
	}
	return err == nil || reconcile.KindOf(err) == reconcile.Stale
}

// About adds a resource to an error that does not name one.
func About(err error, id forge.ID) error { return aboutResource(err, id) }

// aboutResource adds the resource to an error that does not name one.
func aboutResource(err error, id forge.ID) error {
	var e *reconcile.Error
	if errors.As(err, &e) && e.ID == (forge.ID{}) {
		named := *e
		named.ID = id
		return &named
	}
	return err
}
