package fly

import (
	"context"
	"errors"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
)

// Apply implements reconcile.Provider.
func (p *Secrets) Apply(ctx context.Context, r reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	id := r.Resource.ID
	ch, ok := step.Detail.(*secretsChange)
	if !ok {
		return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	planned := ch.vault
	if step.Blocked != "" {
		return planned.observed(), &reconcile.Error{Kind: reconcile.Invalid, ID: id, Object: step.Object, Op: string(step.Action), Err: errors.New(step.Blocked)}
	}
	ctx, err := p.accounts.acting(ctx, r.Resource)
	if err != nil {
		return planned.observed(), err
	}
	// Look again, past everything that is remembered: Fly binds no write to what
	// was read. The values are those that were planned.
	now, err := p.look(ctx, r, true)
	if err != nil {
		return planned.observed(), err
	}
	removes := ch.all || len(ch.remove) > 0
	again := now.token(ch.wanted)
	if removes {
		again = now.tokenOf(ch.remove)
	}
	if again != step.Token {
		return now.observed(), &reconcile.Error{
			Kind: reconcile.Stale, ID: id, Op: string(step.Action), Object: step.Object,
			Err: errors.New("it is not as it was when this was planned"),
		}
	}
	now.wanted = planned.wanted
	if err := now.admits(ctx, ch.wanted, step.Action != reconcile.ActionCreate); err != nil {
		return now.observed(), about(err, id)
	}
	if removes {
		err = now.unset(ctx, ch)
	} else {
		err = now.write(ctx, ch.wanted)
	}
	if err != nil {
		return now.observed(), about(err, id)
	}
	if ch.all {
		p.forget(id)
		return reconcile.Observed{}, nil
	}
	return p.Observe(ctx, r)
}

// admits is nil if all apps that secrets are to be set in are those that forged
// looks after.
func (v *vault) admits(ctx context.Context, all []judged, heals bool) error {
	seen := map[string]bool{}
	for _, j := range all {
		if app := j.slot.Object; !seen[app] {
			seen[app] = true
			if err := v.inv.admits(ctx, app, heals); err != nil {
				return err
			}
		}
	}
	return nil
}

// noSecret is a name that no app has. Unsetting it changes nothing and tells the
// version of the secrets, which no read does (flyctl's source does the same).
const noSecret = "FORGED_NOTHING"

// write sets secrets, one request for each app, between two notes in the
// inventory. Between them they are marked: after a crash they are set again, a
// generated value with another one, in all apps that share it. The mark comes
// off only when all of them were seen to hold it.
func (v *vault) write(ctx context.Context, all []judged) error {
	l := v.ledger.clone()
	for _, j := range all {
		n := l.names[j.slot]
		if live, _ := v.seen(j.slot); v.foreign(j.slot) {
			n.Was = live.Digest
		}
		n.Writing, n.Generated = true, j.generated
		l.names[j.slot] = n
		if j.generated && j.fresh {
			v.memory.generated[j.slot] = madeValue{j.value, j.rotation}
		}
	}
	if err := v.save(ctx, l); err != nil {
		return err
	}
	var failed error
	digests := map[entries.Slot]string{}
	undone := map[entries.Slot]bool{}
	for _, a := range v.spec.Apps {
		of := slices.DeleteFunc(slices.Clone(all), func(j judged) bool { return j.slot.Object != a.Name })
		version, err := v.writeApp(ctx, a.Name, of, digests)
		switch {
		case err != nil:
			failed = firstError(failed, err)
			for _, j := range of {
				undone[j.slot] = true
			}
		case version > 0:
			l.versions[a.Name] = version
		}
	}
	if ctx.Err() != nil {
		return firstError(failed, Classify("set", secretsOf(all[0].slot.Object), ctx.Err()))
	}
	v.spread(all, func(j judged) bool { return undone[j.slot] }, func(j *judged, _ entries.Slot) { undone[j.slot] = true })
	key := v.inv.HashKey()
	for _, j := range all {
		if !undone[j.slot] {
			l.names[j.slot] = v.note(key, j, l.names[j.slot], digests[j.slot])
		}
	}
	return firstError(failed, v.save(ctx, l))
}

// writeApp sets secrets of one app, and notes the digests that Fly shows then.
func (v *vault) writeApp(ctx context.Context, app string, of []judged, digests map[entries.Slot]string) (version uint64, err error) {
	values := map[string]*secret.Value{}
	for _, j := range of {
		switch j.need {
		case needTake:
			live, _ := v.seen(j.slot)
			digests[j.slot] = live.Digest
		case needSettle:
			digests[j.slot] = v.ledger.names[j.slot].Digest
			values[noSecret] = nil
		default:
			text := j.text()
			values[j.slot.Key] = &text
		}
	}
	if len(values) > 1 {
		delete(values, noSecret)
	}
	if len(values) == 0 {
		return 0, nil
	}
	written, err := v.set(ctx, app, values)
	if err != nil {
		return 0, Classify("set", secretsOf(app), err)
	}
	v.memory.versions[app] = written.Version
	shown := map[string]string{}
	for _, s := range written.Secrets {
		shown[s.Name] = s.Digest
	}
	for _, j := range of {
		if _, set := values[j.slot.Key]; !set {
			continue
		}
		if shown[j.slot.Key] == "" { // the answer need not tell all
			live, err := v.list(ctx, Topic{App: app, Section: SectionSecrets}, true)
			if err != nil {
				return 0, err
			}
			for name, s := range live.byName {
				shown[name] = s.Digest
			}
		}
		if digests[j.slot] = shown[j.slot.Key]; digests[j.slot] == "" {
			return 0, &reconcile.Error{
				Kind: reconcile.Unavailable, Op: "set", Object: secretsOf(app),
				Err: errors.New("what was set is not shown: " + j.slot.Key),
			}
		}
	}
	return written.Version, nil
}

// set writes, and has read anew what was read before.
func (v *vault) set(ctx context.Context, app string, values map[string]*secret.Value) (api.SecretsWritten, error) {
	defer v.org.Touch(Topic{App: app, Section: SectionSecrets})
	return v.org.Client().SetSecrets(ctx, app, values)
}

// note is what is written down of a secret that is as it is to be.
func (v *vault) note(key []byte, j judged, was noted, digest string) noted {
	if j.need == needSettle {
		was.Writing = false
		return was
	}
	n := noted{Digest: digest, Generated: j.generated, Rotation: j.rotation, Taken: j.need == needTake, Hash: v.hash(key, j.wantedSecret)}
	if !j.generated {
		for _, slot := range j.of {
			n.Of = append(n.Of, slotName(slot))
		}
	}
	return n
}

// save writes the ledger down.
func (v *vault) save(ctx context.Context, l ledger) error {
	r := v.record
	r.ID, r.Needs, r.Data = v.request.Resource.ID, v.request.Resource.Needs, l.data()
	r.Spec = EncodeSpec(forge.FlySecretsSpec{})
	var err error
	if l.writing() {
		err = v.inv.Begin(ctx, r)
	} else {
		err = v.inv.Commit(ctx, r)
	}
	if err == nil {
		v.record, v.has = r, true
		v.ledger = l.clone()
	}
	return err
}
