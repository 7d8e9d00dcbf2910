package fly

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Marks in the metadata of machines that forged makes.
const (
	MarkInstance    = "forged.dev/instance"
	MarkEnvironment = "forged.dev/environment"
	MarkKind        = "forged.dev/kind"

	kindInventory = "inventory"
)

const (
	inventoryPath  = "/forged/inventory.json.gz"
	inventoryImage = "docker.io/library/hello-world:linux" // of a few kilobytes; it never runs
	documentFormat = 1
	mostDocument   = 32 << 20 // unpacked
)

// stored is where the inventory is, as it was seen last.
type stored struct {
	machine string // id; empty: there is none
	version string // instance id
	write   string // which write it holds
	busy    bool   // the machine was still taking it in: it refuses another one
	gone    bool   // it was there, and is not any more
}

// document is the inventory as it is stored.
type document struct {
	Format      int      `json:"format"`
	Instance    string   `json:"instance"`
	Environment string   `json:"environment"`
	Write       string   `json:"write"`   // another one each time: it tells whose write came through
	HashKey     []byte   `json:"hashKey"` // see Inventory.HashKey
	Records     []Record `json:"records"`
}

// machineName is unique within the app: Fly makes no second one of this name,
// whoever asks, and after an answer that was lost.
func (i *Inventory) machineName() string { return "inventory-" + i.key.environment }

func (i *Inventory) encode(d document) (string, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	err := json.NewEncoder(z).Encode(d)
	if err == nil {
		err = z.Close()
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), err
}

// decode reads a document out of a machine, and refuses one that is not ours.
func (i *Inventory) decode(m api.Machine) (document, error) {
	d, err := i.unpack(m)
	if err == nil && (d.Instance != i.org.Instance() || d.Environment != i.key.environment) {
		return d, i.foreign(d.Instance, d.Environment)
	}
	return d, err
}

func (i *Inventory) unpack(m api.Machine) (document, error) {
	var d document
	broken := func(err error) (document, error) {
		return d, &reconcile.Error{
			Kind: reconcile.Internal, Op: "read", Object: i.object(), Err: err,
			Hint: "machine " + m.ID + " holds it; if somebody has changed it by hand, destroy it: what is there is adopted anew",
		}
	}
	if m.Config == nil {
		return d, &reconcile.Error{
			Kind: reconcile.Unavailable, Op: "read", Object: i.object(),
			Err:  fmt.Errorf("the host of machine %s cannot be reached (%s)", m.ID, cmp.Or(m.HostStatus, "unknown")),
			Hint: "nothing is changed until it is back; if it never comes back, destroy the machine: what is there is adopted anew",
		}
	}
	at := slices.IndexFunc(m.Config.Files, func(f api.File) bool { return f.GuestPath == inventoryPath })
	if at < 0 {
		return broken(errors.New("its file is missing"))
	}
	packed, err := base64.StdEncoding.DecodeString(deref(m.Config.Files[at].RawValue))
	if err != nil {
		return broken(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return broken(err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, mostDocument))
	if err != nil {
		return broken(err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return broken(err)
	}
	if d.Format != documentFormat {
		return d, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "read", Object: i.object(),
			Err: fmt.Errorf("it is of format %d", d.Format), Hint: "a newer forged has written it: use that one",
		}
	}
	return d, nil
}

// foreign is the refusal to use what belongs to another one.
func (i *Inventory) foreign(instance, environment string) error {
	return &reconcile.Error{
		Kind: reconcile.Conflict, Op: "use", Object: i.object(),
		Err:  fmt.Errorf("it belongs to the environment %s of another forged, %s", environment, instance),
		Hint: "name another app in platform.inventory",
	}
}

// load reads what is stored. The caller has the turn.
func (i *Inventory) load(ctx context.Context) error {
	m, err := i.find(ctx)
	if err != nil {
		return err
	}
	if m == nil {
		// Whatever was known of it is kept: it is written anew from memory.
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.at.machine != "" {
			i.at.gone = true
			i.log.WarnContext(ctx, "the inventory is gone; it is written anew", "environment", i.key.environment, "app", i.key.app)
		}
		i.at.machine, i.at.version, i.stale = "", "", false
		return nil
	}
	d, err := i.decode(*m)
	if err != nil {
		return err
	}
	i.take(*m, d)
	return nil
}

// take takes what is stored for the truth.
func (i *Inventory) take(m api.Machine, d document) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.records = map[forge.ID]Record{}
	for _, r := range d.Records {
		i.records[r.ID] = r
	}
	i.hashKey = d.HashKey
	i.at = stored{machine: m.ID, version: m.InstanceID, write: d.Write, busy: m.State == api.StateReplacing || m.State == api.StateUpdating}
	i.stale = false
}

