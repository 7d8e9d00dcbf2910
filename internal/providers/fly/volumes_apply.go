package fly

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// apply implements sight.
func (s *volumes) apply(ctx context.Context, step reconcile.Step) error {
	first, _, _ := strings.Cut(step.Token, " ")
	find := func(all []api.Volume) (api.Volume, bool) {
		i := slices.IndexFunc(all, func(v api.Volume) bool { return v.ID == first })
		if i < 0 {
			return api.Volume{}, false
		}
		return all[i], true
	}
	if v, ok := find(s.own); ok {
		if step.Action == reconcile.ActionDelete {
			return s.remove(ctx, v)
		}
		return s.extend(ctx, v)
	}
	if v, ok := find(s.free); ok {
		return s.adopt(ctx, v)
	}
	n, err := strconv.Atoi(first)
	if err != nil {
		return &reconcile.Error{Kind: reconcile.Internal, Op: "apply", Object: step.Object, Err: fmt.Errorf("a step without a number: %w", err)}
	}
	return s.create(ctx, n, step.Object)
}

// adopt writes down a volume that is there. An action that was interrupted may
// have made more than this one: that stays known until there are enough.
func (s *volumes) adopt(ctx context.Context, v api.Volume) error {
	next := s.next()
	s.forgetLost(&next, 1)
	next.Entries = append(next.Entries, Entry{Kind: entryVolume, Name: v.Name, Identity: v.ID})
	if s.claims(entryVolume, v.CreatedAt.Time) {
		next.Data[asked+v.ID] = strconv.Itoa(v.SizeGB)
	}
	if !s.intended(entryVolume).IsZero() && len(s.own)+1 < s.spec.Count {
		return s.Inventory.Begin(ctx, next)
	}
	delete(next.Data, intent+entryVolume)
	return s.Inventory.Commit(ctx, next)
}

// forgetLost takes so many volumes out of a record that somebody else has
// deleted: there are others in their place.
func (s *volumes) forgetLost(next *Record, n int) {
	for _, l := range s.lost[:min(n, len(s.lost))] {
		disown(next, l.id)
		delete(next.Data, asked+l.id)
	}
}

// create makes so many volumes.
func (s *volumes) create(ctx context.Context, n int, object string) error {
	const op = "create"
	if s.noApp {
		return s.appless(op, object)
	}
	if !s.intended(entryVolume).IsZero() {
		if err := s.settle(ctx, entryVolume); err != nil {
			return Classify(op, object, err)
		}
		now, err := s.again(ctx)
		if err != nil {
			return err
		}
		if len(now.free) > 0 || len(now.own) != len(s.own) {
			return &reconcile.Error{Kind: reconcile.Stale, Op: op, Object: object, Err: fmt.Errorf("what was interrupted has made some after all")}
		}
	}
	next := s.next()
	next.Entries = slices.DeleteFunc(next.Entries, func(e Entry) bool { return e.Kind == entryRemoved })
	intend(&next, entryVolume)
	if err := s.Inventory.Begin(ctx, next); err != nil {
		return err
	}
	s.Record = next.clone()
	for done := range n {
		v, err := s.client.CreateVolume(ctx, s.app, s.order())
		if api.KindOf(err) == api.Ambiguous {
			v, err = s.lookFor(ctx, next, err)
		}
		if err != nil {
			s.forgetLost(&next, done)
			return s.vain(ctx, next, entryVolume, Classify(op, object, err))
		}
		next.Entries = append(next.Entries, Entry{Kind: entryVolume, Name: v.Name, Identity: v.ID})
		next.Data[asked+v.ID] = strconv.Itoa(s.spec.SizeGB)
		bear(&next, v.ID)
	}
	s.forgetLost(&next, n)
	delete(next.Data, intent+entryVolume)
	return s.Inventory.Commit(ctx, next)
}

// order is what Fly is asked for: a disk on a host that has room for the
// machine too, and on another one than its like if there are several.
func (s *volumes) order() api.CreateVolume {
	order := api.CreateVolume{
		Name: s.spec.Name, Region: s.spec.Region, SizeGB: s.spec.SizeGB, Compute: guestOf(s.spec.Guest),
	}
	if apart := s.spec.Count > 1; apart {
		order.RequireUniqueZone = &apart
	}
	return order
}

func guestOf(g forge.Guest) *api.Guest {
	if g == (forge.Guest{}) {
		return nil
	}
	return &api.Guest{CPUKind: g.CPUKind, CPUs: g.CPUs, MemoryMB: g.MemoryMB}
}

// lookFor finds the volume that a request without an answer may have made.
func (s *volumes) lookFor(ctx context.Context, next Record, unanswered error) (api.Volume, error) {
	if Pause(ctx, lag) != nil {
		return api.Volume{}, unanswered
	}
	now, err := s.again(ctx)
	if err != nil {
		return api.Volume{}, unanswered
	}
	for _, v := range now.claimed() { // the first: whoever looks after us takes the same one
		if !slices.ContainsFunc(next.Entries, func(e Entry) bool { return e.Identity == v.ID }) &&
			!slices.ContainsFunc(s.free, func(f api.Volume) bool { return f.ID == v.ID }) {
			return v, nil
		}
	}
	return api.Volume{}, unanswered
}

// again lists the volumes once more.
func (s *volumes) again(ctx context.Context) (*volumes, error) {
	s.Org.Touch(s.topic())
	fresh, err := lookAtVolumes(ctx, s.within)
	if err != nil {
		return nil, err
	}
	return fresh.(*volumes), nil
}

// extend makes a volume larger.
func (s *volumes) extend(ctx context.Context, v api.Volume) error {
	next := s.next()
	next.Data[asked+v.ID] = strconv.Itoa(s.spec.SizeGB)
	if err := s.Inventory.Begin(ctx, next); err != nil {
		return err
	}
	if _, _, err := s.client.ExtendVolume(ctx, s.app, v.ID, s.spec.SizeGB); err != nil {
		return Classify("extend", volumeObject(v), err)
	}
	return s.Inventory.Commit(ctx, next)
}

// remove deletes a volume that no machine uses.
func (s *volumes) remove(ctx context.Context, v api.Volume) error {
	if err := s.client.DeleteVolume(ctx, s.app, v.ID); err != nil {
		return Classify("delete", volumeObject(v), err)
	}
	next := s.next()
	disown(&next, v.ID)
	delete(next.Data, asked+v.ID)
	if s.Request.Remove && !slices.ContainsFunc(next.Entries, func(e Entry) bool { return e.Kind == entryVolume }) && len(s.own) <= 1 {
		return s.Inventory.Drop(ctx, s.ID())
	}
	next.Entries = append(next.Entries, Entry{Kind: entryRemoved, Name: v.Name, Identity: v.ID}) // a listing shows it for a while
	return s.Inventory.Commit(ctx, next)
}
