package external

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// somebody is the writer of what PostgreSQL does not say who wrote it.
const somebody = "somebody in PostgreSQL"

// seen is what was found, and for whom.
type seen struct {
	wanted *wanted
	survey survey
}

// change is what one step does; it travels in Step.Detail.
type change struct {
	wanted   *wanted
	role     wantedRole
	database string // empty: it is about the role
	facts    roleFacts
	create   bool
	password bool // set it
	done     bool // with this step it has all that is asked for
}

// mark is a comment on a role that says who has made it, and what it was
// asked for when it had all that; unfinished before.
type mark struct{ owner, digest string }

const unfinished = "unfinished"

var marks = regexp.MustCompile(`^forged: ([^ /]+/[^ /]+) ([0-9a-f]{16}|` + unfinished + `)$`)

func markOf(comment string) mark {
	m := marks.FindStringSubmatch(comment)
	if m == nil {
		return mark{}
	}
	return mark{m[1], m[2]}
}

// comment is the mark of a role of ours; done tells whether it has all that is
// asked for.
func (w *wanted) comment(role wantedRole, done bool) string {
	digest := unfinished
	if done {
		digest = role.digest
	}
	return "forged: " + w.mark + " " + digest
}

// Plan implements reconcile.Provider.
func (p *Roles) Plan(_ context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	if r.Remove {
		return nil, nil
	}
	if waiting, ok := o.Detail.(error); ok {
		return nil, waiting
	}
	s, ok := o.Detail.(*seen)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "observed by another provider: %T", o.Detail)
	}
	var steps []reconcile.Step
	for _, role := range s.wanted.roles {
		before := p.remembered(s.wanted.id, role.name)
		if step, ok := s.role(role, before); ok {
			steps = append(steps, step)
		}
		for _, database := range role.databases {
			if step, ok := s.database(role, database, before); ok {
				steps = append(steps, step)
			}
		}
	}
	return steps, nil
}

// role plans for a role itself.
func (s *seen) role(role wantedRole, before remembered) (reconcile.Step, bool) {
	f, w := s.survey.roles[role.name], s.wanted
	c := &change{wanted: w, role: role, facts: f, done: s.survey.served(role)}
	step := reconcile.Step{
		ID: w.id, Object: "role " + role.name, Detail: c, Token: tokenOf(f),
		Action: reconcile.ActionUpdate, Reason: reconcile.Reason{Code: reconcile.ReasonConfig},
	}
	if !f.exists {
		c.create, c.password = true, true
		step.Action, step.Reason.Code = reconcile.ActionCreate, reconcile.ReasonAbsent
		if before.digest == role.digest {
			step.Action, step.Reason = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: somebody}
		}
		step.Changes = effects("makes role " + role.name + ", which may log in with the password of " + role.source)
		if !s.survey.admin.makes {
			step.Blocked = fmt.Sprintf("role %s of %s may not make roles; name one with CREATEROLE, or make role %s by hand", w.admin.user, fieldPostgresAdmin, role.name)
		}
		return step, true
	}
	m := markOf(f.comment)
	known := m == mark{w.mark, role.digest} || before.digest == role.digest
	ours := m.owner == w.mark || m.owner == "" && before.marked
	heal, wrong := known, !f.right()
	switch {
	case f.password == passwordWrong:
		c.password = true
		step.Changes = effects("gives role " + role.name + " the password of " + role.source)
		// Only who has seen the same password work can tell that it was changed
		// here, and not in forge.cue.
		heal = heal && before.password == fingerprint(role.password)
	case wrong:
	case ours && m != mark{w.mark, role.digest} && s.survey.served(role):
		step.Changes = effects("notes at role " + role.name + " what it is for now")
		heal = before.marked && m.owner == "" && known
	default:
		return step, false
	}
	if !f.login {
		step.Changes = append(step.Changes, effects("lets role "+role.name+" log in")...)
	}
	if f.expired {
		step.Changes = append(step.Changes, effects("lets the password of role "+role.name+" not expire")...)
	}
	if heal {
		step.Action, step.Reason = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonEdited, Writer: somebody}
	}
	if wrong {
		step.Blocked = s.blocked(role.name, f, m, ours)
	}
	return step, true
}

