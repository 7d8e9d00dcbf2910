package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
)

// Plan is what would be done to bring the world in line with a generation.
// The same generation and the same world make the same plan, and so the same
// bytes of JSON.
type Plan struct {
	Generation   int               `json:"generation"`
	Hash         string            `json:"hash"`
	Steps        map[Action]int    `json:"steps"`        // how many of each kind, but for what is kept
	Environments []EnvironmentPlan `json:"environments"` // by name
}

// EnvironmentPlan is the part of a Plan in one environment.
type EnvironmentPlan struct {
	Name     string       `json:"name"`
	Platform string       `json:"platform"`
	Target   string       `json:"target"`
	Mode     forge.Mode   `json:"mode"`             // says which steps would be carried out
	Opens    time.Time    `json:"opens,omitzero"`   // when the next window for changes does; zero: one is open, or there are none
	Error    *ErrorStatus `json:"error,omitempty"`  // what is owned could not be listed
	Items    []Item       `json:"items"`            // what is needed stands before what needs it; removals last
	Former   []Place      `json:"former,omitempty"` // where forge.cue says that it stood before
}

// Place is a namespace of a cluster.
type Place struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
}

// Item is the part of a Plan about one resource.
type Item struct {
	ID      forge.ID     `json:"id"`
	Remove  bool         `json:"remove,omitempty"` // forge.cue no longer asks for it
	Left    *Place       `json:"left,omitempty"`   // where it is, if nothing of the environment is wanted there any more
	Needs   []forge.ID   `json:"needs,omitempty"`  // of what is removed: they stay until it is gone
	Exists  bool         `json:"exists"`
	Health  Health       `json:"health"`
	Objects int          `json:"objects"`
	Steps   []Step       `json:"steps,omitempty"`
	Waiting string       `json:"waiting,omitempty"` // why the steps are not known yet, or must wait
	Kept    string       `json:"kept,omitempty"`    // not removed, by policy: no change
	Error   *ErrorStatus `json:"error,omitempty"`
}

// Changes tells whether anything would be done, or is to be done by somebody.
func (p *Plan) Changes() bool {
	return p.any(func(i Item) bool { return i.Kept == "" && (len(i.Steps) > 0 || i.Waiting != "") })
}

// Failed tells whether something could not be planned.
func (p *Plan) Failed() bool {
	return p.any(func(i Item) bool { return i.Error != nil }) ||
		slices.ContainsFunc(p.Environments, func(e EnvironmentPlan) bool { return e.Error != nil })
}

func (p *Plan) any(f func(Item) bool) bool {
	return slices.ContainsFunc(p.Environments, func(e EnvironmentPlan) bool { return slices.ContainsFunc(e.Items, f) })
}

