package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
)

// deed is something that is done to an environment.
type deed struct {
	name string
	do   func(context.Context) error
}

// deeds are all of them; what is there more often is done more often.
func (s *soak) deeds() []deed {
	plain := func(method, path, body string) func(context.Context) error {
		return func(context.Context) error { return s.drift(method, path, body) }
	}
	at, small := "/v1/apps/"+app, "/v1/apps/"+smallApp
	return []deed{
		{"delete the app", plain(http.MethodDelete, small+"?force=true", "")},
		{"set a secret of forged's", plain(http.MethodPost, at+"/secrets", `{"values":{"SESSION":"set-by-hand"}}`)},
		{"set a secret that forged joined", plain(http.MethodPost, at+"/secrets", `{"values":{"DATABASE_URL":"postgres://elsewhere","REDIS_URL":null}}`)},
		{"unset a secret", plain(http.MethodDelete, at+"/secrets/API_KEY", "")},
		{"unset a secret of the other app", plain(http.MethodDelete, small+"/secrets/API_KEY", "")},
		{"delete a certificate", plain(http.MethodDelete, at+"/certificates/api.soak.dev", "")},
		{"delete an uploaded certificate", plain(http.MethodDelete, at+"/certificates/own.soak.dev/custom", "")},
		{"delete a certificate of the other app", plain(http.MethodDelete, small+"/certificates/small.soak.dev", "")},
		{"release an address", func(ctx context.Context) error { return s.releaseAddress(ctx, app) }},
		{"release an address of the other app", func(ctx context.Context) error { return s.releaseAddress(ctx, smallApp) }},
		{"drop a user", s.dropUser},
		{"detach the cluster", s.detach},
		{"deploy with flyctl", s.deploy},
		{"touch the inventory", func(ctx context.Context) error { return s.inventory(ctx, s.touch) }},
		{"move the inventory", func(ctx context.Context) error { return s.inventory(ctx, s.migrate) }},
		{"steal the lease", func(ctx context.Context) error { return s.inventory(ctx, s.steal) }},
		{"write forge.cue", s.edit},
		{"write forge.cue", s.edit},
		{"renew the token", s.renew},
		{"ask for a reload", s.reload},
		{"ask for a reload", s.reload},
		{"ask for a reload", s.reload},
		{"kill a forged", s.kill},
		{"stop a forged", s.stop},
		{"502", s.fault(flyemulator.Fault{Status: http.StatusBadGateway})},
		{"503, done all the same", s.fault(flyemulator.Fault{Status: http.StatusServiceUnavailable, Commit: true})},
		{"408 on a machine, done all the same", s.fault(flyemulator.Fault{Action: "machines.update", Status: http.StatusRequestTimeout, Commit: true})},
		{"lose a question", s.fault(flyemulator.Fault{Drop: flyemulator.DropBefore})},
		{"lose an answer", s.fault(flyemulator.Fault{Drop: flyemulator.DropAfter})},
		{"lose an answer of a write", s.fault(flyemulator.Fault{Method: http.MethodPost, Drop: flyemulator.DropAfter})},
		{"be slow", s.fault(flyemulator.Fault{Delay: flyemulator.Duration(2 * time.Second)})},
		{"let reads lag", func(context.Context) error {
			s.fly.SetLag(flyemulator.Lag{Replica: s.upTo(2 * time.Second), Listing: s.upTo(10 * time.Second)})
			return nil
		}},
		{"let reads lag no more", func(context.Context) error { s.fly.SetLag(flyemulator.Lag{}); return nil }},
		{"silence a region", func(context.Context) error {
			s.fly.SetSilent(regions[s.chance.IntN(len(regions))], s.chance.IntN(2) == 0)
			return nil
		}},
		{"take a field out of GraphQL", func(context.Context) error { return s.fly.RemoveFields("App.secrets") }},
		{"put it back", func(context.Context) error { return s.fly.RemoveFields() }},
	}
}

func (s *soak) upTo(d time.Duration) time.Duration { return time.Duration(s.chance.Int64N(int64(d))) }

func (s *soak) fault(f flyemulator.Fault) func(context.Context) error {
	return func(context.Context) error {
		f.Count, f.Skip = 1+s.chance.IntN(8), s.chance.IntN(6)
		s.fly.Fault(f)
		return nil
	}
}

