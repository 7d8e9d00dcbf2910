package fly

import (
	"context"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
)

// Kinds of entries of certificates. The name of an entry is the app, its
// identity the host name.
const (
	entryACME   = "acme"   // Fly gets it and renews it
	entryCustom = "custom" // the user's own
)

// Keys of the data of a record.
const (
	dataFingerprint = "fingerprint" // of the certificate that was uploaded last
	dataExpires     = "expires"     // when that does
)

// certificates is the provider of kind "fly-certificate".
type certificates struct {
	inside
	resolver *secret.Resolver
	checks   *checks
}

// NewCertificates makes the provider of kind "fly-certificate": the certificate
// of one host name of an app, which Fly gets and renews or which is the user's
// own. A private key is read where forge.cue says it is, and goes nowhere but to
// Fly.
func NewCertificates(a *Accounts, resolver *secret.Resolver) reconcile.Provider {
	p := &certificates{resolver: resolver, checks: newChecks()}
	p.look = p.lookAt
	p.place = func(r reconcile.Request) (string, bool) {
		spec, ok := r.Resource.Spec.(forge.FlyCertificateSpec)
		if spec.App != "" {
			return spec.App, ok
		}
		return r.Inputs[spec.AppFrom.From][spec.AppFrom.Output].Value, ok
	}
	p.lent = func(s forge.Spec) bool {
		spec, ok := s.(forge.FlyCertificateSpec)
		return ok && spec.App == "" // a cluster was asked which app is its own
	}
	p.begin(a, forge.KindFlyCertificate, SectionCertificates)
	return p
}

// Watch implements reconcile.Provider.
func (p *certificates) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { p.checks.run(ctx, notify) })
	defer work.Wait()
	defer cancel()
	return p.inside.Watch(ctx, notify)
}

// Follows implements reconcile.Follower. Files and vaults tell nobody of a new
// certificate: those are asked in every round.
func (p *certificates) Follows(r forge.Resource) bool {
	spec, ok := r.Spec.(forge.FlyCertificateSpec)
	own := []forge.SecretObject{{Entries: []forge.SecretEntry{{Ref: &spec.Chain}, {Ref: &spec.Key}}}}
	return ok && !entries.Silent(own) && p.inside.Follows(r)
}

// certificate is that of one host name.
type certificate struct {
	within
	provider *certificates
	spec     forge.FlyCertificateSpec
	live     *api.Certificate // nil: the app does not know the host name
	pair     *pair            // the user's own; nil: Fly gets one, or
	unusable error            // it cannot be used
}

// details are what was read of the host names of one app. One is made with
// every change of what a listing shows; what it does not hold yet is read when
// it is asked for.
type details struct {
	turn  chan struct{}
	hosts map[string]*api.Certificate
}

func (d *details) of(ctx context.Context, host string, read func(context.Context) (*api.Certificate, error)) (*api.Certificate, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c, ok := d.hosts[host]; ok {
		return c, nil
	}
	c, err := read(ctx)
	if err == nil {
		d.hosts[host] = c
	}
	return c, err
}

func (p *certificates) lookAt(ctx context.Context, w within) (sight, error) {
	s := &certificate{within: w, provider: p, spec: w.Request.Resource.Spec.(forge.FlyCertificateSpec)}
	if s.app == "" && len(w.Record.Entries) > 0 {
		s.app = w.Record.Entries[0].Name // where it was made
		s.follow()
	}
	if s.app != "" {
		var err error
		if s.live, err = s.read(ctx, s.app); err != nil {
			return nil, err
		}
	}
	if !w.Request.Remove && !s.spec.Chain.IsZero() {
		s.pair, s.unusable = p.resolve(ctx, w.Request, s.spec) // told when it is planned: what there is can be observed
	}
	s.ask()
	return s, nil
}

// read reads what an app knows of the host name.
func (s *certificate) read(ctx context.Context, app string) (*api.Certificate, error) {
	if !s.Fresh && s.Org.lacks(app) {
		return nil, nil
	}
	topic := Topic{App: app, Section: SectionCertificates}
	all, err := Read(ctx, s.Org, topic, func(context.Context) (*details, error) {
		return &details{turn: make(chan struct{}, 1), hosts: map[string]*api.Certificate{}}, nil
	})
	if err != nil {
		return nil, err
	}
	c, err := all.of(ctx, s.spec.Hostname, func(ctx context.Context) (*api.Certificate, error) {
		c, err := s.client.Certificate(ctx, app, s.spec.Hostname)
		if api.KindOf(err) == api.NotFound {
			return nil, nil
		}
		return &c, err
	})
	return c, Classify("read", s.object(), err)
}

func (s *certificate) object() string { return "certificate for " + s.spec.Hostname }

// kind is the one that is asked for.
func (s *certificate) kind() string {
	if s.spec.Chain.IsZero() {
		return entryACME
	}
	return entryCustom
}

func (s *certificate) has(kind, app string) bool {
	return slices.ContainsFunc(s.Record.Entries, func(e Entry) bool { return e.Kind == kind && e.Name == app })
}

