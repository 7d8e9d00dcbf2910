package fly

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret/entries"
)

// planRemoval deletes the app with all that is in it. What is lost is named, and
// what is not forged's keeps the app where it is.
func (s *appSight) planRemoval(ctx context.Context, r reconcile.Request) ([]reconcile.Step, error) {
	step := reconcile.Step{ID: r.Resource.ID, Object: s.object(), Token: s.token()}
	step.Reason.Code = reconcile.ReasonUnwanted
	entry, listed := s.entry()
	switch {
	case !listed && !s.recorded:
		return nil, nil
	case s.app == nil, !s.owned() && entry.Identity != "":
		step.Action = reconcile.ActionForget
		step.Reason.Text = "it is not there any more"
		if s.app != nil || s.foreign {
			step.Reason.Text = "somebody has made another one of its name, or moved it to another organization; it stays"
		}
		return []reconcile.Step{step}, nil
	}
	in, err := s.contents(ctx)
	if err != nil {
		return nil, err
	}
	step.Action = reconcile.ActionDelete
	step.Deletes = 1 + len(in.machines) + len(in.volumes)
	var foreign, seen []string
	for _, m := range in.machines {
		seen = append(seen, m.ID)
		if marks := marksOf(m); marks[MarkInstance] != s.org.Instance() || marks[MarkEnvironment] != r.Resource.ID.Environment {
			foreign = append(foreign, cmp.Or(m.Name, m.ID))
		}
	}
	for _, v := range in.volumes {
		seen = append(seen, v.ID)
		step.Destroys = append(step.Destroys, fmt.Sprintf("volume %s/%s (%s, %d GB)", s.spec.Name, v.Name, v.ID, v.SizeGB))
	}
	secrets, err := s.secretsLost(ctx)
	if err != nil {
		return nil, err
	}
	if len(secrets) > 0 {
		step.Destroys = append(step.Destroys, fmt.Sprintf("the secrets of app %s that only Fly knows: %s", s.spec.Name, strings.Join(secrets, ", ")))
		seen = append(seen, secrets...)
	}
	slices.Sort(foreign)
	slices.Sort(seen)
	slices.Sort(step.Destroys)
	step.Token += " " + strings.Join(seen, " ")
	switch {
	case len(foreign) > 0:
		step.Blocked = "machines run in it that forged did not make: " + listOf(foreign) +
			"; destroy them, or keep the app: fly machine list --app " + s.spec.Name
	case entry.Identity == "" && len(seen) > 0:
		// Its making was cut: that it is ours is known only while it is empty.
		step.Action, step.Deletes, step.Destroys = reconcile.ActionForget, 0, nil
		step.Reason.Text = "it is not certain that forged made it, and it is not empty"
	}
	return []reconcile.Step{step}, nil
}

// secretsLost are the secrets that go with the app and that nobody could set
// again: all but those that forged sets, and unsets before the app goes.
func (s *appSight) secretsLost(ctx context.Context) ([]string, error) {
	all, err := s.org.Client().Secrets(ctx, s.spec.Name, 0)
	if err != nil {
		return nil, Classify("list the secrets of", s.object(), err)
	}
	v := &vault{ledger: ledger{names: map[entries.Slot]noted{}}, live: map[string]liveSecrets{s.spec.Name: {byName: map[string]api.AppSecret{}}}}
	for _, id := range s.inv.IDs() {
		if record, ok := s.inv.Record(id); ok && id.Kind == forge.KindFlySecrets {
			of, err := readLedger(record.Data)
			if err != nil {
				return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "read", Object: s.inv.object(), Err: err}
			}
			maps.Copy(v.ledger.names, of.names)
		}
	}
	var lost []string
	for _, secret := range all {
		v.live[s.spec.Name].byName[secret.Name] = secret
		if v.fate(entries.Slot{Object: s.spec.Name, Key: secret.Name}, true) != fateUnset {
			lost = append(lost, secret.Name)
		}
	}
	slices.Sort(lost)
	return lost, nil
}

// remove deletes the app, and forgets it when it is gone.
func (s *appSight) remove(ctx context.Context, id forge.ID) error {
	const op = "delete"
	c := s.org.Client()
	if err := c.DeleteApp(ctx, s.spec.Name); err != nil {
		return Classify(op, s.object(), err)
	}
	const most = 10
	for range most {
		app, err := c.App(ctx, s.spec.Name)
		switch k := api.KindOf(err); {
		case k == api.NotFound, k == api.Gone, k == api.Denied, // free, or somebody else's already
			err == nil && identity(app) != identity(*s.app):
			return s.inv.Drop(ctx, id)
		case err != nil:
			return Classify(op, s.object(), err)
		}
		if err := Pause(ctx, time.Second); err != nil {
			return Classify(op, s.object(), err)
		}
	}
	return &reconcile.Error{
		Kind: reconcile.Unavailable, Op: op, Object: s.object(), Err: errors.New("it is still there, although Fly has taken the request"),
	}
}
