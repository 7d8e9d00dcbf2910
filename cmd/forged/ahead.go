package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/schema"
)

// What is asked of others ahead of everything is not waited for longer: whether one
// cluster is there, and that with all charts together.
const (
	thereLimit = 15 * time.Second
	aheadLimit = time.Minute
)

// unreadError says that something cannot run on a cluster, unless that is there
// and can do more than others, and that this could not be read.
type unreadError struct {
	cluster string
	refused schema.Diagnostics
	err     error
}

func (e *unreadError) Error() string {
	return fmt.Sprintf("%s, and whether cluster %s is there could not be read: %v", e.refused[0].String(), e.cluster, e.err)
}

func (e *unreadError) Unwrap() error { return e.err }

// ahead looks at what is to run on clusters of Fly Kubernetes that are not there
// yet. What cannot run on them is refused before anything is made anywhere: a
// cluster costs money, and so do the databases beside it. What is there is asked
// what it can do when it is planned. Warnings are added to those of the forge;
// the error is of schema.Diagnostics, or an *unreadError.
func (w *world) ahead(ctx context.Context, l *loaded) error {
	source := chartsource.New(chartsource.Options{CacheDir: chartsDir()})
	defer source.Close()
	until := time.Now().Add(aheadLimit)
	var refused, doubtful, unknown []forge.Finding
	bad := map[string]bool{}
	var unread *unreadError
	for _, env := range l.forge.Environments {
		spec, wanted := clusterToBe(l, env.Name)
		if !wanted {
			continue
		}
		there, err := w.there(ctx, spec, until)
		if there && err == nil {
			continue
		}
		charts := chartsAhead{source, w.secrets, env.Policy.Interval, until}
		found, unseen, looked := fitJudge{load: charts.load, templates: w.templates}.environment(ctx, env)
		if looked != nil {
			return looked
		}
		unknown = append(unknown, unseen...)
		for _, f := range found {
			switch {
			case f.Rule != "fks-refused":
			case err == nil:
				refused, bad[env.Name] = append(refused, f), true
			default:
				doubtful, bad[env.Name] = append(doubtful, f), true
				if unread == nil {
					unread = &unreadError{cluster: spec.Name, err: err}
				}
			}
		}
	}
	if len(refused) > 0 {
		return withoutThem(l.source.Find(nil, refused...), l.forge, bad)
	}
	l.warnings = l.source.Find(l.warnings, unknown...)
	if unread != nil {
		unread.refused = l.source.Find(nil, doubtful...)
		return unread
	}
	return nil
}

func (w *world) there(ctx context.Context, spec forge.FlyClusterSpec, until time.Time) (bool, error) {
	limit := time.Now().Add(thereLimit)
	if until.Before(limit) {
		limit = until
	}
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	return w.onFly.There(ctx, spec)
}

// clusterToBe is the cluster of Fly Kubernetes that an environment asks for.
func clusterToBe(l *loaded, environment string) (forge.FlyClusterSpec, bool) {
	for _, env := range l.generation.Environments {
		if env.Name != environment || env.Policy.Mode == forge.ModePaused {
			continue
		}
		for _, r := range env.Resources {
			if spec, ok := r.Spec.(forge.FlyClusterSpec); ok {
				return spec, true
			}
		}
	}
	return forge.FlyClusterSpec{}, false
}

// withoutThem says how the environments go on that nothing is wrong with.
func withoutThem(d schema.Diagnostics, f *forge.Forge, bad map[string]bool) schema.Diagnostics {
	var others strings.Builder
	for _, env := range f.Environments {
		if !bad[env.Name] {
			others.WriteString(" -e " + env.Name)
		}
	}
	if others.Len() == 0 {
		return d
	}
	d = slices.Clone(d)
	for i := range d {
		d[i].Hint += "; the other environments go on without it:" + others.String()
	}
	return d
}

// chartsAhead finds charts of the user for clusters that are not there yet. What
// is remembered of those that run is none of its business.
type chartsAhead struct {
	*chartsource.Source
	secrets *secret.Resolver
	age     time.Duration // of what may be used without asking
	until   time.Time     // others are not waited for longer
}

func (c chartsAhead) load(ctx context.Context, source forge.ChartSource) (chartsource.Chart, error) {
	if source.Kind != forge.ChartPath {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, c.until, fmt.Errorf("no end of all that is looked at within %s", aheadLimit))
		defer cancel()
	}
	return c.Load(ctx, chartsource.Request{ChartSource: source, MaxAge: c.age, Secret: func(ctx context.Context, ref forge.SecretRef) (secret.Value, error) {
		if ref.Kubernetes != nil {
			return secret.Value{}, reconcile.Errorf(reconcile.Invalid, "log in to load a chart", "the Secret %s is in a cluster that is not there yet", ref.Kubernetes.Name)
		}
		return c.secrets.Resolve(ctx, ref)
	}})
}

// begin makes a world for commands that look at everything a forge asks for, or
// make it: what cannot be is refused.
func (l *loaded) begin(ctx context.Context, o worldOptions, s streams) (*world, error) {
	w, err := newWorld(o)
	if err != nil {
		return nil, err
	}
	if err = w.refuse(ctx, l, s); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// refuse is ahead for who shows on the way out what is wrong.
func (w *world) refuse(ctx context.Context, l *loaded, s streams) error {
	err := w.ahead(ctx, l)
	if d, ok := errors.AsType[schema.Diagnostics](err); ok {
		return refuse(l.source.Name(), d, s)
	}
	return err
}
