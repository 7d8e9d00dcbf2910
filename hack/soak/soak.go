package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
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
	daemons    []*daemon
	kinds      []schema.GroupVersionResource // that an environment may have objects of
	objects    dynamic.Interface
	did        map[string]int
	touched    map[string]int // Secrets, by name

	surprises float64 // of daemons that have ended
	healed    float64
	largest   float64 // resident memory
	takeovers int
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

func (s *soak) config() string { return filepath.Join(s.dir, "repo", "forge.cue") }

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
	s.say("people have gone")
	after, err := s.aftermath(ctx)
	if err != nil {
		return err
	}
	s.summary(len(after))
	if s.surprises > 0 {
		return fmt.Errorf("verification was surprised %.0f times", s.surprises)
	}
	if wrong := differences(before, after); len(wrong) > 0 {
		return fmt.Errorf("live is not as it was:\n\t%s", strings.Join(wrong, "\n\t"))
	}
	s.say("live is as it was")
	return nil
}

// aftermath is what there is when forge.cue is as it was in the beginning, and
// others go on with the work.
func (s *soak) aftermath(ctx context.Context) (map[string]map[string]any, error) {
	if err := s.write(levels[0], tags[0]); err != nil {
		return nil, err
	}
	for _, d := range s.daemons {
		if err := d.restart(ctx, (*child.Child).Stop); err != nil {
			return nil, err
		}
	}
	if err := s.settled(ctx, patience); err != nil {
		return nil, err
	}
	after, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.verified(ctx, len(after)); err != nil {
		return nil, err
	}
	for _, d := range s.daemons {
		if err := d.count(ctx); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// summary is for people.
func (s *soak) summary(objects int) {
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(s.did)) {
		fmt.Fprintf(s.out, "%16d  %s\n", s.did[name], name)
		sum += s.did[name]
	}
	s.say("%d deeds on %d objects: %.0f drifts healed, %d takeovers, %.0f surprises, %.0f MB resident at most",
		sum, objects, s.healed, s.takeovers, s.surprises, s.largest/1e6)
}

// pause is how long nobody does anything: often a moment, sometimes longer.
func (s *soak) pause(ctx context.Context) error {
	timer := time.NewTimer(time.Duration(s.chance.IntN(1200)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.daemons[0].Done():
		return s.daemons[0].Ended()
	case <-s.daemons[1].Done():
		return s.daemons[1].Ended()
	case <-ctx.Done():
		return ctx.Err()
	}
}
