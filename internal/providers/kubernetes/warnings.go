package kubernetes

import (
	"context"
	"sync"

	"forged.dev/forged/internal/forge"
)

// mostWarnings bounds what is remembered of warnings.
const mostWarnings = 1000

// warnings tells what an API server warns of in its answers, each once: that
// pods of a template would be refused, that a version is on its way out. It is a
// rest.WarningHandlerWithContext.
type warnings struct {
	c *Cluster

	mu   sync.Mutex
	told map[warning]struct{}
}

type warning struct {
	subject
	text string
}

// subject is what a request is about. It travels in the request's context.
type subject struct {
	ref   Ref
	owner forge.ID
}

type subjectKey struct{}

// concerning says what the requests under a context are about.
func concerning(ctx context.Context, ref Ref, owner forge.ID) context.Context {
	return context.WithValue(ctx, subjectKey{}, subject{ref, owner})
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *warnings) HandleWarningHeaderWithContext(ctx context.Context, code int, _, text string) {
	const miscellaneous = 299 // the one that an API server sends
	if code != miscellaneous || text == "" {
		return
	}
	about, _ := ctx.Value(subjectKey{}).(subject)
	if about.ref.isSecret() {
		text = "its words are left out, since they may quote the secret"
	}
	it := warning{about, guarded(text)}
	w.mu.Lock()
	_, known := w.told[it]
	if !known {
		if len(w.told) >= mostWarnings {
			clear(w.told)
		}
		w.told[it] = struct{}{}
	}
	w.mu.Unlock()
	if known {
		return
	}
	log := w.c.log
	if about.owner != (forge.ID{}) {
		log = log.With("environment", about.owner.Environment, "resource", about.owner.String())
	}
	if about.ref != (Ref{}) {
		log = log.With("object", about.ref.String())
	}
	log.WarnContext(ctx, "the API server warns", "warning", it.text)
}