// blocked says why a role that is there is not changed; empty: it is.
func (s *seen) blocked(name string, f roleFacts, m mark, ours bool) string {
	adopt := s.wanted.policy.Adopt
	switch {
	case f.mighty:
		return fmt.Sprintf("role %s may do more than an app needs (it is a superuser, makes roles, replicates or bypasses row security), so that forged does not change it; give the app a role of its own", name)
	case ours:
		return ""
	case m.owner != "":
		return fmt.Sprintf("role %s belongs to another forged (instance and environment %s)", name, m.owner)
	case adopt == forge.AdoptIfUnowned || adopt == forge.AdoptForce:
		return ""
	}
	return fmt.Sprintf(`role %s is there already, forged did not make it, and it cannot log in with the password of forge.cue; `+
		`correct the password in forge.cue, or write policy: adopt: "if-unowned" to let forged set it`, name)
}

// database plans for one database and what the role may do there.
func (s *seen) database(role wantedRole, name string, before remembered) (reconcile.Step, bool) {
	f, w := s.survey.databases[place{role.name, name}], s.wanted
	if f.right() {
		return reconcile.Step{}, false
	}
	known := markOf(s.survey.roles[role.name].comment) == mark{w.mark, role.digest} || before.digest == role.digest
	step := reconcile.Step{
		ID: w.id, Object: "database " + name, Token: tokenOf(f),
		Detail: &change{wanted: w, role: role, database: name, create: !f.exists},
		Action: reconcile.ActionUpdate, Reason: reconcile.Reason{Code: reconcile.ReasonConfig},
	}
	rights := "lets role " + role.name + " connect to database " + name + " and make schemas and tables there"
	if f.exists {
		step.Changes = effects(rights)
		if known {
			step.Action, step.Reason = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonEdited, Writer: somebody}
			if !s.survey.roles[role.name].exists { // its rights went with it
				step.Reason.Code = reconcile.ReasonDeleted
			}
		}
		return step, true
	}
	step.Action, step.Reason.Code = reconcile.ActionCreate, reconcile.ReasonAbsent
	step.Changes = effects("makes database "+name, rights)
	if known && (before.digest == "" || slices.Contains(before.databases, name)) {
		step.Action, step.Reason = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: somebody}
		step.Blocked = "it was there and is gone with all its data; forged does not put an empty one in its place: restore it, or make it by hand (createdb " + name + ")"
	}
	return step, true
}

// effects are what a step does, in words: what is sent holds verifiers.
func effects(texts ...string) []reconcile.Change {
	all := make([]reconcile.Change, len(texts))
	for i, text := range texts {
		all[i].Path = text
	}
	return all
}

// Apply implements reconcile.Provider.
func (p *Roles) Apply(ctx context.Context, r reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	id := r.Resource.ID
	c, ok := step.Detail.(*change)
	if !ok {
		return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	if step.Blocked != "" {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Invalid, ID: id, Object: step.Object, Op: string(step.Action), Err: errors.New(step.Blocked)}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*p.schedule.pace.limit)
	defer cancel()
	err := c.carryOut(ctx, step)
	p.schedule.forget(id)
	if err != nil {
		return reconcile.Observed{}, about(err, id, step)
	}
	o, err := p.Observe(ctx, r)
	if err != nil {
		return o, err
	}
	s, ok := o.Detail.(*seen)
	if !ok || c.database == "" {
		return o, nil
	}
	// A right that cannot be given is a warning, and no error.
	if !s.survey.databases[place{c.role.name, c.database}].right() {
		return o, &reconcile.Error{
			Kind: reconcile.Denied, ID: id, Object: step.Object, Op: string(step.Action),
			Err:  fmt.Errorf("role %s of %s may not give all rights in it", c.wanted.admin.user, fieldPostgresAdmin),
			Hint: "let its owner do so, or name the owner in " + fieldPostgresAdmin,
		}
	}
	noted, err := c.finish(ctx, s.survey)
	switch {
	case err != nil:
		return o, about(err, id, step)
	case noted:
		p.schedule.forget(id)
		return p.Observe(ctx, r)
	}
	return o, nil
}

func about(err error, id forge.ID, step reconcile.Step) error {
	var e *reconcile.Error
	if !errors.As(err, &e) {
		e = &reconcile.Error{Kind: reconcile.Internal, Err: err}
	}
	e.ID, e.Object = id, step.Object
	if e.Op == "" {
		e.Op = string(step.Action)
	}
	return e
}
