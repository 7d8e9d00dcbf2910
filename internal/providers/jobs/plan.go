package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// change is what one step does; it travels in Step.Detail.
type change struct {
	look   *look
	run    bool  // make the Job that is wanted, or put it back
	remove []job // to delete
	all    bool  // the resource itself goes
}

// Plan implements reconcile.Provider.
func (p *Provider) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	l, ok := o.Detail.(*look)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "observed by another provider: %T", o.Detail)
	}
	var steps []reconcile.Step
	var err error
	if r.Remove {
		steps, err = l.planRemoval(ctx)
	} else {
		steps, err = l.plan(ctx)
	}
	return steps, kubernetes.About(err, l.id())
}

func (l *look) step(action reconcile.Action, code reconcile.ReasonCode, object string, ch *change) reconcile.Step {
	ch.look = l
	return reconcile.Step{
		ID: l.id(), Action: action, Object: object, Reason: reconcile.Reason{Code: code},
		Deletes: len(ch.remove), Detail: ch, Token: l.token(),
	}
}

func (l *look) plan(ctx context.Context) ([]reconcile.Step, error) {
	if l.waiting != nil {
		return nil, l.waiting
	}
	if l.done() {
		return l.prune(), nil
	}
	current, made := l.current()
	ref := l.ref().String()
	run := &change{run: true}
	switch {
	case made && l.givenUp():
		return nil, nil // nobody has asked for another run
	case made && current.state.Deleting:
		step := l.step(reconcile.ActionHeal, reconcile.ReasonDeleted, ref, run)
		live, err := l.cluster.Get(ctx, current.entry.Ref) // the watch may not have seen it go
		if err != nil {
			return nil, err
		}
		if live != nil {
			step.Blocked = "it is being deleted; it is run again when it is gone"
		}
		return []reconcile.Step{step}, nil
	case made && current.running() && current.drift:
		step := l.step(reconcile.ActionHeal, reconcile.ReasonEdited, ref, run)
		err := l.explain(ctx, &step)
		return []reconcile.Step{step}, err
	case made && (current.running() || current.failed()):
		return l.prune(), nil
	case l.refused != nil:
		return nil, l.refused
	case made && !current.asked:
		return []reconcile.Step{l.step(reconcile.ActionHeal, reconcile.ReasonDeleted, ref, run)}, nil
	}
	if rival, ok := l.rival(); ok {
		// Two must not run at a time. One that has begun is let come to its end,
		// which its own time limit bounds.
		_, begun, err := l.pods(ctx, "")
		if err != nil || begun || rival.state.Deleting {
			return nil, err
		}
		step := l.step(reconcile.ActionUpdate, reconcile.ReasonConfig, rival.entry.Ref.String(), &change{remove: []job{rival}})
		step.Reason.Text = "it has not begun, and another takes its place"
		return []reconcile.Step{step}, nil
	}
	step := l.step(reconcile.ActionCreate, reconcile.ReasonAbsent, ref, run)
	switch {
	case l.next.Run > l.book.Run:
		step.Action, step.Reason.Code, step.Reason.Text = reconcile.ActionUpdate, reconcile.ReasonDeleted, "another run was asked for by way of "+l.next.Asked
	case l.record.Pending:
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
	case len(l.record.Entries) > 0:
		step.Action, step.Reason.Code = reconcile.ActionUpdate, reconcile.ReasonConfig
	}
	step.Changes = append(step.Changes, reconcile.Change{Path: "image", To: l.spec.Image})
	if command := slices.Concat(l.spec.Entrypoint, l.spec.Args); len(command) > 0 {
		step.Changes = append(step.Changes, reconcile.Change{Path: "command", To: strings.Join(command, " ")})
	}
	if l.req.Explain {
		step.Fitted, step.AsFit = kubernetes.FreshFits(l.fitted.Changes, l.book.Fits)
	}
	if moving := l.moving(); len(moving) > 0 {
		// Another name comes out of what is about to change: this one is never made.
		step.Object = kubernetes.Ref{GVK: l.ref().GVK, Namespace: l.spec.Namespace, Name: l.spec.Name + "-…"}.String()
		step.Reason.Text = strings.TrimPrefix(step.Reason.Text+"; its name is unknown until "+strings.Join(moving, ", ")+" is applied", "; ")
		return []reconcile.Step{step}, nil
	}
	a, err := l.admit(ctx)
	step.Blocked = a.Blocked()
	return []reconcile.Step{step}, err
}

