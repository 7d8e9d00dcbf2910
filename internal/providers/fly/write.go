package fly

import (
	"context"
	"errors"
	"maps"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// batch are changes that are written together: a machine takes an update every
// few seconds, and there are many resources.
type batch struct {
	edits []*edit
	done  chan struct{}
	err   error
}

// edit is one of them. It may be refused, and then changes nothing.
type edit struct {
	ctx    context.Context // of the action that it is a part of
	change func(map[forge.ID]Record) error
	err    error
}

const writeAttempts = 6

// settling is how long a machine may take to take in an update: about four
// seconds, as measured by users of the API. Until then it refuses the next one.
const settling = 20 * time.Second

// update changes what is stored, together with what others change meanwhile. It
// holds when it returns without an error; after one it is not known whether it
// was written, and writing it again does no harm.
func (i *Inventory) update(ctx context.Context, change func(map[forge.ID]Record) error) error {
	if err := ctx.Err(); err != nil {
		return Classify("write", i.object(), err)
	}
	i.mu.Lock()
	b := i.next
	if b == nil {
		b = &batch{done: make(chan struct{})}
		i.next = b
	}
	e := &edit{ctx: ctx, change: change}
	b.edits = append(b.edits, e)
	if !i.writing {
		if !i.org.accounts.start(i.writeBatches) {
			i.next = nil
			i.mu.Unlock()
			return &reconcile.Error{Kind: reconcile.Unavailable, Op: "write", Object: i.object(), Err: errors.New("shutting down")}
		}
		i.writing = true
	}
	i.mu.Unlock()
	select {
	case <-b.done:
		if b.err != nil {
			return b.err
		}
		return e.err
	case <-ctx.Done():
		return Classify("write", i.object(), ctx.Err())
	}
}

// writeBatches writes until nothing is left to be written. Who is told that his
// batch is written finds nobody at work any more.
func (i *Inventory) writeBatches(ctx context.Context) {
	for more := true; more; {
		i.settle(ctx)
		i.mu.Lock()
		b := i.next
		i.next = nil
		i.mu.Unlock()
		b.err = i.writeBatch(ctx, b)
		i.mu.Lock()
		more = i.next != nil
		i.writing = more
		i.mu.Unlock()
		close(b.done)
	}
}

// settle waits until the machine has taken in the update before, if there is
// something to be written: what comes meanwhile is written together. Whether it
// has done so is told by the next update itself.
func (i *Inventory) settle(ctx context.Context) {
	i.mu.Lock()
	at, wanted := i.at, i.next != nil
	i.mu.Unlock()
	if !wanted || !at.busy || at.machine == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, _ = i.org.Client().Wait(ctx, i.key.app, at.machine, api.WaitFor{States: []string{"settled"}, Version: at.version, Timeout: settling})
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.at.version == at.version {
		i.at.busy = false
	}
}

func (i *Inventory) writeBatch(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := i.lock(ctx); err != nil {
		return err
	}
	defer i.unlock()
	var err error
	for attempt := range writeAttempts {
		if attempt > 0 {
			if Pause(ctx, time.Second) != nil {
				return err
			}
		}
		var again bool
		if again, err = i.writeOnce(ctx, b); err == nil || !again {
			return err
		}
	}
	return err
}

// writeOnce applies the changes of a batch to what is stored now. again: it was
// not written because something has moved, and may be next time.
func (i *Inventory) writeOnce(ctx context.Context, b *batch) (again bool, err error) {
	if err := i.org.accounts.fence.check(i.org.Acting(ctx, i.key.environment)); err != nil {
		return false, err
	}
	i.mu.Lock()
	stale := i.stale
	i.mu.Unlock()
	if stale {
		if err := i.load(ctx); err != nil {
			return false, err
		}
	}
	// Fly refuses the write if the lease is another one by then.
	nonce := i.org.nonce(i.key.environment)
	for _, e := range b.edits {
		e.err = i.org.accounts.fence.check(e.ctx)
	}
	i.mu.Lock()
	at := i.at
	records := maps.Clone(i.records)
	for _, e := range b.edits {
		if e.err == nil {
			e.err = e.change(records)
		}
	}
	known := stale && at.machine != "" && maps.EqualFunc(records, i.records, sameRecord)
	d := i.document(records)
	i.mu.Unlock()
	if known {
		return false, nil // it was in doubt, no more
	}
	if at.machine == "" {
		err = i.create(ctx, d)
		return api.KindOf(err) == api.Taken || api.KindOf(err) == api.NotFound, i.denied("write", err)
	}
	config, err := i.config(d)
	if err != nil {
		return false, err
	}
	if at.busy {
		// Whether that comes is told by the update itself.
		_, _ = i.org.Client().Wait(ctx, i.key.app, at.machine, api.WaitFor{States: []string{"settled"}, Version: at.version, Timeout: settling})
	}
	m, err := i.org.Client().UpdateMachine(ctx, i.key.app, at.machine, api.UpdateMachine{
		CreateMachine: api.CreateMachine{Config: *config, SkipLaunch: true}, CurrentVersion: at.version,
		Nonce: nonce,
	})
	if err == nil {
		i.take(m, d)
		return false, nil
	}
	switch api.KindOf(err) {
	case api.Leased, api.NoLease:
		i.org.loseLease(i.key.environment)
		return false, &reconcile.Error{
			Kind: reconcile.Unavailable, Op: "write", Object: i.object(), Err: err,
			Hint: "another forged acts on this environment, or has done so meanwhile; see forged status",
		}
	case api.Conflict, api.Precondition, api.NotYet, api.Ambiguous, api.Unavailable, api.NotFound, api.Gone:
	default:
		return false, i.denied("write", err)
	}
	// What is stored decides: the write that has no answer may have come
	// through, and another one may have come before it.
	if failed := i.load(ctx); failed != nil {
		return false, failed
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.at.write == d.Write {
		return false, nil
	}
	return true, i.denied("write", err)
}

// ensure makes the machine of the inventory if there is none, and says which it
// is. What is known of the inventory is written into a new one.
func (i *Inventory) ensure(ctx context.Context) (machine string, err error) {
	i.mu.Lock()
	machine, stale := i.at.machine, i.stale
	i.mu.Unlock()
	if machine != "" && !stale {
		return machine, nil
	}
	if err := i.lock(ctx); err != nil {
		return "", err
	}
	defer i.unlock()
	for range writeAttempts {
		if err = i.load(ctx); err != nil {
			return "", err
		}
		i.mu.Lock()
		machine = i.at.machine
		d := i.document(i.records)
		i.mu.Unlock()
		if machine != "" {
			return machine, nil
		}
		err = i.create(ctx, d)
		if k := api.KindOf(err); err != nil && k != api.Taken && k != api.NotFound {
			return "", i.denied("make", err)
		}
		if err != nil && Pause(ctx, time.Second) != nil {
			break
		}
	}
	return "", i.denied("make", err)
}

// create makes the machine with a document in it, and the app where that is
// missing. Taken: the machine is there, made by somebody else or by a request
// whose answer was lost. The caller has the turn.
func (i *Inventory) create(ctx context.Context, d document) error {
	if err := reserved(i.key.app); err != nil {
		return err
	}
	c := i.org.Client()
	app, err := c.App(ctx, i.key.app)
	switch {
	case api.KindOf(err) == api.NotFound:
		_, err = c.CreateApp(ctx, api.CreateApp{Name: i.key.app, Org: i.org.Slug()})
		if k := api.KindOf(err); k == api.Ambiguous || k == api.Taken {
			_, err = c.App(ctx, i.key.app) // ours, or somebody else's: that says which
		}
		if err != nil {
			return err
		}
	case err != nil:
		return err
	case app.Organization.Slug != "" && !i.org.is(app.Organization.Slug):
		return &reconcile.Error{
			Kind: reconcile.Denied, Op: "use", Object: i.object(),
			Err:  errors.New("the app is in the organization " + app.Organization.Slug),
			Hint: "name another app in platform.inventory",
		}
	}
	config, err := i.config(d)
	if err != nil {
		return err
	}
	m, err := c.CreateMachine(ctx, i.key.app, api.CreateMachine{Name: i.machineName(), Config: *config, SkipLaunch: true})
	if api.KindOf(err) == api.Ambiguous || api.KindOf(err) == api.Taken {
		i.mu.Lock()
		i.at.machine = ""
		i.mu.Unlock()
		found, failed := i.find(ctx)
		if failed != nil {
			return failed
		}
		if found == nil {
			return err
		}
		stored, failed := i.decode(*found)
		if failed != nil {
			return failed
		}
		i.take(*found, stored)
		if stored.Write == d.Write {
			return nil
		}
		return &api.Error{Kind: api.Taken, Action: "machine.create", Text: "the inventory is there already"}
	}
	if err != nil {
		return err
	}
	i.take(m, d)
	return nil
}
