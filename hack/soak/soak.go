package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/reconcile"
)

const (
	namespace = "soak"
	patience  = 3 * time.Minute // for everything to be as it should
)

type soak struct {
	out        io.Writer
	dir        string
	place      child.Place
	began      time.Time
	chance     *rand.Rand
	kubeconfig string
	address    string
	daemon     *child.Child
	kinds      []schema.GroupVersionResource // that an environment may have objects of
	objects    dynamic.Interface
	did        map[string]int
	surprises  float64 // of daemons that have ended
	healed     float64
}

func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  "+format+"\n", append([]any{time.Since(s.began).Seconds()}, args...)...)
}

func (s *soak) sandboxDir() string { return filepath.Join(s.dir, "sandbox") }

func (s *soak) startSandbox(ctx context.Context) (*child.Child, error) {
	home := s.sandboxDir()
	c, err := s.place.Start("sandbox", nil, "forged-sandbox", "up", "--dir", home, "--exit-with-parent")
	if err != nil {
		return nil, err
	}
	err = child.Until(ctx, c, patience, "the start of the sandbox", func() (bool, error) {
		_, err := os.Stat(filepath.Join(home, "ready"))
		return err == nil, err
	})
	if err == nil {
		s.kubeconfig = filepath.Join(home, "kubeconfig")
		err = s.connect()
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (s *soak) connect() error {
	cfg, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	if s.objects, err = dynamic.NewForConfig(cfg); err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	lists, err := disco.ServerPreferredNamespacedResources()
	if err != nil {
		return err
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "patch") && !slices.Contains(transient, r.Name) {
				s.kinds = append(s.kinds, gv.WithResource(r.Name))
			}
		}
	}
	slices.SortFunc(s.kinds, func(a, b schema.GroupVersionResource) int { return strings.Compare(a.String(), b.String()) })
	return nil
}

// transient are kinds whose objects others make and take away.
var transient = []string{"pods", "replicasets", "endpoints", "endpointslices", "events", "leases", "controllerrevisions", "jobs", "podmetrics"}

func (s *soak) startDaemon(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	s.daemon, err = s.place.Start("forged", []string{"KUBECONFIG=" + s.kubeconfig, "SOAK_TOKEN=a-value-of-the-soak"},
		"forged", "run", "--config", s.config(), "--listen", s.address, "--log-format", "json")
	return err
}

func (s *soak) config() string { return filepath.Join(s.dir, "repo", "forge.cue") }

// settled waits until the daemon says that everything is as it should be.
func (s *soak) settled(ctx context.Context, limit time.Duration) error {
	return child.Until(ctx, s.daemon, limit, "that everything is ready", func() (bool, error) {
		status, err := s.status(ctx)
		if err != nil {
			return false, err
		}
		if len(status.Environments) == 0 || status.State != reconcile.StateReady {
			return false, trouble(status)
		}
		return true, nil
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

func (s *soak) status(ctx context.Context) (status reconcile.Status, err error) {
	body, err := s.get(ctx, "/status")
	if err != nil {
		return status, err
	}
	defer body.Close()
	return status, json.NewDecoder(body).Decode(&status)
}

func (s *soak) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, nil)
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
func (s *soak) metric(ctx context.Context, name string, missing float64) (sum float64, err error) {
	body, err := s.get(ctx, "/metrics")
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

// count adds up what the daemon has counted, before it ends.
func (s *soak) count(ctx context.Context) error {
	surprises, err := s.metric(ctx, "forged_verify_surprises_total", 0)
	if err != nil {
		return err
	}
	healed, err := s.metric(ctx, "forged_drift_healed_total", 0)
	if err != nil {
		return err
	}
	s.surprises += surprises
	s.healed += healed
	return nil
}

func (s *soak) soak(ctx context.Context, length time.Duration) error {
	if err := s.settled(ctx, patience); err != nil {
		return err
	}
	if err := s.bystander(ctx); err != nil {
		return err
	}
	before, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	s.say("%d objects are as forge.cue says; now people come", len(before))

	for end := time.Now().Add(length); time.Now().Before(end); {
		name, err := s.meddle(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.did[name]++
		if err := s.pause(ctx); err != nil {
			return err
		}
	}
	s.say("people have gone: %v", s.did)

	if err := s.setLevel("INFO"); err != nil { // forge.cue as it was in the beginning
		return err
	}
	if err := s.restartDaemon(ctx, (*child.Child).Stop); err != nil {
		return err
	}
	if err := s.settled(ctx, patience); err != nil {
		return err
	}
	after, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	if err := s.verified(ctx, len(after)); err != nil {
		return err
	}
	if err := s.count(ctx); err != nil {
		return err
	}
	rss, err := s.metric(ctx, "process_resident_memory_bytes", -1)
	if err != nil {
		return err
	}
	s.say("%.0f drifts healed, %.0f surprises, %.0f MB resident", s.healed, s.surprises, rss/1e6)
	if s.surprises > 0 {
		return fmt.Errorf("verification was surprised %.0f times", s.surprises)
	}
	if wrong := differences(before, after); len(wrong) > 0 {
		return fmt.Errorf("live is not as it was:\n\t%s", strings.Join(wrong, "\n\t"))
	}
	s.say("live is as it was")
	return nil
}

// verified has the daemon check its own belief, and waits for the end of that.
func (s *soak) verified(ctx context.Context, objects int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+"/-/reload", nil)
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
	return child.Until(ctx, s.daemon, patience, "verification", func() (bool, error) {
		n, err := s.metric(ctx, "forged_verified_objects_total", 0)
		return err == nil && n >= float64(objects), err
	})
}

// pause is how long nobody does anything: often a moment, sometimes longer.
func (s *soak) pause(ctx context.Context) error {
	timer := time.NewTimer(time.Duration(s.chance.IntN(1200)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.daemon.Done():
		return s.daemon.Ended()
	case <-ctx.Done():
		return ctx.Err()
	}
}
