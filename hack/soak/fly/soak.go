package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
)

// patience is how long it may take until everything is as it should. Fly shows
// some of it within minutes only, and a lease of who was killed lasts 90 s.
const patience = 8 * time.Minute

type soak struct {
	out     io.Writer
	dir     string
	place   child.Place
	began   time.Time
	chance  *rand.Rand
	url     string // of the emulator
	fly     *flyemulator.Emulator
	people  *api.Client // somebody who may do everything, and whom no limit holds up
	daemons []*daemon
	did     map[string]int
	token   string
	killed  time.Time // when a forged was killed last
	guests  []string  // machines that somebody made in the app
	secrets []string  // that no log may hold
}

func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  "+format+"\n", append([]any{time.Since(s.began).Seconds()}, args...)...)
}

func (s *soak) soak(ctx context.Context, length time.Duration) error {
	if err := s.settled(ctx); err != nil {
		return err
	}
	before, err := s.picture(ctx)
	if err != nil {
		return err
	}
	foreign, err := s.foreign(ctx)
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
	if err := s.mend(ctx); err != nil {
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
	return s.verdict(ctx, before, foreign)
}

// mend ends all trouble, and has forge.cue be as it was.
func (s *soak) mend(context.Context) error {
	s.fly.MendAll()
	s.fly.SetLag(flyemulator.Lag{})
	for _, region := range regions {
		s.fly.SetSilent(region, false)
	}
	s.fly.SetProxy(false)
	return errors.Join(s.fly.RemoveFields(), s.write("forge.cue", forge(0)))
}

// verdict says what is not as it should be.
func (s *soak) verdict(ctx context.Context, before, foreign string) error {
	var wrong []error
	after, err := s.picture(ctx)
	if err != nil {
		wrong = append(wrong, err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		wrong = append(wrong, fmt.Errorf("it is not as it was:\n%s", diff))
	}
	now, err := s.foreign(ctx)
	if err != nil {
		wrong = append(wrong, err)
	}
	if diff := cmp.Diff(foreign, now); diff != "" {
		wrong = append(wrong, fmt.Errorf("what is foreign was touched:\n%s", diff))
	}
	requests, refused := s.fly.Requests(), map[string]int{}
	for _, r := range requests {
		if r.Status == http.StatusTooManyRequests {
			refused[r.Action+" "+r.App]++
		}
	}
	many := 0
	for _, what := range slices.Sorted(maps.Keys(refused)) {
		many += refused[what]
		s.say("%d times too many requests: %s", refused[what], what)
	}
	// One forged never asks too often. Two do not know of each other, and wait
	// when they are told so.
	if many*20 > len(requests) {
		wrong = append(wrong, fmt.Errorf("of %d requests %d were too many", len(requests), many))
	}
	if err := s.silent(ctx); err != nil {
		wrong = append(wrong, err)
	}
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(s.did)) {
		fmt.Fprintf(s.out, "%16d  %s\n", s.did[name], name)
		sum += s.did[name]
	}
	s.say("%d deeds, %d requests, %d of them too many", sum, len(requests), many)
	return errors.Join(wrong...)
}

// silent looks for secrets in all that was logged.
func (s *soak) silent(ctx context.Context) error {
	clusters, err := s.people.PostgresClusters(ctx, org)
	if err != nil {
		return err
	}
	for _, c := range clusters {
		for _, user := range []string{"appuser", "fly-user"} {
			if password, err := s.people.PostgresPassword(ctx, c.ID, user); err == nil {
				s.secrets = append(s.secrets, string(password.Reveal()))
			}
		}
	}
	redis, err := s.people.AddOns(ctx, org, "upstash_redis")
	if err != nil {
		return err
	}
	for _, r := range redis {
		s.secrets = append(s.secrets, string(r.Password.Reveal()))
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		return err
	}
	if len(logs) < 2 || len(s.secrets) < 5 {
		return fmt.Errorf("%d logs, %d secrets: is anything looked at?", len(logs), len(s.secrets))
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, secret := range s.secrets {
			if len(secret) < 8 || strings.Contains(string(b), secret) {
				return fmt.Errorf("a secret of %d letters is in %s", len(secret), name)
			}
		}
	}
	return nil
}

// foreign is all that nobody but its owners may touch, as it is.
func (s *soak) foreign(ctx context.Context) (string, error) {
	var all []any
	var wrong []error
	note := func(v any, err error) { all, wrong = append(all, v), append(wrong, err) }
	for _, app := range []string{bystander, "fks-" + bystander} {
		machines, err := s.people.Machines(ctx, app, api.MachinesQuery{})
		note(nil, err)
		for _, m := range machines {
			note([]any{m.ID, m.InstanceID, m.State}, nil)
		}
		volumes, err := s.people.Volumes(ctx, app)
		note(volumes, err)
		secrets, err := s.people.Secrets(ctx, app, 0)
		note(secrets, err)
		ips, err := s.people.IPs(ctx, app)
		note(ips, err)
	}
	for _, id := range s.guests {
		m, err := s.people.Machine(ctx, app, id)
		wrong = append(wrong, err)
		if m.State != api.StateStarted {
			wrong = append(wrong, fmt.Errorf("machine %s of somebody else is %s", id, m.State))
		}
	}
	b, err := json.MarshalIndent(all, "", "  ")
	return string(b), errors.Join(append(wrong, err)...)
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
