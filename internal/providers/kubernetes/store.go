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

	formatVersion = 1
	maxInventory  = 1 << 20 // bytes, unpacked as well; the API server takes no more packed

	flushDelay   = 2 * time.Second  // heals within it share one write
	flushRetry   = 15 * time.Second // after a failed write
	flushTimeout = 5 * time.Second  // of the last write, while closing
)

// stored is the identity of the ConfigMap as read or written last; zero if
// there is none.
type stored struct{ uid, rv string }

type document struct {
	Version     int      `json:"version"`
	Instance    string   `json:"instance"`
	ClusterUID  string   `json:"clusterUID"`
	Environment string   `json:"environment"`
	Records     []Record `json:"records"`
}

func (inv *Inventory) name() string { return "forged-inventory-" + inv.key.environment }

func (inv *Inventory) ref() Ref {
	return Ref{GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Namespace: inv.key.namespace, Name: inv.name()}
}

// load reads the ConfigMap.
func (inv *Inventory) load(ctx context.Context) (map[forge.ID]Record, stored, error) {
	const op = "read inventory"
	ctx, cancel := bound(ctx)
	defer cancel()
	cm, err := inv.c.client.CoreV1().ConfigMaps(inv.key.namespace).Get(ctx, inv.name(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return map[forge.ID]Record{}, stored{}, nil
	}
	if err != nil {
		return nil, stored{}, Classify(op, inv.ref(), err)
	}
	doc, err := decode(cm.BinaryData[inventoryKeyGZ])
	if err != nil {
		return nil, stored{}, &reconcile.Error{
			Kind: reconcile.Invalid, Op: op, Object: inv.ref().String(), Err: err,
			Hint: "put it back from a backup, or delete it to let forged take its objects over anew",
		}
	}
	if err := inv.check(doc); err != nil {
		return nil, stored{}, err
	}
	records := make(map[forge.ID]Record, len(doc.Records))
	for _, r := range doc.Records {
		records[r.ID] = r
	}
	return records, stored{string(cm.UID), cm.ResourceVersion}, nil
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
	default:
		return nil
	}
	return e
}

func encode(doc document) ([]byte, error) {
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

func decode(packed []byte) (document, error) {
	var doc document
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return doc, fmt.Errorf("it is damaged: %w", err)
	}
	const most = 64 * maxInventory // a bomb is refused, a large inventory is not
	raw, err := io.ReadAll(io.LimitReader(z, most+1))
	if err != nil {
		return doc, fmt.Errorf("it is damaged: %w", err)
	}
	if len(raw) > most {
		return doc, errors.New("it is damaged: too large")
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("it is damaged: %w", err)
	}
	if doc.Version != formatVersion {
		return doc, fmt.Errorf("it has format version %d, this forged knows %d", doc.Version, formatVersion)
	}
	return doc, nil
}

// document is the inventory as it is to be written. The caller holds c.mu.
func (inv *Inventory) document() document {
	doc := document{
		Version: formatVersion, Instance: inv.c.instance,
		ClusterUID: inv.c.uid, Environment: inv.key.environment,
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
	c.mu.Lock()
	undo := change()
	doc, at := inv.document(), inv.stored
	inv.dirty = false
	c.mu.Unlock()

	written, err := inv.put(ctx, doc, at)
	if err == nil {
		c.mu.Lock()
		inv.stored = written
		c.mu.Unlock()
		return nil
	}
	c.mu.Lock()
	undo()
	inv.dirty = true
	c.mu.Unlock()
	if reconcile.KindOf(err) == reconcile.Stale {
		// Somebody else wrote it: theirs is what counts now.
		records, at, loadErr := inv.load(ctx)
		if loadErr != nil {
			return loadErr
		}
		c.mu.Lock()
		inv.adopt(records, at)
		c.mu.Unlock()
	}
	return err
}

// put writes the document over the one read or written last, and over no other.
func (inv *Inventory) put(ctx context.Context, doc document, at stored) (stored, error) {
	const op = "write inventory"
	ctx, cancel := bound(ctx)
	defer cancel()
	api := inv.c.client.CoreV1().ConfigMaps(inv.key.namespace)
	if len(doc.Records) == 0 {
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
		return stored{}, Classify(op, inv.ref(), err)
	}
	packed, err := encode(doc)
	if err != nil {
		return stored{}, &reconcile.Error{Kind: reconcile.Internal, Op: op, Object: inv.ref().String(), Err: err}
	}
	if len(packed) > maxInventory-4096 {
		return stored{}, &reconcile.Error{
			Kind: reconcile.Invalid, Op: op, Object: inv.ref().String(),
			Err:  fmt.Errorf("it would take %d bytes, and the API server takes %d", len(packed), maxInventory),
			Hint: "divide the environment",
		}
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: inv.name(), Namespace: inv.key.namespace,
			Labels: map[string]string{
				"app.kubernetes.io/managed-by": "forged",
				labelInventory:                 inv.c.instance,
			},
			UID: types.UID(at.uid), ResourceVersion: at.rv,
		},
		BinaryData: map[string][]byte{inventoryKeyGZ: packed},
	}
	if at != (stored{}) {
		got, err := api.Update(ctx, cm, metav1.UpdateOptions{FieldManager: inv.c.manager})
		if err == nil {
			return stored{string(got.UID), got.ResourceVersion}, nil
		}
		if !apierrors.IsNotFound(err) {
			return stored{}, Classify(op, inv.ref(), err)
		}
		// It was deleted, perhaps with its namespace. What we know of what we
		// own is in memory, so write it anew.
		cm.UID, cm.ResourceVersion = "", ""
	}
	got, err := api.Create(ctx, cm, metav1.CreateOptions{FieldManager: inv.c.manager})
	if err != nil {
		return stored{}, Classify(op, inv.ref(), err)
	}
	return stored{string(got.UID), got.ResourceVersion}, nil
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
	if !dirty {
		return true
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
