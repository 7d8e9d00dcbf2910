package fly

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Kinds of entries of addresses.
const (
	entryAddress = "address" // forged assigned it, and may release it
	entryFound   = "found"   // it was there, and is never released
)

// outputAddress and the type of an address are the output that it is; the host
// name that Fly gives to every app is [forge.OutputHost].
const outputAddress = "address/"

// NewIPs makes the provider of kind "fly-ips": the public addresses of an app.
// That there is one of each type that is asked for is all that counts. What
// forged did not assign does as well, and is never released.
func NewIPs(a *Accounts) reconcile.Provider {
	p := &inside{look: lookAtAddresses, place: func(r reconcile.Request) (string, bool) {
		spec, ok := r.Resource.Spec.(forge.FlyIPsSpec)
		return spec.App, ok
	}}
	p.begin(a, forge.KindFlyIPs, SectionIPs)
	return p
}

// addresses are those of one app.
type addresses struct {
	within
	spec  forge.FlyIPsSpec
	live  []address // in order
	noApp bool
}

// address is a public one of an app.
type address struct {
	kind string
	api.IP
}

// list is what is read of an app, kept as one value.
type list[T any] struct {
	items []T
	noApp bool // that is why there are none
}

// listed reads a list of an app. An app that does not exist has nothing.
func listed[T any](ctx context.Context, w within, read func(context.Context) ([]T, error)) (list[T], error) {
	if !w.Fresh && w.Org.lacks(w.app) {
		return list[T]{noApp: true}, nil
	}
	return Read(ctx, w.Org, w.topic(), func(ctx context.Context) (list[T], error) {
		items, err := read(ctx)
		if api.KindOf(err) == api.NotFound {
			return list[T]{noApp: true}, nil
		}
		return list[T]{items: items}, Classify("read", w.topic().String(), err)
	})
}

func lookAtAddresses(ctx context.Context, w within) (sight, error) {
	all, err := listed(ctx, w, func(ctx context.Context) ([]api.IP, error) { return w.client.IPs(ctx, w.app) })
	if err != nil {
		return nil, err
	}
	s := &addresses{within: w, spec: w.Request.Resource.Spec.(forge.FlyIPsSpec), noApp: all.noApp}
	for _, ip := range all.items {
		if kind := ip.Type(); kind != api.PrivateIP { // which is nobody's way in
			s.live = append(s.live, address{kind, ip})
			w.shown(ip.Address)
		}
	}
	for _, e := range w.Record.Entries { // what a listing does not show yet
		if e.Kind == entryAddress && !all.noApp && !s.has(e.Identity) && w.young(e.Identity) {
			s.live = append(s.live, address{e.Name, api.IP{Address: e.Identity}})
		}
	}
	slices.SortFunc(s.live, func(a, b address) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.Address, b.Address))
	})
	if w.Request.Remove { // what an interrupted action has made goes, too
		for _, kind := range []string{api.SharedIPv4, api.IPv4, api.IPv6} {
			all := s.of(kind)
			if _, known := s.entry(kind); !known && len(all) == 1 && s.claims(kind, all[0].CreatedAt.Time) {
				s.Record.Entries = append(s.Record.Entries, Entry{Kind: entryAddress, Name: kind, Identity: all[0].Address})
			}
		}
	}
	return s, nil
}

// wanted are the types that are asked for.
func (s *addresses) wanted() []string {
	if s.Request.Remove {
		return nil
	}
	var kinds []string
	switch s.spec.V4 {
	case "shared":
		kinds = append(kinds, api.SharedIPv4)
	case "dedicated":
		kinds = append(kinds, api.IPv4)
	}
	if s.spec.V6 {
		kinds = append(kinds, api.IPv6)
	}
	return kinds
}

func (s *addresses) has(ip string) bool {
	return slices.ContainsFunc(s.live, func(a address) bool { return a.Address == ip })
}

