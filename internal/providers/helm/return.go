package helm

import (
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/release"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// PlanReturn is the step that takes a release back to an earlier revision of
// ours because a person says so; number 0 is the one before what runs. As a
// revision that forged goes back to by itself it comes from Helm's record, with
// the hooks of a rollback. What is asked for is not looked at: it is rolled out
// again by the next rollout.
func (p *Provider) PlanReturn(ctx context.Context, r forge.Resource, policy forge.Policy, number int) (reconcile.Step, int, error) {
	s, err := p.lookBack(ctx, r, policy)
	if err != nil {
		return reconcile.Step{}, 0, err
	}
	if number, err = s.earlier(number); err != nil {
		return reconcile.Step{}, 0, err
	}
	s.back = number
	step := reconcile.Step{
		ID: s.h.id, Action: reconcile.ActionUpdate, Object: s.object(), Token: s.token(deedReturn),
		Reason: reconcile.Reason{
			Code: reconcile.ReasonConfig,
			Text: fmt.Sprintf("a person goes back from revision %d to revision %d", s.newest.number, number),
		},
	}
	_, err = p.planChanges(ctx, s, decision{state: stateInSync, deed: deedReturn}, &step)
	return step, number, err
}

// Return carries out what PlanReturn has planned.
func (p *Provider) Return(ctx context.Context, r forge.Resource, policy forge.Policy, step reconcile.Step, number int) error {
	s, err := p.lookBack(ctx, r, policy)
	if err != nil {
		return err
	}
	s.h.acting.Lock()
	defer s.h.acting.Unlock()
	if s.revs, err = s.h.store.certain(ctx, s.h.release); err != nil {
		return err
	}
	s.newest, s.exists = newestOf(s.revs)
	if step.Token != s.token(deedReturn) {
		return s.stale(step)
	}
	s.back = number
	return p.roll(ctx, s, s.h.journal(ctx, s.revs), step)
}

func (p *Provider) lookBack(ctx context.Context, r forge.Resource, policy forge.Policy) (*seen, error) {
	h, err := p.open(ctx, reconcile.Request{Resource: r, Policy: policy, Explain: true})
	if err != nil {
		return nil, err
	}
	s := &seen{h: h}
	s.read()
	if s.revs, err = h.store.listed(ctx, h.release); err != nil {
		return nil, err
	}
	s.newest, s.exists = newestOf(s.revs)
	return s, nil
}

// earlier is the revision to go back to, if that can be done.
func (s *seen) earlier(number int) (int, error) {
	refuse := func(format string, args ...any) error {
		return &reconcile.Error{
			Kind: reconcile.Invalid, ID: s.h.id, Object: s.object(), Op: "take back",
			Err: fmt.Errorf(format, args...), Hint: "forged history shows the revisions",
		}
	}
	switch {
	case !s.exists:
		return 0, refuse("it is not installed")
	case !s.settled():
		return 0, refuse("revision %d is %s, and is not what forged has applied last; bring that to its end first: forged apply", s.newest.number, s.newest.status)
	}
	var earlier []int
	for _, r := range s.revs {
		if r.ours && r.number < s.newest.number && r.status == release.StatusSuperseded {
			earlier = append(earlier, r.number)
		}
	}
	switch {
	case number == s.newest.number:
		return 0, refuse("revision %d is what runs", number)
	case number == 0 && len(earlier) == 0:
		return 0, refuse("there is no earlier revision")
	case number == 0:
		return slices.Max(earlier), nil
	case !slices.Contains(earlier, number):
		return 0, refuse("revision %d is none that forged has rolled out to its end", number)
	}
	return number, nil
}
