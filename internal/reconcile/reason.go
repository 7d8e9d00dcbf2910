package reconcile

import (
	"strings"
	"time"
)

// ReasonCode is the bounded part of a reason; it labels metrics.
type ReasonCode string

// Reason codes.
const (
	ReasonAbsent      ReasonCode = "absent"           // never created
	ReasonConfig      ReasonCode = "config"           // forge.cue, a secret or the chart has changed
	ReasonEdited      ReasonCode = "edited"           // somebody changed fields we own
	ReasonDeleted     ReasonCode = "deleted"          // somebody deleted it
	ReasonReplaced    ReasonCode = "replaced"         // same name, another object
	ReasonOwnership   ReasonCode = "ownership"        // values as desired, ownership records lost
	ReasonForeign     ReasonCode = "foreign-revision" // another actor ran helm on the release
	ReasonInterrupted ReasonCode = "interrupted"      // an action of ours died half way
	ReasonRenewal     ReasonCode = "renewal"          // what runs out soon, a certificate for example, is made anew
	ReasonFailed      ReasonCode = "failed"           // what was rolled out last does not work
	ReasonUnwanted    ReasonCode = "unwanted"         // forge.cue no longer asks for it
)

// Reason says why a step is needed: who wrote what, when.
type Reason struct {
	Code   ReasonCode `json:"code"`
	Writer string     `json:"writer,omitempty"` // field manager, e.g. kubectl-edit
	At     time.Time  `json:"at,omitzero"`      // when the writer wrote, second resolution
	Paths  []string   `json:"paths,omitempty"`  // fields, e.g. spec.replicas
	Text   string     `json:"text,omitempty"`   // whatever else a person should know
}

// String is the reason in one line.
func (r Reason) String() string {
	var b strings.Builder
	b.WriteString(string(r.Code))
	if r.Writer != "" {
		b.WriteString(" by " + r.Writer)
	}
	if !r.At.IsZero() {
		b.WriteString(" at " + r.At.UTC().Format("15:04:05"))
	}
	if len(r.Paths) > 0 {
		const most = 3
		shown := r.Paths[:min(most, len(r.Paths))]
		b.WriteString(": " + strings.Join(shown, ", "))
		if len(r.Paths) > most {
			b.WriteString(", …")
		}
	}
	if r.Text != "" {
		b.WriteString(" (" + r.Text + ")")
	}
	return b.String()
}
