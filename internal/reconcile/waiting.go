package reconcile

import "errors"

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
