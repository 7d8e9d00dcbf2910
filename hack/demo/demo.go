package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/reconcile"
)

type demo struct {
	out        io.Writer
	dir, bin   string
	config     string // the copy of forge.cue that the daemon watches
	began      time.Time
	kubeconfig string
	daemon     *child.Daemon

	// Where people meddle.
	environment, namespace string
	client                 kubernetes.Interface

	healed []healedDrift
}

// healedDrift is one line of the summary.
type healedDrift struct {
	what, reason string
	took         time.Duration
}

func (d *demo) title(head, text string) {
	fmt.Fprintf(d.out, "\n── %s ── %s\n", head, text)
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "   "+format+"\n", args...)
}

func (d *demo) place() child.Place { return child.Place{Bin: d.bin, Logs: d.dir} }

// sandbox starts one in a directory.
func (d *demo) sandbox(ctx context.Context, home string, flags ...string) (*child.Child, error) {
	args := append([]string{"forged-sandbox", "up", "--dir", home, "--exit-with-parent"}, flags...)
	c, err := d.place().Start("sandbox", nil, args...)
	if err != nil {
		return nil, err
	}
	err = child.Until(ctx, c, 3*time.Minute, "the start of the sandbox", func() (bool, error) {
		_, err := os.Stat(filepath.Join(home, "ready"))
		return err == nil, err
	})
	if err != nil {
		_ = c.Stop()
		return nil, err
	}
	return c, nil
}

func (d *demo) startSandbox(ctx context.Context) (*child.Child, error) {
	home := filepath.Join(d.dir, "sandbox")
	began := time.Now()
	c, err := d.sandbox(ctx, home, "--clusters", "2")
	if err != nil {
		return nil, err
	}
	d.kubeconfig = filepath.Join(home, "kubeconfig")
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: d.kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: "cluster-1"}).ClientConfig()
	if err == nil {
		d.environment, d.namespace = "dev", "shop-dev"
		d.client, err = kubernetes.NewForConfig(cfg)
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	d.say("contexts cluster-1 and cluster-2 answer after %.1f s", time.Since(began).Seconds())
	return c, nil
}

func (d *demo) startDaemon(ctx context.Context, env ...string) (*child.Daemon, error) {
	c, err := d.place().StartDaemon(ctx, "forged", env, d.config, "--log-format", "text")
	if err != nil {
		return nil, err
	}
	d.say("$ forged run --config %s --listen %s", filepath.Base(d.config), c.Address)
	d.daemon = c
	return c, nil
}

// converge waits until some environments are there and ready.
func (d *demo) converge(ctx context.Context, daemon *child.Daemon, environments int) error {
	began := time.Now()
	shown := map[string]bool{}
	err := child.Until(ctx, daemon.Child, 4*time.Minute, "convergence", func() (bool, error) {
		s, err := d.daemon.Status(ctx)
		if err != nil {
			return false, err
		}
		for _, a := range s.History {
			if key := a.ID.String() + string(a.Action); !shown[key] && a.Error == "" {
				shown[key] = true
				d.say("%-7s %-28s %.2f s", a.Action, a.ID, a.Seconds)
			}
		}
		if len(s.Environments) == environments && s.State == reconcile.StateReady {
			return true, nil
		}
		return false, fmt.Errorf("state %s", s.State)
	})
	if err != nil {
		return err
	}
	d.say("everything is ready after %.1f s", time.Since(began).Seconds())
	return nil
}

func (d *demo) stay(ctx context.Context, sandbox *child.Child, daemon *child.Daemon) error {
	fmt.Fprintf(d.out, `
Everything is up. In another terminal:

   export KUBECONFIG=%s
   %s status --address %s
   kubectl --context cluster-1 -n shop-dev get all
   kubectl --context cluster-1 -n shop-dev delete service shop
   $EDITOR %s
   curl -s http://%s/metrics | grep ^forged_

The daemon's log follows. Ctrl-C stops everything.

`, d.kubeconfig, filepath.Join(d.bin, "forged"), d.daemon.Address, d.config, d.daemon.Address)
	f, err := os.Open(daemon.Log())
	if err != nil {
		return err
	}
	defer f.Close()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.Copy(d.out, f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(d.out)
			return nil
		case <-sandbox.Done():
			return sandbox.Ended()
		case <-daemon.Done():
			return daemon.Ended()
		case <-tick.C:
		}
	}
}

// healedSince waits until the daemon's history tells of a heal of object in
// an environment after a moment, and returns it.
func (d *demo) healedSince(ctx context.Context, began time.Time, environment, object string) (found reconcile.ActionStatus, err error) {
	err = child.Until(ctx, d.daemon.Child, time.Minute, "healing of "+object, func() (bool, error) {
		s, err := d.daemon.Status(ctx)
		if err != nil {
			return false, err
		}
		for _, a := range s.History {
			if a.ID.Environment == environment && a.Object == object && a.Action == reconcile.ActionHeal && a.Error == "" && !a.At.Before(began) {
				found = a
				return true, nil
			}
		}
		return false, fmt.Errorf("not in the history of %s", environment)
	})
	return found, err
}

func (d *demo) record(what string, took time.Duration, reason string) {
	d.healed = append(d.healed, healedDrift{what, reason, took})
	d.say("healed after %s", took.Round(100*time.Microsecond))
	d.say("reason: %s", reason)
}

func (d *demo) metrics(ctx context.Context) error {
	d.title("Metrics", "an excerpt of http://"+d.daemon.Address+"/metrics")
	body, err := d.daemon.Get(ctx, "/metrics")
	if err != nil {
		return err
	}
	defer body.Close()
	want := regexp.MustCompile(`^forged_(config_last_reload_successful|config_reload_failures_total|drift_detected_total|drift_healed_total|heal_seconds_(sum|count)|drifted_resources|inventory_entries)`)
	sc := bufio.NewScanner(body)
	for sc.Scan() {
		if want.MatchString(sc.Text()) {
			d.say("%s", sc.Text())
		}
	}
	return sc.Err()
}

func (d *demo) summary() {
	d.title("Summary", fmt.Sprintf("%d changes by hand, %d healed, %.0f s in all", len(d.healed), len(d.healed), time.Since(d.began).Seconds()))
	for _, h := range d.healed {
		d.say("%-34s %10s   %s", h.what, h.took.Round(100*time.Microsecond), h.reason)
	}
}
