// Package minikube has images of this machine in the node of a Minikube, by the
// program minikube itself. An image that is there stays: nothing is unloaded.
package minikube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

const (
	program     = "minikube"
	listTimeout = 45 * time.Second
	loadTimeout = 10 * time.Minute // an image may have gigabytes
	goodbye     = 5 * time.Second  // for what a program leaves behind to let go of its output

	cause    = "image"
	somebody = "somebody in the node"
)

// Images is the provider of kind "image".
type Images struct {
	fresh time.Duration // for so long a list is as good as a new one

	mu       sync.Mutex
	profiles map[string]*profile
}

var _ reconcile.Provider = (*Images)(nil)

// NewImages makes the provider.
func NewImages() *Images {
	return &Images{fresh: time.Minute, profiles: map[string]*profile{}}
}

// profile is one Minikube.
type profile struct {
	name string
	turn chan struct{} // held by who runs the program for it

	mu     sync.Mutex
	images []image
	listed time.Time            // zero: not known
	wanted map[forge.ID]*wanted // who asks for what
}

// wanted is what a resource asks for, and whether it had it.
type wanted struct {
	image string
	had   bool
}

// image is one line of what minikube lists.
type image struct {
	Digests []string `json:"repoDigests"`
	Tags    []string `json:"repoTags"`
}

func (p *Images) profile(name string) *profile {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.profiles[name] == nil {
		p.profiles[name] = &profile{name: name, turn: make(chan struct{}, 1), wanted: map[forge.ID]*wanted{}}
	}
	return p.profiles[name]
}

// seen is what an Observe hands to Plan.
type seen struct{ there, had bool }

// Observe implements reconcile.Provider.
func (p *Images) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.ImageSpec)
	if !ok {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	m := p.profile(spec.Profile)
	if r.Remove { // it stays: pods may run from it
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.wanted, id)
		return reconcile.Observed{}, nil
	}
	images, err := m.list(ctx, p.fresh)
	if err != nil {
		return reconcile.Observed{}, about(err, id, spec.Image)
	}
	there := slices.ContainsFunc(images, func(i image) bool { return i.is(spec.Image) })
	m.mu.Lock()
	w := m.wanted[id]
	if w == nil || w.image != spec.Image {
		w = &wanted{image: spec.Image}
		m.wanted[id] = w
	}
	w.had = w.had || there
	had := w.had
	m.mu.Unlock()

	o := reconcile.Observed{Exists: there, Detail: seen{there, had}, Health: reconcile.Health{Status: reconcile.Ready}}
	if !there {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: spec.Image + " is not in the node"}
	}
	return o, nil
}

// Plan implements reconcile.Provider.
func (p *Images) Plan(_ context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	s, ok := o.Detail.(seen)
	spec, fits := r.Resource.Spec.(forge.ImageSpec)
	switch {
	case r.Remove:
		return nil, nil
	case !ok || !fits:
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "observed by another provider: %T", o.Detail)
	case s.there:
		return nil, nil
	}
	step := reconcile.Step{
		ID: r.Resource.ID, Action: reconcile.ActionCreate, Object: "image " + spec.Image, Detail: spec,
		Reason:  reconcile.Reason{Code: reconcile.ReasonAbsent},
		Changes: []reconcile.Change{{Path: "loads " + spec.Image + " from this machine into the node of " + spec.Profile}},
	}
	if s.had {
		step.Action, step.Reason = reconcile.ActionHeal, reconcile.Reason{Code: reconcile.ReasonDeleted, Writer: somebody}
	}
	return []reconcile.Step{step}, nil
}

// Apply implements reconcile.Provider. minikube says that all is well where it
// was not, so that the node is asked again.
func (p *Images) Apply(ctx context.Context, r reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	id := r.Resource.ID
	spec, ok := step.Detail.(forge.ImageSpec)
	if !ok {
		return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	if now, fits := r.Resource.Spec.(forge.ImageSpec); !fits || now != spec {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Stale, ID: id, Op: string(step.Action), Err: errors.New("another image is asked for now")}
	}
	m := p.profile(spec.Profile)
	if err := m.load(ctx, spec.Image); err != nil {
		return reconcile.Observed{}, about(err, id, spec.Image)
	}
	o, err := p.Observe(ctx, r)
	if err == nil && !o.Exists {
		err = &reconcile.Error{
			Kind: reconcile.Unavailable, ID: id, Op: string(step.Action), Object: step.Object,
			Err:  errors.New("minikube has loaded it, and it is not in the node"),
			Hint: "is it on this machine? docker image inspect " + spec.Image,
		}
	}
	return o, err
}

// Watch implements reconcile.Provider: it lists what is in the nodes now and
// then, and tells of what is gone.
func (p *Images) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	tick := time.NewTicker(p.fresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		p.mu.Lock()
		var all []*profile
		for _, m := range p.profiles {
			all = append(all, m)
		}
		p.mu.Unlock()
		for _, m := range all {
			for _, id := range m.look(ctx) {
				notify(reconcile.Event{ID: id, Cause: cause, At: time.Now(), Retry: true})
			}
		}
	}
}

