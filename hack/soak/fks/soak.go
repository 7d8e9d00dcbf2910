package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/sandboxtest"
)

// patience is how long it may take until everything is as it should. A lease of
// who was killed lasts 90 s.
const patience = 8 * time.Minute

type soak struct {
	out     io.Writer
	dir     string
	place   child.Place
	began   time.Time
	chance  *rand.Rand
	fly     *sandboxtest.Fly
	people  *api.Client // somebody who may do everything
	objects dynamic.Interface
	daemons []*daemon
	did     map[string]int
	killed  time.Time // when a forged was killed last
}

func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  "+format+"\n", append([]any{time.Since(s.began).Seconds()}, args...)...)
}

func (s *soak) soak(ctx context.Context, length time.Duration) error {
	if err := s.settled(ctx); err != nil {
		return err
	}
	if err := s.meet(ctx); err != nil {
		return err
	}
	before, err := s.picture(ctx)
	if err != nil {
		return err
	}
	s.say("all is as forge.cue says; now people come")
	all := s.deeds()
	for end := time.Now().Add(length); time.Now().Before(end); {
		d := all[s.chance.IntN(len(all))]
		if err := d.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		s.did[d.name]++
		if err := s.pause(ctx, time.Duration(s.chance.IntN(2500))*time.Millisecond); err != nil {
			return err
		}
	}
	s.say("people have gone")
	for _, d := range s.daemons {
		d.cut.Store(false)
	}
	if err := errors.Join(s.fly.Call(ctx, http.MethodDelete, "/_emulator/faults", nil, nil), s.write(0)); err != nil {
		return err
	}
	for _, d := range s.daemons {
		if err := d.restart(ctx, (*child.Child).Stop); err != nil {
			return err
		}
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	after, err := s.picture(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	if diff := cmp.Diff(before, after); diff != "" {
		wrong = append(wrong, fmt.Errorf("it is not as it was:\n%s", diff))
	}
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(s.did)) {
		fmt.Fprintf(s.out, "%16d  %s\n", s.did[name], name)
		sum += s.did[name]
	}
	s.say("%d deeds", sum)
	return errors.Join(append(wrong, s.silent(ctx))...)
}

// pause is how long nobody does anything.
func (s *soak) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
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

// deed is something that is done to an environment.
type deed struct {
	name string
	do   func(context.Context) error
}

// deeds are all of them; what is there more often is done more often.
func (s *soak) deeds() []deed {
	return []deed{
		{"delete an object", s.remove},
		{"delete an object", s.remove},
		{"change an object", s.change},
		{"change an object", s.change},
		{"change an object", s.change},
		{"drop a user", s.dropUser},
		{"revoke tokens", s.revoke},
		{"let an hour go by at Fly", s.hour},
		{"write forge.cue", func(context.Context) error { return s.write(s.chance.IntN(forges)) }},
		{"write forge.cue", func(context.Context) error { return s.write(s.chance.IntN(forges)) }},
		{"ask for a reload", func(ctx context.Context) error { return s.one().Reload(ctx) }},
		{"cut or mend a line to Fly", func(context.Context) error { d := s.one(); d.cut.Store(!d.cut.Load()); return nil }},
		{"mend the lines to Fly", func(context.Context) error {
			for _, d := range s.daemons {
				d.cut.Store(false)
			}
			return nil
		}},
		{"kill the API server", s.killServer},
		{"kill a forged", func(ctx context.Context) error {
			return s.end(ctx, 45*time.Second, func(c *child.Child) error { c.Kill(); return nil })
		}},
		{"stop a forged", func(ctx context.Context) error { return s.end(ctx, 15*time.Second, (*child.Child).Stop) }},
		{"502", s.fault(flyemulator.Fault{Status: http.StatusBadGateway})},
		{"503, done all the same", s.fault(flyemulator.Fault{Status: http.StatusServiceUnavailable, Commit: true})},
		{"lose a question", s.fault(flyemulator.Fault{Drop: flyemulator.DropBefore})},
		{"lose an answer", s.fault(flyemulator.Fault{Drop: flyemulator.DropAfter})},
		{"be slow", s.fault(flyemulator.Fault{Delay: flyemulator.Duration(2 * time.Second)})},
	}
}

func (s *soak) one() *daemon { return s.daemons[s.chance.IntN(len(s.daemons))] }

func (s *soak) fault(f flyemulator.Fault) func(context.Context) error {
	return func(ctx context.Context) error {
		f.Count, f.Skip = 1+s.chance.IntN(6), 4+s.chance.IntN(6)
		return s.fly.Call(ctx, http.MethodPost, "/_emulator/faults", f, nil)
	}
}

// remove deletes any object but claims, which hold data, and Secrets: what was
// generated is lost for good when they go while no forged runs.
func (s *soak) remove(ctx context.Context) error {
	kind := kinds[[]int{0, 2, 3}[s.chance.IntN(3)]]
	list, err := s.list(ctx, kind)
	if err != nil || len(list) == 0 {
		return out(err)
	}
	return out(s.objects.Resource(kind).Namespace(namespace).Delete(ctx, list[s.chance.IntN(len(list))].GetName(), metav1.DeleteOptions{}))
}

func (s *soak) change(ctx context.Context) error {
	kind := kinds[[]int{0, 2, 3}[s.chance.IntN(3)]]
	list, err := s.list(ctx, kind)
	if err != nil || len(list) == 0 {
		return out(err)
	}
	patch := map[string]string{
		"configmaps":  `{"data":{"LOG_LEVEL":"theirs"}}`,
		"services":    `{"spec":{"selector":{"app":"theirs"}}}`,
		"deployments": `{"spec":{"replicas":3}}`,
	}[kind.Resource]
	_, err = s.objects.Resource(kind).Namespace(namespace).
		Patch(ctx, list[s.chance.IntN(len(list))].GetName(), types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl"})
	return out(err)
}

// out leaves out what is being made anew at the moment, and an API server that
// is.
func out(err error) error {
	var status apierrors.APIStatus
	if err != nil && (!errors.As(err, &status) || apierrors.IsNotFound(err) || apierrors.IsConflict(err)) {
		return nil
	}
	return err
}

func (s *soak) dropUser(ctx context.Context) error {
	all, err := s.people.PostgresClusters(ctx, s.fly.Organization)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("there are %d databases", len(all))
	}
	if err == nil {
		err = s.people.DeletePostgresUser(ctx, all[0].ID, "appuser")
	}
	return absent(err)
}

// absent leaves out what a fault has struck, or is not there at the moment.
func absent(err error) error {
	switch api.KindOf(err) {
	case api.NotFound, api.Gone, api.Unavailable, api.Ambiguous:
		return nil
	}
	return err
}

func (s *soak) revoke(ctx context.Context) error {
	all, err := s.people.LimitedTokens(ctx, s.fly.Organization)
	for _, made := range all {
		if made.Name != "test" { // people's own
			err = errors.Join(err, absent(s.people.DeleteLimitedToken(ctx, made.ID)))
		}
	}
	return absent(err)
}

// hour ends all tokens of clusters, and leases at Fly.
func (s *soak) hour(ctx context.Context) error {
	return s.fly.Call(ctx, http.MethodPost, "/_emulator/advance", map[string]string{"by": "61m"}, nil)
}

func (s *soak) killServer(ctx context.Context) error {
	c, err := s.place.Start("restart", nil, "forged-sandbox", "restart", "--dir", filepath.Join(s.dir, "sandbox"))
	if err != nil {
		return err
	}
	select {
	case <-c.Done():
		return c.Stop()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end ends a forged and starts it again. The lease of one that was killed stands
// for 90 s: who is killed all the time does nothing else.
func (s *soak) end(ctx context.Context, apart time.Duration, how func(*child.Child) error) error {
	if time.Since(s.killed) < apart {
		return nil
	}
	s.killed = time.Now()
	return s.one().restart(ctx, how)
}