// Plan looks at the resources of a generation and says what would be done,
// without doing any of it and without making g the active generation. filter
// picks the resources to look at, nil all; what those need is read too. What
// goes wrong with one resource is in its item; the error is about g or ctx.
func (e *Engine) Plan(ctx context.Context, g Generation, filter func(forge.ID) bool) (*Plan, error) {
	gen, err := e.check(g)
	if err != nil {
		return nil, err
	}
	p := &Plan{Generation: gen.Number, Hash: gen.Hash, Steps: map[Action]int{}, Environments: make([]EnvironmentPlan, len(gen.Environments))}
	var all sync.WaitGroup
	for i, spec := range gen.Environments {
		all.Go(func() { p.Environments[i] = e.planEnvironment(ctx, gen.environments[spec.Name], filter) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	for _, env := range p.Environments {
		for _, item := range env.Items {
			for _, step := range item.Steps {
				if item.Kept == "" {
					p.Steps[step.Action]++
				}
			}
		}
	}
	return p, nil
}

// survey is what Plan knows of an environment while it walks.
type survey struct {
	engine  *Engine
	env     *environment
	filter  func(forge.ID) bool
	mu      sync.Mutex
	items   map[forge.ID]*Item
	outputs map[forge.ID]Outputs
	picked  map[forge.ID]bool // in the filter, or needed by what is
}

func (e *Engine) planEnvironment(ctx context.Context, env *environment, filter func(forge.ID) bool) EnvironmentPlan {
	out := EnvironmentPlan{
		Name: env.Name, Platform: env.Platform, Target: env.Target,
		Mode: env.Policy.Mode, Items: []Item{},
	}
	if env.Policy.Mode == forge.ModePaused {
		return out
	}
	if now := time.Now(); opens(env.Policy.Windows, now).After(now) {
		out.Opens = opens(env.Policy.Windows, now)
	}
	s := &survey{
		engine: e, env: env, filter: filter,
		items: map[forge.ID]*Item{}, outputs: map[forge.ID]Outputs{}, picked: map[forge.ID]bool{},
	}
	for _, id := range slices.Backward(env.graph.order) {
		if s.picked[id] = s.picked[id] || s.wants(id); s.picked[id] {
			for _, need := range env.graph.resources[id].Needs {
				s.picked[need] = true
			}
		}
	}
	for _, wave := range env.graph.waves {
		s.each(wave, func(id forge.ID) {
			if s.picked[id] {
				s.look(ctx, env.graph.resources[id], e.providers[id.Kind])
			}
		})
	}
	for _, id := range env.graph.order {
		if s.wants(id) {
			out.Items = append(out.Items, *s.items[id])
		}
	}
	for _, r := range env.Former {
		if spec, ok := r.Spec.(forge.FormerSpec); ok && !env.Down {
			out.Former = append(out.Former, Place{r.Target.String(), spec.Namespace})
		}
	}
	orphans, err := s.orphans(ctx)
	if _, waits := waitingOf(err); !waits { // nothing is owned in what has yet to be made
		out.Error = errorStatus(err)
	}
	out.Items = append(out.Items, orphans...)
	s.limit(out.Items)
	return out
}

func (s *survey) wants(id forge.ID) bool { return s.filter == nil || s.filter(id) }

// each runs f over ids, some at a time.
func (s *survey) each(ids []forge.ID, f func(forge.ID)) {
	slots := make(chan struct{}, cmp.Or(s.env.Workers, s.engine.workers))
	var all sync.WaitGroup
	for _, id := range ids {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			f(id)
		})
	}
	all.Wait()
}

// look observes and plans one resource.
func (s *survey) look(ctx context.Context, r forge.Resource, p Provider) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	e, item := s.engine, &Item{ID: r.ID}
	req := Request{Resource: r, Policy: s.env.Policy, Inputs: s.inputs(r), Moving: s.moving(r), Explain: true}
	obs, err := e.observe(ctx, p, req)
	if err != nil {
		item.Health = Health{Status: Unknown}
		if w, ok := waitingOf(err); ok { // it lives in what has yet to be made
			item.Waiting = s.until(w)
		} else {
			item.Error = errorStatus(err)
		}
		s.record(item, nil)
		return
	}
	item.Exists, item.Objects = obs.Exists, obs.Objects
	item.Health = Health{Status: healthOf(obs), Message: obs.Health.Message}
	steps, err := e.plan(ctx, p, req, obs)
	waiting, waits := waitingOf(err)
	if waits && s.lookAgain(ctx, r, waiting) {
		req.Inputs = s.inputs(r)
		if again, failed := e.observe(ctx, p, req); failed == nil {
			steps, err = e.plan(ctx, p, req, again)
			waiting, waits = waitingOf(err)
		}
	}
	item.Steps = steps
	switch {
	case waits:
		item.Waiting = s.until(waiting)
		if slices.ContainsFunc(steps, Step.Rollout) {
			item.Waiting = "some values are " + item.Waiting
		}
	case err != nil:
		item.Error = errorStatus(err)
	case slices.ContainsFunc(steps, Step.Rollout):
		for _, need := range slices.Concat(r.Needs, r.After) {
			if n := s.item(need); n != nil && n.Error != nil {
				item.Waiting = "rollout waits until " + need.String() + " can be read"
				break
			}
		}
	}
	s.record(item, obs.Outputs)
}

// waitingOf is the error that says what is waited for.
func waitingOf(err error) (waiting *Error, ok bool) {
	ok = errors.As(err, &waiting) && waiting.Kind == Waiting
	return waiting, ok
}

// until says when a missing output will be there.
func (s *survey) until(w *Error) string {
	n := s.item(w.From)
	switch {
	case n != nil && n.Error != nil:
		return "unknown until " + w.From.String() + " can be read"
	case n != nil && (len(n.Steps) > 0 || n.Waiting != ""):
		return "unknown until " + w.From.String() + " is applied"
	}
	return fmt.Sprintf("unknown until output %q of %s is known", w.Output, w.From)
}

func (s *survey) inputs(r forge.Resource) map[forge.ID]Outputs {
	if len(r.Needs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := make(map[forge.ID]Outputs, len(r.Needs))
	for _, need := range r.Needs {
		if o := s.outputs[need]; o != nil {
			in[need] = o
		}
	}
	return in
}

// moving are the needs of a resource that steps of this plan change.
func (s *survey) moving(r forge.Resource) (ids []forge.ID) {
	for _, need := range r.Needs {
		if n := s.item(need); n != nil && (n.Waiting != "" || slices.ContainsFunc(n.Steps, Step.Rollout)) {
			ids = append(ids, need)
		}
	}
	return ids
}

func (s *survey) item(id forge.ID) *Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items[id]
}

func (s *survey) record(i *Item, o Outputs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[i.ID], s.outputs[i.ID] = i, o
}

// limit blocks the steps that destroy data without permission, and those that
// delete when they are too many together.
func (s *survey) limit(items []Item) {
	for _, i := range items {
		for k := range i.Steps {
			i.Steps[k].guard(s.env.Policy, s.engine.isApproved)
		}
	}
	total, names := 0, []string(nil)
	for _, i := range items {
		if i.Kept != "" {
			continue
		}
		n, count := deletesOf(i.Steps)
		total, names = total+count, append(names, n...)
	}
	text := tooMany(s.env.Name, s.env.Policy.MaxDelete, total, names)
	for _, i := range items {
		for k := range i.Steps {
			if text != "" && i.Kept == "" && i.Steps[k].Deletes > 0 && i.Steps[k].Blocked == "" {
				i.Steps[k].Blocked = text
			}
		}
	}
}
