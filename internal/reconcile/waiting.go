package reconcile

import (
	"context"
	"errors"
	"slices"

	"forged.dev/forged/internal/forge"
)

// lookAgain has a resource looked at again for one that waits for an output of
// it: what it gives may come of what was made since the last look, and nothing
// tells of that. It does so once for each time that all that is needed has come to
// be ready, so that nobody polls. The caller holds mu.
func (e *Engine) lookAgain(j *job, err error) {
	var waits *Error
	if !errors.As(err, &waits) || waits.Kind != Waiting {
		return
	}
	if from := e.units[waits.From]; from != nil && from.ready && j.request.Settled.After(from.lookBegan) {
		e.enqueue(from)
	}
}

// lookAgain is the same for a plan: it tells whether the output is there now. What
// is still to be done to the resource that gives it comes first.
func (s *survey) lookAgain(ctx context.Context, r forge.Resource, waits *Error) bool {
	from, there := s.env.graph.resources[waits.From]
	n := s.item(waits.From)
	if !there || n == nil || n.Error != nil || n.Waiting != "" || len(n.Steps) > 0 || !slices.Contains(r.Needs, waits.From) {
		return false
	}
	req := Request{Resource: from, Policy: s.env.Policy, Inputs: s.inputs(from), Explain: true}
	obs, err := s.engine.observe(ctx, s.engine.providers[from.ID.Kind], req)
	if _, known := obs.Outputs[waits.Output]; err != nil || !known {
		return false
	}
	s.record(n, obs.Outputs)
	return true
}
