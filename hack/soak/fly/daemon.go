package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/reconcile"
)

// daemon is one of the forged that keep the environments: of each, one acts.
type daemon struct {
	s    *soak
	name string
	*child.Daemon
}

func (d *daemon) start(ctx context.Context) error {
	env := []string{"FLY_FLAPS_BASE_URL=" + d.s.url, "FLY_API_BASE_URL=" + d.s.url, "FLY_UIEX_BASE_URL=" + d.s.url}
	var err error
	d.Daemon, err = d.s.place.StartDaemon(ctx, d.name, env, filepath.Join(d.s.dir, "forge.cue"), "--log-format", "json", "--log-level", "debug")
	if err != nil {
		return err
	}
	return child.Until(ctx, d.Child, time.Minute, "an answer of "+d.name, func() (bool, error) {
		_, err := d.Status(ctx)
		return err == nil, err
	})
}

func (d *daemon) restart(ctx context.Context, how func(*child.Child) error) error {
	if err := how(d.Child); err != nil {
		return err
	}
	return d.start(ctx)
}

// settled waits until all is ready, by the words of those that act, and stays
// so after everything was looked at again.
func (s *soak) settled(ctx context.Context) error {
	if err := s.calm(ctx, 5*time.Second); err != nil {
		return err
	}
	for _, d := range s.daemons {
		if err := d.Reload(ctx); err != nil {
			return err
		}
	}
	return s.calm(ctx, 40*time.Second)
}

// calm waits until all has been ready for some time.
func (s *soak) calm(ctx context.Context, long time.Duration) error {
	var since time.Time
	return child.Until(ctx, s.daemons[0].Child, patience, "that everything is ready", func() (bool, error) {
		if err := s.ready(ctx); err != nil {
			since = time.Time{}
			return false, err
		}
		if since.IsZero() {
			since = time.Now()
		}
		return time.Since(since) > long, nil
	})
}

// ready says what is not.
func (s *soak) ready(ctx context.Context) error {
	held := map[string]bool{}
	var wrong []error
	for _, d := range s.daemons {
		status, err := d.Status(ctx)
		if err != nil {
			return err
		}
		for _, env := range status.Environments {
			if env.Lease == nil || !env.Lease.Held {
				continue
			}
			held[env.Name] = true
			for _, r := range env.Resources {
				if r.State != reconcile.StateReady {
					wrong = append(wrong, fmt.Errorf("%s is %s: %s %+v %s %s", r.ID, r.State, r.Message, r.Error, r.Fight, steps(r)))
				}
			}
		}
	}
	if len(held) != len(environments) {
		wrong = append(wrong, fmt.Errorf("nobody acts on all of %s", strings.Join(environments, ", ")))
	}
	return errors.Join(wrong...)
}

func steps(r *reconcile.ResourceStatus) string {
	var all []string
	for _, step := range r.Steps {
		all = append(all, string(step.Action)+" "+step.Object+" "+step.Reason+" "+step.Blocked+step.Held)
	}
	return strings.Join(all, "; ")
}