// of are the addresses of a type.
func (s *addresses) of(kind string) []address {
	return slices.DeleteFunc(slices.Clone(s.live), func(a address) bool { return a.kind != kind })
}

// entry is what is recorded of a type.
func (s *addresses) entry(kind string) (Entry, bool) {
	i := slices.IndexFunc(s.Record.Entries, func(e Entry) bool { return e.Name == kind })
	if i < 0 {
		return Entry{}, false
	}
	return s.Record.Entries[i], true
}

func called(kind string) string {
	switch kind {
	case api.SharedIPv4:
		return "shared IPv4 address"
	case api.IPv4:
		return "dedicated IPv4 address"
	default:
		return "IPv6 address"
	}
}

// observed implements sight.
func (s *addresses) observed() reconcile.Observed {
	o := reconcile.Observed{Exists: s.Recorded, Outputs: reconcile.Outputs{}, Health: reconcile.Health{Status: reconcile.Ready}}
	var reached, missing []string
	for _, kind := range s.wanted() {
		all := s.of(kind)
		if len(all) == 0 {
			missing = append(missing, "the "+called(kind))
			continue
		}
		is := all[0].Address
		if e, ok := s.entry(kind); ok && s.has(e.Identity) {
			is = e.Identity
		}
		reached = append(reached, is)
		o.Outputs[outputAddress+kind] = reconcile.Output{Value: is}
	}
	for _, e := range s.Record.Entries {
		if e.Kind == entryAddress && s.has(e.Identity) {
			o.Objects++
		}
	}
	if len(reached) > 0 {
		host := s.app + ".fly.dev"
		o.Outputs[forge.OutputHost] = reconcile.Output{Value: host}
		o.Health.Message = host + " has " + strings.Join(reached, " and ")
	}
	if len(missing) > 0 {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "app " + s.app + " lacks " + strings.Join(missing, " and ")}
	}
	return o
}

// plan implements sight.
func (s *addresses) plan() ([]reconcile.Step, error) {
	var steps []reconcile.Step
	wanted := s.wanted()
	for _, kind := range wanted {
		if e, ok := s.entry(kind); !ok || !s.has(e.Identity) {
			steps = append(steps, s.getting(kind, e))
		}
	}
	for _, e := range s.Record.Entries {
		if e.Kind == entryAddress && s.has(e.Identity) && !slices.Contains(wanted, e.Name) {
			steps = append(steps, s.releasing(e))
		}
		if e.Kind == entryAddress && !s.has(e.Identity) && !slices.Contains(wanted, e.Name) && !s.noApp && !s.Request.Remove {
			steps = append(steps, s.step(reconcile.ActionForget, called(e.Name)+" "+e.Identity+" of app "+s.app,
				reconcile.Reason{Code: reconcile.ReasonUnwanted, Text: "not there any more"}, e.Name, e.Identity))
		}
	}
	return steps, nil
}

// getting is the step to an address of a type; e is what is recorded of the
// type.
func (s *addresses) getting(kind string, e Entry) reconcile.Step {
	object := called(kind) + " of app " + s.app
	action, why := reconcile.ActionCreate, reconcile.Reason{Code: reconcile.ReasonAbsent}
	there := s.of(kind)
	switch {
	case s.noApp: // it comes with the app
	case e.Identity != "":
		action, why = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: someone, Text: e.Identity + " was released"}
		if kind == api.IPv4 {
			why.Text += "; Fly gives another one, and DNS has to follow"
		}
	case !s.intended(kind).IsZero():
		action, why = reconcile.ActionRepair, reconcile.Reason{Code: reconcile.ReasonInterrupted}
	case len(there) > 0:
		why = reconcile.Reason{Code: reconcile.ReasonOwnership, Text: there[0].Address + " is there already; forged did not assign it, and never releases it"}
	}
	token := []string{kind, e.Identity}
	for _, a := range there {
		token = append(token, a.Address)
	}
	return s.step(action, object, why, token...)
}