func (s *soak) releaseAddress(ctx context.Context, app string) error {
	list, err := s.people.IPs(ctx, app)
	if err != nil || len(list) == 0 {
		return absent(err)
	}
	if ip := list[s.chance.IntN(len(list))]; !ip.Shared { // that one cannot be had back at once
		return absent(s.people.ReleaseIP(ctx, app, ip.Address))
	}
	return nil
}

// absent leaves out what is being made anew at the moment.
func absent(err error) error {
	if k := api.KindOf(err); err != nil && (k == api.NotFound || k == api.Gone) {
		return nil
	}
	return err
}

func (s *soak) cluster(ctx context.Context) (string, error) {
	all, err := s.people.PostgresClusters(ctx, org)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("there are %d clusters", len(all))
	}
	if err != nil {
		return "", err
	}
	return all[0].ID, nil
}

func (s *soak) dropUser(ctx context.Context) error {
	id, err := s.cluster(ctx)
	if err != nil {
		return err
	}
	return absent(s.people.DeletePostgresUser(ctx, id, "appuser"))
}

func (s *soak) detach(ctx context.Context) error {
	id, err := s.cluster(ctx)
	if err != nil {
		return err
	}
	return absent(s.people.DetachPostgres(ctx, id, app))
}

// deploy makes a machine as flyctl does, which forged leaves alone.
func (s *soak) deploy(ctx context.Context) error {
	if len(s.guests) > 3 {
		return nil
	}
	m, err := s.people.CreateMachine(ctx, app, api.CreateMachine{Region: "iad", Config: api.MachineConfig{
		Image: "registry.fly.io/soak:1", Metadata: map[string]string{"fly_platform_version": "v2", "fly_process_group": "app"},
	}})
	if err == nil {
		s.guests = append(s.guests, m.ID)
	}
	return err
}

// inventory does something to the machine that holds one.
func (s *soak) inventory(ctx context.Context, do func(app, machine string) error) error {
	at := []string{"forged-" + app, "forged-" + smallApp}[s.chance.IntN(2)]
	all, err := s.people.Machines(ctx, at, api.MachinesQuery{})
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.State == api.StateStopped {
			return do(at, m.ID)
		}
	}
	return nil
}

func (s *soak) touch(app, machine string) error {
	return s.drift(http.MethodPost, "/v1/apps/"+app+"/machines/"+machine+"/metadata/fly_flyctl_version", fmt.Sprintf(`{"value":"0.4.%d"}`, s.chance.IntN(100)))
}

func (s *soak) migrate(app, machine string) error {
	s.fly.Migrate(app, machine)
	return nil
}

func (s *soak) steal(app, machine string) error {
	s.fly.StealLease(app, machine, "somebody@acme.com", 5*time.Second+s.upTo(10*time.Second))
	return nil
}

func (s *soak) edit(context.Context) error { return s.write("forge.cue", forge(s.chance.IntN(forges))) }

// renew revokes the token, a while before there is another one or after.
func (s *soak) renew(ctx context.Context) error {
	next := fmt.Sprintf("fm2_token-number-%d-of-the-soak", s.did["renew the token"]+2)
	s.secrets = append(s.secrets, next)
	s.fly.AddToken(flyemulator.Token{Value: next, Kind: flyemulator.OrgToken, Org: org})
	first, then := func() error { s.fly.Revoke(s.token); return nil }, func() error { return s.write("token", next) }
	if s.chance.IntN(2) == 0 {
		first, then = then, first
	}
	if err := first(); err != nil {
		return err
	}
	if err := s.pause(ctx, s.upTo(5*time.Second)); err != nil {
		return err
	}
	err := then()
	s.token = next
	return err
}

func (s *soak) reload(ctx context.Context) error {
	return s.daemons[s.chance.IntN(len(s.daemons))].Reload(ctx)
}

// kill ends a forged without asking it. Its lease stands for 90 s: who is
// killed all the time does nothing else.
func (s *soak) kill(ctx context.Context) error {
	if time.Since(s.killed) < 45*time.Second {
		return nil
	}
	s.killed = time.Now()
	return s.daemons[s.chance.IntN(len(s.daemons))].restart(ctx, func(c *child.Child) error { c.Kill(); return nil })
}

func (s *soak) stop(ctx context.Context) error {
	if time.Since(s.killed) < 15*time.Second {
		return nil
	}
	return s.daemons[s.chance.IntN(len(s.daemons))].restart(ctx, (*child.Child).Stop)
}
