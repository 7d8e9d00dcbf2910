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

// forbidden says why a step must not destroy what it names; empty: it may, or
// it destroys nothing.
func forbidden(p forge.Policy, s Step, approved func(token string) bool) string {
	if len(s.Destroys) == 0 {
		return ""
	}
	lost := "this destroys data: " + strings.Join(s.Destroys, ", ")
	if p.DestroyData != destroyWithToken {
		return lost + `; policy.destroyData is "never"`
	}
	token := permit(s)
	if approved(token) {
		return ""
	}
	return fmt.Sprintf("%s; if that is meant, say so: forged approve %s, or forged run --once --approve %s", lost, token, token)
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