// found is the certificate of a source that Fly has; nil: none.
func (s *certificate) found(source string) *api.CertificateEntry {
	if s.live == nil {
		return nil
	}
	i := slices.IndexFunc(s.live.Certificates, func(c api.CertificateEntry) bool { return c.Source == source })
	if i < 0 {
		return nil
	}
	return &s.live.Certificates[i]
}

// plan implements sight.
func (s *certificate) plan() ([]reconcile.Step, error) {
	if s.Request.Remove {
		return s.leftovers(""), nil
	}
	if s.app == "" {
		return nil, reconcile.WaitingFor(s.spec.AppFrom.From, s.spec.AppFrom.Output)
	}
	if s.unusable != nil {
		return nil, s.unusable
	}
	step, needed := s.requesting()
	if s.kind() == entryCustom {
		step, needed = s.uploading()
	}
	if needed {
		return []reconcile.Step{step}, nil
	}
	if s.serves() {
		return s.leftovers(s.kind()), nil
	}
	return nil, nil
}

// serves tells whether what is asked for is in use.
func (s *certificate) serves() bool {
	source := api.CertificateOfFly
	if s.kind() == entryCustom {
		source = api.CertificateCustom
	}
	c := s.found(source)
	return c != nil && c.Status == api.CertificateActive
}

// requesting is the step to a certificate that Fly gets; false: it was asked
// to.
func (s *certificate) requesting() (reconcile.Step, bool) {
	step := s.step(reconcile.ActionCreate, s.object(), reconcile.Reason{Code: reconcile.ReasonAbsent}, entryACME, s.app)
	asked := s.live != nil && s.live.ACMERequested
	ours := s.has(entryACME, s.app)
	switch {
	case asked && ours && !s.Record.Pending:
		return step, false
	case ours && s.Record.Pending:
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
	case ours:
		step.Action = reconcile.ActionHeal
		step.Reason = reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: someone}
	case s.live != nil:
		s.taking(&step)
	}
	return step, true
}

// uploading is the step to a certificate of the user's own; false: it is there.
func (s *certificate) uploading() (reconcile.Step, bool) {
	step := s.step(reconcile.ActionCreate, s.object(), reconcile.Reason{Code: reconcile.ReasonAbsent}, entryCustom, s.app, s.pair.fingerprint)
	live := s.found(api.CertificateCustom)
	ours := s.has(entryCustom, s.app)
	uploaded, expires := s.Record.Data[dataFingerprint], s.Record.Data[dataExpires]
	switch {
	case ours && s.Record.Pending:
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
	case ours && uploaded != s.pair.fingerprint:
		step.Action, step.Reason.Code = reconcile.ActionUpdate, reconcile.ReasonConfig
		step.Changes = []reconcile.Change{{Path: "certificate", From: uploaded, To: s.pair.fingerprint}, {Path: "expires", From: expires, To: s.pair.expires()}}
	case ours && live == nil:
		step.Action = reconcile.ActionHeal
		step.Reason = reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: someone}
	case ours && !live.ExpiresAt.IsZero() && moment(live.ExpiresAt.Time) != expires:
		step.Action = reconcile.ActionHeal
		step.Reason = reconcile.Reason{Code: reconcile.ReasonEdited, Writer: someone, Paths: []string{"certificate"}, Text: "another certificate was put in its place"}
		step.Changes = []reconcile.Change{{Path: "expires", From: moment(live.ExpiresAt.Time), To: expires}}
	case ours:
		return step, false
	case s.live != nil:
		s.taking(&step)
	}
	return step, true
}

// taking says of a step that the app knows the host name already.
func (s *certificate) taking(step *reconcile.Step) {
	if len(s.Record.Entries) > 0 {
		step.Action, step.Reason.Code = reconcile.ActionUpdate, reconcile.ReasonConfig
		return // we asked for it, in another way
	}
	step.Reason = reconcile.Reason{Code: reconcile.ReasonOwnership, Text: "app " + s.app + " has it already; forged looks after it from now on"}
	if s.lent {
		step.Reason.Text = "app " + s.app + " has it already"
		step.Blocked = "app " + s.app + " of the cluster has it already and forged did not ask for it: what others have on the app of a cluster is never taken over; " +
			"remove it with fly certs remove " + s.spec.Hostname + " --app " + s.app + ", and forged asks for it"
		return
	}
	if !adopts(s.Request.Policy) {
		step.Blocked = "app " + s.app + " has it already and forged did not ask for it; " +
			`remove it, or set policy.adopt to "if-unowned" to have forged look after it`
	}
}

// leftovers are the steps by which what is ours goes, but for a kind in the app
// of now.
func (s *certificate) leftovers(keep string) (steps []reconcile.Step) {
	for _, e := range s.Record.Entries {
		if keep != "" && e.Kind == keep && e.Name == s.app {
			continue
		}
		object := s.object() + " of app " + e.Name
		if e.Kind == entryCustom {
			object = "uploaded " + object
		}
		step := s.step(reconcile.ActionDelete, object, reconcile.Reason{Code: reconcile.ReasonUnwanted}, e.Kind, e.Name)
		step.Deletes, step.Late = 1, !s.Request.Remove
		steps = append(steps, step)
	}
	return steps
}

// moment is a time as records hold it.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