// find looks for the machine of the inventory; nil: there is none.
func (i *Inventory) find(ctx context.Context) (*api.Machine, error) {
	c := i.org.Client()
	i.mu.Lock()
	known := i.at.machine
	i.mu.Unlock()
	if known != "" {
		m, err := c.Machine(ctx, i.key.app, known)
		switch k := api.KindOf(err); {
		case err == nil && !over(m):
			return &m, nil
		case err != nil && k != api.NotFound && k != api.Gone:
			return nil, i.denied("read", err)
		}
	}
	all, err := c.Machines(ctx, i.key.app, api.MachinesQuery{})
	if k := api.KindOf(err); k == api.NotFound || k == api.Gone {
		return nil, nil
	}
	if err != nil {
		return nil, i.denied("read", err)
	}
	return i.pick(all)
}

// over tells of a machine that is not there any more.
func over(m api.Machine) bool {
	return m.State == api.StateDestroyed || m.State == api.StateDestroying
}

// pick finds the machine of the inventory among those of its app, and refuses
// an app that is something else.
func (i *Inventory) pick(all []api.Machine) (*api.Machine, error) {
	for n := range all {
		m := &all[n]
		if over(*m) || m.Name != i.machineName() {
			continue
		}
		marks := marksOf(*m)
		if marks[MarkKind] == kindInventory && (marks[MarkInstance] != i.org.Instance() || marks[MarkEnvironment] != i.key.environment) {
			return nil, i.foreign(marks[MarkInstance], marks[MarkEnvironment])
		}
		return m, nil
	}
	for n := range all {
		switch m := all[n]; {
		case over(m):
		case marksOf(m)[MarkKind] != kindInventory:
			return nil, &reconcile.Error{
				Kind: reconcile.Conflict, Op: "use", Object: i.object(),
				Err:  fmt.Errorf("machine %s runs in this app, and forged did not make it", cmp.Or(m.Name, m.ID)),
				Hint: "name an app in platform.inventory that nobody has; forged makes it",
			}
		case marksOf(m)[MarkInstance] != i.org.Instance():
			return nil, i.foreign(marksOf(m)[MarkInstance], marksOf(m)[MarkEnvironment])
		}
	}
	return nil, nil
}

// marksOf are the metadata of a machine, whether its host answers or not.
func marksOf(m api.Machine) map[string]string {
	switch {
	case m.Config != nil:
		return m.Config.Metadata
	case m.Incomplete != nil:
		return m.Incomplete.Metadata
	default:
		return nil
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// denied says whose the app is that cannot be used.
func (i *Inventory) denied(op string, err error) error {
	if k := api.KindOf(err); k != api.Denied && k != api.Taken {
		return Classify(op, i.object(), err)
	}
	return &reconcile.Error{
		Kind: reconcile.Denied, Op: op, Object: i.object(), Err: err,
		Hint: "the app " + i.key.app + " is in another organization, or the token does not cover " + i.org.Slug() +
			", or may only read it: name another app in platform.inventory, or give a token of fly tokens create org",
	}
}

// config is the machine that holds a document. It never runs: it has no
// services, and what could start it finds nothing to do.
func (i *Inventory) config(d document) (*api.MachineConfig, error) {
	packed, err := i.encode(d)
	if err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "write", Object: i.object(), Err: err}
	}
	return &api.MachineConfig{
		Image:    inventoryImage,
		Guest:    &api.Guest{CPUKind: "shared", CPUs: 1, MemoryMB: 256},
		Restart:  &api.Restart{Policy: "no"},
		Metadata: map[string]string{MarkInstance: i.org.Instance(), MarkEnvironment: i.key.environment, MarkKind: kindInventory},
		Files:    []api.File{{GuestPath: inventoryPath, RawValue: &packed}},
	}, nil
}

// document is what the inventory is to hold. The caller holds mu.
func (i *Inventory) document(records map[forge.ID]Record) document {
	if i.hashKey == nil {
		i.hashKey = random(32)
	}
	d := document{
		Format: documentFormat, Instance: i.org.Instance(), Environment: i.key.environment,
		Write: fmt.Sprintf("%x", random(8)), HashKey: i.hashKey, Records: make([]Record, 0, len(records)),
	}
	for _, r := range records {
		d.Records = append(d.Records, r)
	}
	slices.SortFunc(d.Records, func(a, b Record) int { return a.ID.Compare(b.ID) })
	return d
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

// reserved refuses names that Fly Kubernetes gives to its own apps.
func reserved(name string) error {
	if !strings.HasPrefix(name, "fks-") {
		return nil
	}
	return &reconcile.Error{
		Kind: reconcile.Invalid, Op: "use", Object: "app " + name,
		Err: errors.New("apps of this name belong to Fly Kubernetes, and are never touched"), Hint: "choose another name",
	}
}
