package external

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Roles is the provider of kind "roles": roles of a PostgreSQL that somebody
// else runs, databases for them, and the rights that an app needs there. What
// it has made it marks with a comment on the role. It drops nothing.
type Roles struct {
	sources  sources
	instance string
	schedule *schedule[survey]
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	known map[forge.ID]map[string]remembered // by role
}

// remembered is what this process knows of a role that was as it should be.
type remembered struct {
	digest    string            // of what was asked for
	password  [sha256.Size]byte // fingerprint of the one that was right
	databases []string
	marked    bool // it bore our mark
}

var _ reconcile.Provider = (*Roles)(nil)

// NewRoles makes the provider. instance is the id of this forged.
func NewRoles(clusters *kubernetes.Clusters, resolver *secret.Resolver, instance string) *Roles {
	return newRoles(clusters, resolver, instance, usualPace())
}

func newRoles(clusters *kubernetes.Clusters, resolver *secret.Resolver, instance string, p pace) *Roles {
	return &Roles{
		sources: sources{clusters, resolver}, instance: instance,
		schedule: newSchedule(p, causeAnswer, func(s survey) bool { return s.trouble == nil }),
		dial:     (&net.Dialer{}).DialContext,
		known:    map[forge.ID]map[string]remembered{},
	}
}

// wantedRole is a role that is asked for.
type wantedRole struct {
	name      string
	password  secret.Value
	source    string // where its password comes from, for people
	databases []string
	digest    string // of all that is no secret
}

// wanted is what one resource asks for.
type wanted struct {
	id     forge.ID
	policy forge.Policy
	mark   string // of who asks: instance and environment
	admin  postgresLogin
	roles  []wantedRole
}

// want reads what a resource asks for.
func (p *Roles) want(ctx context.Context, r reconcile.Request, spec forge.RolesSpec) (*wanted, [sha256.Size]byte, error) {
	refs := []forge.SecretRef{spec.Admin, spec.CABundle}
	for _, role := range spec.Roles {
		refs = append(refs, role.URL)
	}
	l := p.sources.read(ctx, r, spec.Namespace, refs...)
	s := subject{service: servicePostgres, field: fieldPostgresAdmin, limit: p.schedule.pace.limit}
	w := &wanted{id: r.Resource.ID, policy: r.Policy, mark: p.instance + "/" + r.Resource.ID.Environment}
	bundle, admin := l.text(ctx, s.key("caBundle"), spec.CABundle), l.line(ctx, fieldPostgresAdmin, spec.Admin)
	l.note("sslMode", secret.New([]byte(spec.SSLMode)))
	for _, role := range spec.Roles {
		w.roles = append(w.roles, l.role(ctx, role))
	}
	if l.err != nil {
		return nil, l.print, l.err
	}
	var t *trouble
	if w.admin, t = newPostgresLogin(s, admin, fieldPostgresAdmin, spec.SSLMode, bundle); t != nil {
		return nil, l.print, l.invalid(t)
	}
	w.admin.dial = p.dial
	for i, role := range w.roles {
		if slices.ContainsFunc(w.roles[:i], func(other wantedRole) bool { return other.name == role.name }) {
			return nil, l.print, l.invalid(fmt.Errorf("role %s is asked for twice; let %s name another one", role.name, fieldPostgresURL))
		}
	}
	return w, l.print, nil
}

// role reads what is asked for of one role.
func (l *reading) role(ctx context.Context, role forge.Role) wantedRole {
	w := wantedRole{name: role.Name, databases: role.Databases, source: role.Password.From.String()}
	if !role.URL.IsZero() {
		url := l.line(ctx, fieldPostgresURL, role.URL)
		if l.err != nil {
			return w
		}
		login, t := newPostgresLogin(subject{service: servicePostgres}, url, fieldPostgresURL, "", secret.Value{})
		if t != nil {
			l.err = l.invalid(t)
			return w
		}
		w = wantedRole{name: login.user, password: login.password, source: fieldPostgresURL, databases: []string{login.path}}
	} else {
		w.password = l.input(role.Password.From, role.Password.Output)
	}
	if l.err == nil && w.password.IsZero() {
		l.err = l.invalid(fmt.Errorf("%s has no password for role %s", w.source, w.name))
	}
	h := sha256.New()
	for _, text := range append([]string{w.name}, w.databases...) {
		fmt.Fprintf(h, "%d %s", len(text), text)
	}
	w.digest = hex.EncodeToString(h.Sum(nil)[:8])
	l.note(w.name, secret.New([]byte(strings.Join(w.databases, "\x00"))))
	return w
}

