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

// daemon is one of the forged that keep the environment: one acts, the others
// stand by.
type daemon struct {
	s     *soak
	name  string
	relay *relay
	*child.Daemon
}

func (s *soak) newDaemon(ctx context.Context, name string) (*daemon, error) {
	d := &daemon{s: s, name: name}
	var err error
	if d.relay, err = newRelay(ctx, s.kubeconfig, d.kubeconfig()); err != nil {
		return nil, err
	}
	return d, d.start(ctx)
}

func (d *daemon) kubeconfig() string { return filepath.Join(d.s.dir, d.name+".kubeconfig") }

func (d *daemon) start(ctx context.Context) error {
	var err error
	d.Daemon, err = d.s.place.StartDaemon(ctx, d.name, []string{"KUBECONFIG=" + d.kubeconfig(), "SOAK_TOKEN=a-value-of-the-soak"},
		d.s.config(), "--log-format", "json")
	return err
}

// end counts what a daemon has done, and ends it in some way.
func (d *daemon) end(ctx context.Context, how func(*child.Child) error) error {
	err := child.Until(ctx, d.Child, time.Minute, "an answer of the daemon", func() (bool, error) {
		_, err := d.Status(ctx)
		return err == nil, err
	})
	if err == nil {
		err = d.count(ctx)
	}
	if err != nil {
		return err
	}
	return how(d.Child)
}

func (d *daemon) restart(ctx context.Context, how func(*child.Child) error) error {
	if err := d.end(ctx, how); err != nil {
		return err
	}
	return d.start(ctx)
}

// close ends everything of a daemon.
func (d *daemon) close() error {
	if d == nil {
		return nil
	}
	var err error
	if d.Daemon != nil {
		err = d.Stop()
	}
	return errors.Join(err, d.relay.close())
}

// count adds up what the daemon has counted, before it ends.
func (d *daemon) count(ctx context.Context) error {
	surprises, err := d.Metric(ctx, "forged_verify_surprises_total", 0)
	if err != nil {
		return err
	}
	healed, err := d.Metric(ctx, "forged_drift_healed_total", 0)
	if err != nil {
		return err
	}
	rss, err := d.Metric(ctx, "process_resident_memory_bytes", -1)
	if err != nil {
		return err
	}
	d.s.surprises += surprises
	d.s.healed += healed
	d.s.largest = max(d.s.largest, rss)
	return nil
}

// holder is the daemon that acts, as soon as there is one; by says which it may
// be.
func (s *soak) holder(ctx context.Context, limit time.Duration, by ...*daemon) (holder *daemon, err error) {
	err = child.Until(ctx, by[0].Child, limit, "that somebody holds the lease", func() (bool, error) {
		var all error
		for _, d := range by {
			status, err := d.Status(ctx)
			if err == nil && len(status.Environments) > 0 && status.Environments[0].Lease != nil && status.Environments[0].Lease.Held {
				holder = d
				return true, nil
			}
			all = errors.Join(all, err)
		}
		return false, all
	})
	return holder, err
}

// other is the daemon that is not this one.
func (s *soak) other(d *daemon) *daemon {
	if s.daemons[0] == d {
		return s.daemons[1]
	}
	return s.daemons[0]
}

// settled waits until the daemon that acts says that everything is as it should
// be.
func (s *soak) settled(ctx context.Context, limit time.Duration) error {
	return child.Until(ctx, s.daemons[0].Child, limit, "that everything is ready", func() (bool, error) {
		var all error
		for _, d := range s.daemons {
			status, err := d.Status(ctx)
			switch {
			case err != nil:
				all = errors.Join(all, err)
			case len(status.Environments) == 0 || status.Environments[0].Lease == nil || !status.Environments[0].Lease.Held:
			case status.State == reconcile.StateReady:
				return true, nil
			default:
				return false, trouble(status)
			}
		}
		return false, all
	})
}

// trouble says what is not ready.
func trouble(status reconcile.Status) error {
	var all []string
	for _, env := range status.Environments {
		for _, r := range env.Resources {
			if r.State != reconcile.StateReady {
				text := fmt.Sprintf("%s is %s: %s %s", r.ID, r.State, r.Message, r.Fight)
				for _, step := range r.Steps {
					text += "; " + string(step.Action) + " " + step.Object + " " + step.Reason + " " + step.Blocked + step.Held
				}
				all = append(all, text)
			}
		}
	}
	return errors.New(strings.Join(all, "\n\t"))
}

// verified has the daemon that acts check its own belief, and waits for the end
// of that.
func (s *soak) verified(ctx context.Context, objects int) error {
	d, err := s.holder(ctx, patience, s.daemons...)
	if err != nil {
		return err
	}
	before, err := d.Metric(ctx, "forged_verified_objects_total", 0)
	if err != nil {
		return err
	}
	if err := d.Reload(ctx); err != nil {
		return err
	}
	return child.Until(ctx, d.Child, patience, "verification", func() (bool, error) {
		n, err := d.Metric(ctx, "forged_verified_objects_total", 0)
		return err == nil && n >= before+float64(objects), err
	})
}
