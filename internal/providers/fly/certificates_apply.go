package fly

import (
	"context"
	"errors"
	"slices"
	"strings"

	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// apply implements sight.
func (s *certificate) apply(ctx context.Context, step reconcile.Step) error {
	words := strings.Fields(step.Token)
	if len(words) < 2 {
		return reconcile.Errorf(reconcile.Internal, "apply", "a step without its subject")
	}
	kind, app := words[0], words[1]
	if step.Action == reconcile.ActionDelete {
		return s.remove(ctx, kind, app)
	}
	next := s.next()
	if !s.has(kind, app) {
		next.Entries = append(next.Entries, Entry{Kind: kind, Name: app, Identity: s.spec.Hostname})
	}
	if kind == entryCustom {
		delete(next.Data, dataFingerprint) // nobody knows which it is, until it is uploaded
	}
	if err := s.Inventory.Begin(ctx, next); err != nil {
		return err
	}
	var err error
	if kind == entryCustom {
		err = s.upload(ctx, app)
	} else if s.live == nil || !s.live.ACMERequested {
		_, err = s.client.RequestCertificate(ctx, app, s.spec.Hostname)
	}
	if err = s.judged(ctx, kind, app, err); err != nil {
		return err
	}
	if kind == entryCustom {
		next.Data[dataFingerprint], next.Data[dataExpires] = s.pair.fingerprint, s.pair.expires()
	}
	return s.Inventory.Commit(ctx, next)
}

// upload puts the user's own certificate in the place of one that is there. The
// documents do not say whether Fly takes a second one: if it does not, the old
// one goes first. The new one was looked at before, so that Fly takes it.
func (s *certificate) upload(ctx context.Context, app string) error {
	_, err := s.client.UploadCertificate(ctx, app, s.spec.Hostname, s.pair.chain, s.pair.key)
	var refused *api.Error
	if s.found(api.CertificateCustom) == nil || !errors.As(err, &refused) || !strings.Contains(refused.Text, "already") {
		return err
	}
	if err := s.client.DeleteCustomCertificate(ctx, app, s.spec.Hostname); err != nil {
		return err
	}
	_, err = s.client.UploadCertificate(ctx, app, s.spec.Hostname, s.pair.chain, s.pair.key)
	return err
}

// judged looks whether an action that failed has come to its end all the same.
func (s *certificate) judged(ctx context.Context, kind, app string, err error) error {
	if err == nil {
		return nil
	}
	failed := Classify("request", s.object()+" of app "+app, err)
	switch api.KindOf(err) {
	case api.Taken, api.Conflict, api.Ambiguous:
	case api.NotFound:
		return &reconcile.Error{Kind: reconcile.Unavailable, Op: "request", Object: s.object(), Err: err, Hint: "it goes on when app " + app + " is there"}
	default:
		return failed
	}
	if kind == entryCustom {
		return failed // which one Fly has now cannot be seen: it is uploaded again
	}
	s.Org.Touch(s.topic())
	live, again := s.read(ctx, app)
	switch {
	case again == nil && live != nil && live.ACMERequested:
		return nil
	case api.KindOf(err) == api.Taken:
		return &reconcile.Error{
			Kind: reconcile.Conflict, Op: "request", Object: s.object(), Err: err,
			Hint: "another app may have the host name: remove it there with fly certs remove " + s.spec.Hostname,
		}
	}
	return failed
}

// remove takes away what is ours. What somebody else has added to the host name
// stays.
func (s *certificate) remove(ctx context.Context, kind, app string) error {
	s.Org.Touch(Topic{App: app, Section: SectionCertificates}) // which may be another app than that of now
	live, err := s.read(ctx, app)
	if err != nil {
		return err
	}
	if !s.lent {
		another, err := s.Inventory.another(ctx, app)
		if err != nil {
			return err
		}
		if another {
			live = nil // what has the host name there is not ours
		}
	}
	other := api.CertificateCustom
	if kind == entryCustom {
		other = entryACME
	}
	rest := live != nil && (other == entryACME && live.ACMERequested ||
		other != entryACME && slices.ContainsFunc(live.Certificates, func(c api.CertificateEntry) bool { return c.Source == other }))
	switch {
	case live == nil:
	case !rest:
		err = s.client.DeleteCertificate(ctx, app, s.spec.Hostname)
	case kind == entryCustom:
		err = s.client.DeleteCustomCertificate(ctx, app, s.spec.Hostname)
	default:
		err = s.client.DeleteACMECertificate(ctx, app, s.spec.Hostname)
	}
	s.Org.Touch(Topic{App: app, Section: SectionCertificates})
	if err != nil {
		return Classify("remove", s.object()+" of app "+app, err)
	}
	next := s.next()
	next.Entries = slices.DeleteFunc(next.Entries, func(e Entry) bool { return e.Kind == kind && e.Name == app })
	if kind == entryCustom {
		delete(next.Data, dataFingerprint)
		delete(next.Data, dataExpires)
	}
	if s.Request.Remove && len(next.Entries) == 0 {
		return s.Inventory.Drop(ctx, s.ID())
	}
	return s.Inventory.Commit(ctx, next)
}