// look lists anew and says who is to look: those whose image has come or gone,
// and all if the node cannot be asked.
func (m *profile) look(ctx context.Context) []forge.ID {
	m.mu.Lock()
	idle := len(m.wanted) == 0
	m.mu.Unlock()
	if idle {
		return nil
	}
	images, err := m.list(ctx, 0)
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []forge.ID
	for id, w := range m.wanted {
		if err != nil || slices.ContainsFunc(images, func(i image) bool { return i.is(w.image) }) != w.had {
			ids = append(ids, id)
		}
	}
	return ids
}

// list is what is in the node. One list serves all who ask within fresh.
func (m *profile) list(ctx context.Context, fresh time.Duration) ([]image, error) {
	if err := m.take(ctx); err != nil {
		return nil, err
	}
	defer func() { <-m.turn }()
	m.mu.Lock()
	images, known := m.images, !m.listed.IsZero() && time.Since(m.listed) < fresh
	m.mu.Unlock()
	if known {
		return images, nil
	}
	out, err := m.run(ctx, listTimeout, "image", "ls", "--format", "json")
	images = nil
	if err == nil {
		images, err = parse(out)
	}
	if err == nil && len(images) == 0 {
		// Kubernetes itself is in every node that runs; of one that does not,
		// minikube lists nothing, and says that all is well.
		err = &reconcile.Error{Kind: reconcile.Unavailable, Err: errors.New("the node has no images at all, not even its own: it does not run"), Hint: "minikube start --profile " + m.name}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.images, m.listed = images, time.Now(); err != nil {
		m.images, m.listed = nil, time.Time{}
	}
	return images, err
}

// load loads an image. What is in the node is not known after that.
func (m *profile) load(ctx context.Context, image string) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer func() { <-m.turn }()
	_, err := m.run(ctx, loadTimeout, "image", "load", image)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listed = time.Time{}
	return err
}

// take waits for the turn.
func (m *profile) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run runs minikube for the profile.
func (m *profile) run(ctx context.Context, limit time.Duration, args ...string) ([]byte, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, &reconcile.Error{
			Kind: reconcile.Unavailable, Err: errors.New("there is no program minikube on the PATH"),
			Hint: "install it, or leave platform.loadImages out and load the image by other means",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"--profile", m.name}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, goodbye
	err = cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, &reconcile.Error{Kind: reconcile.Unavailable, Err: fmt.Errorf("minikube did not end within %s", limit), Hint: "minikube status --profile " + m.name}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &reconcile.Error{Kind: reconcile.Unavailable, Err: fmt.Errorf("minikube: %w%s", err, said(errs.String())), Hint: "minikube start --profile " + m.name}
	}
	return out.Bytes(), nil
}

// said is the end of what a program has complained about.
func said(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if text == "" {
		return ""
	}
	if r := []rune(text); len(r) > most {
		text = "…" + string(r[len(r)-most:])
	}
	return ": " + text
}

func about(err error, id forge.ID, image string) error {
	var e *reconcile.Error
	if !errors.As(err, &e) {
		e = &reconcile.Error{Kind: reconcile.Unavailable, Err: err}
	}
	e.ID, e.Object = id, "image "+image
	if e.Op == "" {
		e.Op = "look for"
	}
	return e
}

// parse reads a list. minikube may write before it what a new version there is.
func parse(out []byte) ([]image, error) {
	if strings.TrimSpace(string(out)) == "null" {
		return nil, nil
	}
	for len(out) > 0 && out[0] != '[' {
		if _, out, _ = bytes.Cut(out, []byte("\n")); len(out) == 0 {
			break
		}
	}
	var images []image
	if json.NewDecoder(bytes.NewReader(out)).Decode(&images) != nil {
		return nil, &reconcile.Error{Kind: reconcile.Internal, Err: errors.New("minikube image ls has not answered with a list"), Hint: "a minikube of 1.28 or newer is needed"}
	}
	return images, nil
}

// is tells whether an image is the one that goes by a name.
func (i image) is(name string) bool {
	want := canonical(name)
	if repository, digest, ok := strings.Cut(want, "@"); ok {
		return slices.ContainsFunc(i.Digests, func(d string) bool { return canonical(d) == untagged(repository)+"@"+digest })
	}
	return slices.ContainsFunc(i.Tags, func(t string) bool { return canonical(t) == want })
}

// canonical is the whole name of an image, as container runtimes list it.
func canonical(name string) string {
	first, _, ok := strings.Cut(name, "/")
	switch {
	case !ok:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		name = "docker.io/" + name
	}
	if !strings.Contains(name, "@") && untagged(name) == name {
		name += ":latest"
	}
	return name
}

// untagged is a name without its tag.
func untagged(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
