package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
)

// notice logs what was not known before.
func (e *Engine) notice(j *job, before, now []Notice) {
	for _, n := range now {
		if !slices.Contains(before, n) {
			e.log.Info("notice", "environment", j.id.Environment, "resource", j.id.String(),
				"code", n.Code, "object", n.Object, "message", n.Message)
		}
	}
}

// warn logs that a resource has come to need somebody. Errors are logged where
// they are counted.
func (e *Engine) warn(j *job, out *outcome, s *ResourceStatus) {
	switch {
	case s.State == StateBlocked:
		for _, step := range s.Steps {
			if step.Blocked != "" {
				e.log.Warn("blocked", "environment", j.id.Environment, "resource", j.id.String(),
					"action", string(step.Action), "object", step.Object, "why", step.Blocked)
			}
		}
	case s.State == StateFailed && out.err == nil:
		e.log.Warn("failed", "environment", j.id.Environment, "resource", j.id.String(), "message", s.Message)
	}
}

// behindConfig says of steps that are held back that all of them are changes of
// what is asked for, and none of what others have done; empty: it is not so.
func behindConfig(hs []held) string {
	if slices.ContainsFunc(hs, func(h held) bool { return !h.step.Rollout() }) {
		return ""
	}
	return "not drift: what forge.cue asks for has changed; " + hs[0].why
}

// complain logs a failure, once for as long as it stays the same.
func (e *Engine) complain(j *job, err error) {
	kind, level, hint := KindOf(err), slog.LevelWarn, ""
	if kind == Invalid || kind == Internal {
		level = slog.LevelError
	}
	var typed *Error
	if errors.As(err, &typed) {
		hint = typed.Hint
	}
	text := err.Error()
	if hint != "" {
		text = strings.TrimSuffix(text, " ("+hint+")") // once is enough
	}
	e.log.Log(context.Background(), level, "failed", "environment", j.id.Environment,
		"resource", j.id.String(), "kind", string(kind), "error", text, "hint", hint)
}
