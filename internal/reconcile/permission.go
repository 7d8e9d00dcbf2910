package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// destroyWithToken is the value of policy.destroyData that lets data be
// destroyed, step by step.
const destroyWithToken = "with-token"

// permit is the token that allows one step to destroy what it names. It is
// made of what the step was planned on, so that it is good for this once: when
// anything has moved since, or the step has been done, another one is needed.
func permit(s Step) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00", s.ID, s.Action, s.Object, s.Token)
	for _, what := range s.Destroys {
		fmt.Fprintf(h, "%s\x00", what)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// guard blocks a step that would destroy what it names without permission, and
// names the token that gives it, if there is one.
func (s *Step) guard(p forge.Policy, approved func(token string) bool) {
	if s.Blocked != "" || len(s.Destroys) == 0 {
		return
	}
	s.Blocked = "this destroys data: " + strings.Join(s.Destroys, ", ")
	if p.DestroyData != destroyWithToken {
		s.Blocked += `; policy.destroyData is "never"`
		return
	}
	token := permit(*s)
	if approved(token) {
		s.Blocked = ""
		return
	}
	s.Approve = token
	s.Blocked += fmt.Sprintf("; if that is meant, say so: forged approve %s, or forged run --once --approve %s", token, token)
}

// Approve allows the step with this token to destroy the data that it names,
// once. It is an error when no step waits for it.
func (e *Engine) Approve(token string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range sortedKeys(e.units) {
		u := e.units[id]
		for _, t := range u.permits {
			if t == token {
				e.approved[token] = true
				u.notBefore = time.Time{}
				e.enqueue(u)
				return nil
			}
		}
	}
	return &Error{
		Kind: Invalid, Op: "approve", Err: fmt.Errorf("no step waits for the token %q", token),
		Hint: "a token is good for what was planned when it was shown: forged plan shows the present one",
	}
}

func (e *Engine) isApproved(token string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.approved[token]
}
