package reconcile

import (
	"context"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/secret"
)

// Provider is the code that can observe, plan, apply and watch one kind of
// resource. docs/contract.md states what it promises; every provider passes
// the same conformance suite.
type Provider interface {
	// Observe reports what exists. It never mutates and is served from
	// watches and caches where there are any: when nothing has changed it
	// costs no request. An error means *unknown*, never *absent*.
	Observe(ctx context.Context, r Request) (Observed, error)

	// Plan compares desired with observed and returns the steps that remove
	// the difference, none when there is none. It may dry-run; it never
	// mutates.
	Plan(ctx context.Context, r Request, o Observed) ([]Step, error)

	// Apply carries out one step and returns what exists then, also on
	// error as far as it is known. It answers with an error of kind Stale
	// when the step's Token no longer holds. It can be cut at any call and
	// run again.
	Apply(ctx context.Context, r Request, s Step) (Observed, error)

	// Watch reports changes that nobody asked for through notify until ctx
	// ends. notify does not block.
	Watch(ctx context.Context, notify func(Event)) error
}

// Owner is implemented by providers that keep an inventory beside what they
// own, so that what forge.cue no longer asks for is found after a restart too.
type Owner interface {
	// Owned lists the resources this instance owns in an environment, of the
	// kinds the provider is registered for; those that are still wanted may be
	// among them. wanted is everything forge.cue asks for in the environment,
	// of every kind: it says in which targets and namespaces to look. Each
	// answer carries what Observe, Plan and Apply need when Request.Remove is
	// set, and in Needs what it needed, as far as that was recorded. An error
	// means unknown: nothing is removed then. What is listed all the same is
	// there, and is healed without waiting for what it needs.
	Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error)
}

// Judge is implemented by providers of resources that only tell how what they
// need is doing. What they have said does not outlive that: when something they
// need comes to be ready, they are not, until they have been looked at again.
type Judge interface{ Judges() }

// Request is what the engine wants to know about or to have.
type Request struct {
	Resource forge.Resource
	Inputs   map[forge.ID]Outputs // of the resources it needs, as far as they are known
	Policy   forge.Policy
	Remove   bool // forge.cue no longer asks for it: plan its removal

	// Settled is when the last of the resources it needs came to be ready; zero:
	// not all of them are, or it needs none. What was seen through them before may
	// have been of what they were.
	Settled time.Time

	// Moving are those of the resources it needs whose outputs are about to
	// change: what is made of them, a name for example, is not known yet. Only a
	// plan that is looked at has any; what is carried out waits for its needs.
	Moving []forge.ID

	// Explain asks Plan for reasons and changes in full: its steps will be
	// looked at. Without it, a step that is about to be applied may leave to
	// Apply what only costs time to find out before.
	Explain bool
}

// Observed is what a provider knows of a resource now.
type Observed struct {
	Exists  bool
	Health  Health
	Outputs Outputs
	Objects int     // owned objects, for the metrics
	Reason  *Reason // of Apply only: why the step was needed, where that is known better now
	Notices []Notice
	Expires time.Time // of what it stands for, a certificate for example; zero: never
	Detail  any       // the provider's own; handed back to its Plan
}

// HealthStatus says how far a resource is from serving.
type HealthStatus string

// Health statuses.
const (
	Ready       HealthStatus = "ready"
	Progressing HealthStatus = "progressing"
	Failed      HealthStatus = "failed"
	Unknown     HealthStatus = "unknown"
)

// Health is a status and, unless it is ready, one sentence of explanation.
type Health struct {
	Status  HealthStatus `json:"status"`
	Message string       `json:"message,omitempty"`
}

// Notice is something worth knowing that no step removes: a webhook has
// rewritten a field, a name does not resolve yet. It is told in the status, in
// the log when it is new, and counted by its code.
type Notice struct {
	Code    string `json:"code"`             // mutated, dns, …: a bounded set, it labels metrics
	Object  string `json:"object,omitempty"` // "Deployment shop/app"; may be empty
	Message string `json:"message"`          // one sentence without a full stop
}

// Outputs are the values one resource makes and others need.
type Outputs map[string]Output

// Output is a plain value or a secret one.
type Output struct {
	Value  string
	Secret secret.Value
}

// Action is what a step does. The same words stand in plans, logs, metrics
// and the documentation.
type Action string

// Actions.
const (
	ActionCreate Action = "create" // it is not there
	ActionUpdate Action = "update" // desired has changed: a rollout
	ActionHeal   Action = "heal"   // live has changed: put it back
	ActionRepair Action = "repair" // an interrupted action is brought to an end
	ActionDelete Action = "delete" // forge.cue no longer asks for it: it goes
	ActionForget Action = "forget" // it stays where it is, and is not forged's any more
)

// Step is one action on one resource or on one object of it.
type Step struct {
	ID      forge.ID
	Action  Action
	Object  string // "Deployment shop/app"; empty: the whole resource
	Reason  Reason
	Changes []Change
	Fitted  []Change // what was made of what it brings in for the cluster to run it, as far as Request.Explain asks for it
	AsFit   int      // how many more of these are as they were with what was applied last
	Deletes int      // objects that disappear with this step; none with ActionForget

	// Destroys names the data that is lost with this step, one by one: "volume
	// shop/data (20Gi)". Such a step is carried out only where
	// policy.destroyData allows it, and with the token that the plan shows.
	Destroys []string

	// Stays is what a removal leaves where it is although it is asked for no more,
	// as far as Request.Explain asks for it: volumes, what is marked to be kept.
	Stays []Stay

	Late    bool   // a removal that is done when all else in the environment is ready, or what can never be done; nothing waits for it
	Blocked string // not empty: it will not be done, and this is why
	Approve string // the engine's: the token that lets the step destroy what it names
	Token   string // fencing token it was computed against
	Detail  any    // the provider's own; handed back to its Apply
}

// Rollout tells whether the step brings in something new, as opposed to
// putting live back to what was applied last.
func (s Step) Rollout() bool { return s.Action != ActionHeal }

// Change is one difference. The values are for people and are never secret:
// the provider leaves them empty where they could be.
type Change struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Stay is something that a removal leaves behind.
type Stay struct {
	Object string `json:"object"`           // "PersistentVolumeClaim shop/data"
	Remove string `json:"remove,omitempty"` // how a person removes it: a command
}

// Event is a change the engine did not ask for.
type Event struct {
	ID     forge.ID
	Cause  string    // live, health, storage, …: a bounded set, it labels metrics
	At     time.Time // when it was seen
	Object string    // may be empty
	Retry  bool      // what has failed may work now: it is tried before its backoff ends
}