// Observe implements reconcile.Provider. Outputs: none.
func (p *Roles) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.RolesSpec)
	if !ok {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	if r.Remove {
		// Roles and databases stay when nobody asks for them any more.
		p.schedule.forget(id)
		p.sources.letGo(ctx, r.Resource)
		return reconcile.Observed{}, nil
	}
	w, print, err := p.want(ctx, r, spec)
	if reconcile.KindOf(err) == reconcile.Waiting {
		return reconcile.Observed{Detail: err}, nil // told when it is planned
	}
	if err != nil {
		return reconcile.Observed{}, err
	}
	s, err := p.schedule.get(ctx, id, print, w.survey)
	if err != nil {
		return reconcile.Observed{}, kubernetes.Classify("look at roles", kubernetes.Ref{}, err)
	}
	return p.observed(w, s)
}

func (p *Roles) observed(w *wanted, s survey) (reconcile.Observed, error) {
	if s.trouble != nil {
		return reconcile.Observed{}, s.trouble.failure(w.id, "look at roles")
	}
	p.remember(w, s)
	seen := &seen{wanted: w, survey: s}
	o := reconcile.Observed{
		Exists: true, Detail: seen, Notices: s.notices, Expires: s.expires,
		Health: reconcile.Health{Status: reconcile.Ready},
	}
	var missing []string
	for _, role := range w.roles {
		f := s.roles[role.name]
		if f.exists {
			o.Objects++
		} else {
			o.Exists = false
		}
		if !f.right() {
			missing = append(missing, "role "+role.name)
		}
		for _, database := range role.databases {
			if !s.databases[place{role.name, database}].right() {
				missing = append(missing, "database "+database)
			}
		}
	}
	if len(missing) > 0 {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "not as it should be: " + strings.Join(missing, ", ")}
	}
	return o, nil
}

// failure is trouble as an error of a provider.
func (t *trouble) failure(id forge.ID, op string) error {
	kind := reconcile.Unavailable
	switch t.code {
	case codeURL, codeCertificate:
		kind = reconcile.Invalid
	case codeLogin, codePermission, codeDatabase:
		kind = reconcile.Denied
	}
	return &reconcile.Error{Kind: kind, ID: id, Op: op, Err: &trouble{code: t.code, text: t.text}, Hint: t.hint}
}

// remember takes down which roles are as they should be: what is not so later
// was changed by somebody else.
func (p *Roles) remember(w *wanted, s survey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, role := range w.roles {
		if !s.right(role) {
			continue
		}
		if p.known[w.id] == nil {
			p.known[w.id] = map[string]remembered{}
		}
		p.known[w.id][role.name] = remembered{
			digest: role.digest, password: fingerprint(role.password), databases: role.databases,
			marked: p.known[w.id][role.name].marked || markOf(s.roles[role.name].comment).owner == w.mark,
		}
	}
}

func (p *Roles) remembered(id forge.ID, role string) remembered {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[id][role]
}

func fingerprint(v secret.Value) [sha256.Size]byte { return sha256.Sum256(v.Reveal()) }

// Watch implements reconcile.Provider: it looks again when it is time.
func (p *Roles) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return watchBoth(ctx, notify, p.schedule.watch, func(ctx context.Context, notify func(reconcile.Event)) error {
		return p.sources.clusters.Watch(ctx, forge.KindRoles, notify)
	})
}
