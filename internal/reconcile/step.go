package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"
)

// String is the step in one line, without its values.
func (s Step) String() string {
	var b strings.Builder
	b.WriteString(string(s.Action))
	b.WriteByte(' ')
	b.WriteString(s.subject())
	if r := s.Reason.String(); r != "" {
		b.WriteString(": " + r)
	}
	if s.Deletes > 0 && s.Action != ActionDelete {
		fmt.Fprintf(&b, ", deletes %d", s.Deletes)
	}
	if s.Blocked != "" {
		b.WriteString(" [blocked: " + s.Blocked + "]")
	}
	return b.String()
}

func (s Step) subject() string {
	if s.Object != "" {
		return s.Object
	}
	return s.ID.String()
}

// MarshalJSON leaves out what is only for the provider: Token and Detail.
func (s Step) MarshalJSON() ([]byte, error) { return json.Marshal(stepStatus(s, "")) }

// StepStatus is a step as people see it.
type StepStatus struct {
	Action   Action   `json:"action"`
	Object   string   `json:"object,omitempty"`   // empty: the whole resource
	Drift    bool     `json:"drift"`              // live has changed, as opposed to forge.cue
	Reason   string   `json:"reason"`             // one line
	Cause    Reason   `json:"cause"`              // the same, in parts
	Changes  []Change `json:"changes,omitempty"`  // never secret
	Fitted   []Change `json:"fitted,omitempty"`   // to what the cluster can run: before and after, as far as this step brings or changes it
	AsFit    int      `json:"asFit,omitempty"`    // how many more of these are as before
	Deletes  int      `json:"deletes,omitempty"`  // objects
	Destroys []string `json:"destroys,omitempty"` // data that is lost
	Stays    []Stay   `json:"stays,omitempty"`    // what a removal leaves where it is
	Blocked  string   `json:"blocked,omitempty"`  // needs a person, and why
	Approve  string   `json:"approve,omitempty"`  // the token with which a person lets it destroy that data
	Held     string   `json:"held,omitempty"`     // will be done later, and why not now
}

func stepStatus(s Step, held string) StepStatus {
	return StepStatus{
		Action: s.Action, Object: s.Object, Drift: !s.Rollout(),
		Reason: s.Reason.String(), Cause: s.Reason,
		Changes: s.Changes, Fitted: s.Fitted, AsFit: s.AsFit, Deletes: s.Deletes, Destroys: s.Destroys, Stays: s.Stays, Blocked: s.Blocked, Approve: s.Approve, Held: held,
	}
}
