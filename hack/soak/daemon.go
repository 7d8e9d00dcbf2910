package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/reconcile"
)

// daemon is one of the forged that keep the environment: one acts, the others
// stand by.
type daemon struct {
	s       *soak
	name    string
	relay   *relay
	address string
	*child.Child
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
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	d.Child, err = d.s.place.Start(d.name, []string{"KUBECONFIG=" + d.kubeconfig(), "SOAK_TOKEN=a-value-of-the-soak"},
		"forged", "run", "--config", d.s.config(), "--listen", d.address, "--log-format", "json")
	return err
}

// end counts what a daemon has done, and ends it in some way.
func (d *daemon) end(ctx context.Context, how func(*child.Child) error) error {
	err := child.Until(ctx, d.Child, time.Minute, "an answer of the daemon", func() (bool, error) {
		_, err := d.status(ctx)
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
	if d.Child != nil {
		err = d.Stop()
	}
	return errors.Join(err, d.relay.close())
}

// count adds up what the daemon has counted, before it ends.
func (d *daemon) count(ctx context.Context) error {
	surprises, err := d.metric(ctx, "forged_verify_surprises_total", 0)
	if err != nil {
		return err
	}
	healed, err := d.metric(ctx, "forged_drift_healed_total", 0)
	if err != nil {
		return err
	}
	rss, err := d.metric(ctx, "process_resident_memory_bytes", -1)
	if err != nil {
		return err
	}
	d.s.surprises += surprises
	d.s.healed += healed
	d.s.largest = max(d.s.largest, rss)
	return nil
}

func (d *daemon) status(ctx context.Context) (status reconcile.Status, err error) {
	body, err := d.get(ctx, "/status")
	if err != nil {
		return status, err
	}
	defer body.Close()
	return status, json.NewDecoder(body).Decode(&status)
}

func (d *daemon) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp.Body, nil
}

// metric is the sum of all samples of a metric; missing says what it is if
// there are none, and is an error if it is negative.
func (d *daemon) metric(ctx context.Context, name string, missing float64) (sum float64, err error) {
	body, err := d.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	found := false
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &value); err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	switch {
	case lines.Err() != nil:
		return 0, lines.Err()
	case !found && missing < 0:
		return 0, fmt.Errorf("the daemon has no metric %s", name)
	case !found:
		return missing, nil
	}
	return sum, nil
}

// holder is the daemon that acts, as soon as there is one; by says which it may
// be.
func (s *soak) holder(ctx context.Context, limit time.Duration, by ...*daemon) (holder *daemon, err error) {
	err = child.Until(ctx, by[0].Child, limit, "that somebody holds the lease", func() (bool, error) {
		var all error
		for _, d := range by {
			status, err := d.status(ctx)
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
			status, err := d.status(ctx)
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
	before, err := d.metric(ctx, "forged_verified_objects_total", 0)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.address+"/-/reload", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("reload: %s", resp.Status)
	}
	return child.Until(ctx, d.Child, patience, "verification", func() (bool, error) {
		n, err := d.metric(ctx, "forged_verified_objects_total", 0)
		return err == nil && n >= before+float64(objects), err
	})
}