func (s *addresses) releasing(e Entry) reconcile.Step {
	why := reconcile.Reason{Code: reconcile.ReasonUnwanted, Text: "an address that was released does not come back; names in DNS must not lead to it any more"}
	step := s.step(reconcile.ActionDelete, called(e.Name)+" "+e.Identity+" of app "+s.app, why, e.Name, e.Identity)
	step.Deletes, step.Late = 1, !s.Request.Remove
	return step
}

// apply implements sight.
func (s *addresses) apply(ctx context.Context, step reconcile.Step) error {
	kind, identity, _ := strings.Cut(step.Token, " ")
	switch step.Action {
	case reconcile.ActionDelete:
		return s.release(ctx, identity)
	case reconcile.ActionForget:
		next := s.next()
		disown(&next, identity)
		return s.Inventory.Commit(ctx, next)
	default:
		return s.get(ctx, kind, step.Object)
	}
}

func (s *addresses) release(ctx context.Context, ip string) error {
	if err := s.client.ReleaseIP(ctx, s.app, ip); err != nil {
		return Classify("release", "address "+ip+" of app "+s.app, err)
	}
	next := s.next()
	disown(&next, ip)
	if s.Request.Remove && !slices.ContainsFunc(next.Entries, func(e Entry) bool { return e.Kind == entryAddress }) {
		return s.Inventory.Drop(ctx, s.ID())
	}
	return s.Inventory.Commit(ctx, next)
}

// get assigns an address, unless there is one.
func (s *addresses) get(ctx context.Context, kind, object string) error {
	const op = "assign"
	if s.noApp {
		return s.appless(op, object)
	}
	if len(s.of(kind)) == 0 && !s.intended(kind).IsZero() {
		if err := s.settle(ctx, kind); err != nil {
			return Classify(op, object, err)
		}
		if err := s.again(ctx); err != nil {
			return err
		}
	}
	next := s.next()
	if e, ok := s.entry(kind); ok {
		disown(&next, e.Identity)
	}
	if len(s.of(kind)) > 0 {
		return s.take(ctx, next, kind)
	}
	intend(&next, kind)
	if err := s.Inventory.Begin(ctx, next); err != nil {
		return err
	}
	s.Record = next.clone()
	ip, err := s.client.AssignIP(ctx, s.app, api.AssignIP{Type: kind})
	if err == nil {
		next.Entries = append(next.Entries, Entry{Kind: entryAddress, Name: kind, Identity: ip.Address})
		bear(&next, ip.Address)
		delete(next.Data, intent+kind)
		return s.Inventory.Commit(ctx, next)
	}
	// Fly may have assigned it all the same, or somebody was faster.
	switch api.KindOf(err) {
	case api.Ambiguous:
		if waited := s.settle(ctx, kind); waited != nil {
			return Classify(op, object, err)
		}
	default:
		if ctx.Err() != nil {
			return Classify(op, object, err)
		}
	}
	if again := s.again(ctx); again != nil {
		return Classify(op, object, err)
	}
	if len(s.of(kind)) > 0 {
		return s.take(ctx, next, kind)
	}
	return s.vain(ctx, next, kind, Classify(op, object, err))
}

// again lists the addresses once more.
func (s *addresses) again(ctx context.Context) error {
	s.Org.Touch(s.topic())
	fresh, err := lookAtAddresses(ctx, s.within)
	if err != nil {
		return err
	}
	s.live = fresh.(*addresses).live
	return nil
}

// take writes down an address that is there: as ours if it can only be what an
// action of ours has made that was not seen to end.
func (s *addresses) take(ctx context.Context, next Record, kind string) error {
	all := s.of(kind)
	e := Entry{Kind: entryFound, Name: kind, Identity: all[0].Address}
	if len(all) == 1 && s.claims(kind, all[0].CreatedAt.Time) {
		e.Kind = entryAddress
	}
	next.Entries = append(next.Entries, e)
	delete(next.Data, intent+kind)
	return s.Inventory.Commit(ctx, next)
}