// moving are the Secrets and files that the process gets and that are about to
// change.
func (l *look) moving() (names []string) {
	for _, id := range l.req.Moving {
		if id.Kind == forge.KindSecrets || id.Kind == forge.KindConfig {
			names = append(names, id.String())
		}
	}
	return names
}

func (l *look) admit(ctx context.Context) (kubernetes.Admission, error) {
	return l.cluster.Admit(ctx, kubernetes.Claim{Ref: l.ref(), Owner: l.id(), Adopt: l.req.Policy.Adopt})
}

// explain finds out who has changed what runs. Without a person who looks
// at the step, putting it back finds out.
func (l *look) explain(ctx context.Context, step *reconcile.Step) error {
	if !l.req.Explain {
		return nil
	}
	obj, err := l.stamped()
	if err != nil {
		return err
	}
	before, err := l.cluster.Get(ctx, kubernetes.RefOf(obj))
	if err != nil {
		return err
	}
	after, err := l.cluster.DryRun(ctx, obj)
	if reconcile.KindOf(err) == reconcile.Invalid {
		step.Blocked = "it cannot be put back while it runs: " + err.Error() // of a Pod next to nothing can
		return nil
	}
	if err != nil {
		return err
	}
	step.Reason, step.Changes = kubernetes.Explain(before, after, l.cluster.Manager())
	return nil
}

// prune removes what is over, but for the last one: its log may still be
// of use.
func (l *look) prune() []reconcile.Step {
	if !l.req.Policy.Prune {
		return nil
	}
	keep := l.ref()
	if _, made := l.current(); !made && len(l.jobs) > 0 {
		keep = l.jobs[len(l.jobs)-1].entry.Ref
	}
	var over []job
	for _, j := range l.jobs {
		if j.state.Exists && !j.running() && j.entry.Ref != keep {
			over = append(over, j)
		}
	}
	if len(over) == 0 {
		return nil
	}
	step := l.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, "", &change{remove: over})
	// Nobody misses what has come to its end and was followed by another one: it
	// counts for nothing, so that many of them never make policy.maxDelete stop.
	step.Late, step.Deletes, step.Reason.Text = true, 0, "it is over"
	l.list(&step, over)
	return []reconcile.Step{step}
}

func (*look) list(step *reconcile.Step, jobs []job) {
	if len(jobs) == 1 {
		step.Object = jobs[0].entry.Ref.String()
	}
	for _, j := range jobs {
		step.Changes = append(step.Changes, reconcile.Change{Path: j.entry.Ref.String()})
	}
}

// planRemoval waits for what has begun: it must not be cut.
func (l *look) planRemoval(ctx context.Context) ([]reconcile.Step, error) {
	if !l.recorded {
		return nil, nil
	}
	step := l.step(reconcile.ActionDelete, reconcile.ReasonUnwanted, "", &change{remove: l.jobs, all: true})
	l.list(&step, l.jobs)
	step.Deletes = 0
	for _, j := range l.jobs {
		if j.state.Exists {
			step.Deletes++
		}
	}
	if step.Deletes == 0 {
		step.Action = reconcile.ActionForget
	}
	if slices.ContainsFunc(l.jobs, job.running) {
		_, begun, err := l.pods(ctx, "")
		if err != nil {
			return nil, err
		}
		if begun {
			step.Blocked = "it is running, and is not cut; it is removed when it has ended"
		}
	}
	return []reconcile.Step{step}, nil
}

// token fences everything that is known.
func (l *look) token() string {
	var b strings.Builder
	for _, j := range l.jobs {
		fmt.Fprintf(&b, "%s %s %t %t %s %s %t\n", j.entry.Ref, j.entry.Desired, j.state.Exists, j.state.Deleting, j.state.UID, j.state.Digest, j.running())
	}
	raw, _ := json.Marshal(l.next)
	return b.String() + string(raw) + l.ref().String()
}
