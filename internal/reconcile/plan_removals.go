package reconcile

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

// orphans plans the removal of what is owned and not wanted.
func (s *survey) orphans(ctx context.Context) ([]Item, error) {
	out := s.takenDown(ctx)
	owned, err := s.engine.owned(ctx, s.env)
	if _, waits := waitingOf(err); err != nil && !waits {
		return s.inOrder(out), err
	}
	for _, r := range owned {
		_, wanted := s.env.graph.resources[r.ID]
		if err != nil && !s.knownAllTheSame(r) {
			continue // where it is, not all is known yet
		}
		if wanted || s.engine.providers[r.ID.Kind] == nil || r.ID.Environment != s.env.Name || !s.wants(r.ID) {
			continue
		}
		if item, there := s.removal(ctx, r); there {
			out = append(out, item)
		}
	}
	return s.inOrder(out), err
}

// knownAllTheSame tells of what is owned whether it is to be shown while what is to
// be made says nothing of what is in it: what was left in another place, and what
// is recorded at Fly, such as the cluster that the environment was in. Nothing is
// removed before all is known.
func (s *survey) knownAllTheSame(r forge.Resource) bool {
	_, _, _, left := r.ID.Home()
	return left || r.Target.Org != ""
}

// takenDown plans the removal of what forge.cue asks for and a person does not
// want any more. What is needed is looked at first: the way into a cluster may be
// an output of it.
func (s *survey) takenDown(ctx context.Context) (out []Item) {
	if !s.env.Down {
		return nil
	}
	for _, wave := range s.env.known.waves {
		s.each(wave, func(id forge.ID) {
			if !s.wants(id) {
				return
			}
			item, there := s.removal(ctx, s.env.known.resources[id])
			s.record(&item, nil)
			if there {
				s.mu.Lock()
				defer s.mu.Unlock()
				out = append(out, item)
			}
		})
	}
	return out
}

// inOrder sorts removals, each of which is there once: what is taken down in the
// order in which it goes, before that what only an inventory knows, by id.
func (s *survey) inOrder(items []Item) []Item {
	place := map[forge.ID]int{}
	if s.env.Down {
		for i, id := range s.env.known.order {
			place[id] = s.env.known.Len() - i
		}
	}
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(place[a.ID], place[b.ID]), strings.Compare(a.ID.String(), b.ID.String()))
	})
	return slices.CompactFunc(items, func(a, b Item) bool { return a.ID == b.ID })
}

// removal plans the removal of one resource; there is false when it is gone.
func (s *survey) removal(ctx context.Context, r forge.Resource) (item Item, there bool) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	e, p := s.engine, s.engine.providers[r.ID.Kind]
	item = Item{ID: r.ID, Remove: true, Needs: r.Needs}
	if _, namespace, _, left := r.ID.Home(); left {
		item.Left = &Place{r.Target.String(), namespace}
	}
	req := Request{Resource: r, Policy: s.env.Policy, Remove: true, Explain: true}
	obs, err := e.observe(ctx, p, req)
	if err == nil && r.Unread {
		err = Errorf(Unavailable, "list what was left in "+r.Target.String(), "it could not be read; there may be more than is shown")
	} else if err == nil && !obs.Exists || errors.Is(err, ErrGone) {
		return item, false
	}
	if err == nil {
		item.Exists, item.Objects = obs.Exists, obs.Objects
		item.Health = Health{Status: healthOf(obs), Message: obs.Health.Message}
		item.Steps, err = e.plan(ctx, p, req, obs)
	} else {
		item.Health.Status = Unknown
	}
	item.Error = s.inTheWay(err)
	switch {
	case !s.env.Policy.Prune:
		item.Kept = "policy.prune is none"
	case s.env.graph.Len() == 0 && !s.env.Down:
		item.Kept = emptyWish
	}
	return item, true
}

// inTheWay is why a removal cannot be planned. What waits for something that is
// not made any more has its reason there.
func (s *survey) inTheWay(err error) *ErrorStatus {
	if waiting, ok := waitingOf(err); ok {
		switch n := s.item(waiting.From); {
		case n == nil:
		case n.Error != nil:
			return n.Error
		case n.Health.Message != "":
			err = &Error{Kind: Unavailable, Op: "wait for " + waiting.From.String(), Err: errors.New(n.Health.Message), Hint: "run it again when that is over"}
		}
	}
	return errorStatus(err)
}
