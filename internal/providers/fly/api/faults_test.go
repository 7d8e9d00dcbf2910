package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/secret"
)

func TestTenThousandRequests(t *testing.T) {
	onFly(t, flyemulator.Options{Latency: 30 * time.Millisecond}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		const apps, rounds = 20, 60
		ids := make([]string, apps)
		for i := range apps {
			name := fmt.Sprintf("app-%d", i)
			must[App](t)(c.CreateApp(ctx, CreateApp{Name: name, Org: "acme"}))
			ids[i] = must[Machine](t)(c.CreateMachine(ctx, name, CreateMachine{Region: "cdg", Config: MachineConfig{Image: "i"}})).ID
		}
		began := time.Now()
		var all sync.WaitGroup
		for i := range apps {
			name := fmt.Sprintf("app-%d", i)
			for _, call := range []func() error{
				func() error { _, err := c.App(ctx, name); return err },
				func() error { _, err := c.Machines(ctx, name, MachinesQuery{}); return err },
				func() error { _, err := c.Machine(ctx, name, ids[i]); return err },
				func() error { _, err := c.Machine(ctx, name, ids[i]); return err },
				func() error { _, err := c.Secrets(ctx, name, 0); return err },
				func() error { _, err := c.IPs(ctx, name); return err },
				func() error { _, err := c.Volumes(ctx, name); return err },
				func() error { return c.SetMetadata(ctx, name, ids[i], "k", "v") },
				func() error { // taking a lease and holding it is one action
					lease, err := c.AcquireLease(ctx, name, ids[i], time.Minute, "")
					for range 2 {
						if err == nil {
							_, err = c.RefreshLease(ctx, name, ids[i], lease.Nonce, time.Minute, "")
						}
					}
					return errors.Join(err, c.ReleaseLease(ctx, name, ids[i], lease.Nonce))
				},
				func() error { _, err := c.OrgMachines(ctx, "acme", OrgQuery{}); return err },
			} {
				all.Go(func() {
					for range rounds {
						if err := call(); err != nil && ctx.Err() == nil {
							t.Error(err)
						}
					}
				})
			}
		}
		all.Wait()
		requests := len(e.Requests())
		floor := time.Duration(apps*rounds) * usual.every // of the one list that all ask for
		t.Logf("%d requests in %s; the floor is %s", requests, time.Since(began), floor)
		if requests < 10_000 || time.Since(began) > floor+5*time.Second {
			t.Errorf("%d requests in %s; the floor is %s", requests, time.Since(began), floor)
		}
	})
}

func TestLostAnswers(t *testing.T) {
	creates := map[string]func(ctx context.Context, c *Client, org string) error{
		"apps.create": func(ctx context.Context, c *Client, _ string) error {
			_, err := c.CreateApp(ctx, CreateApp{Name: "new", Org: "acme"})
			return err
		},
		"machines.create": func(ctx context.Context, c *Client, _ string) error {
			_, err := c.CreateMachine(ctx, "shop", CreateMachine{Region: "cdg", Config: web})
			return err
		},
		"volumes.create": func(ctx context.Context, c *Client, _ string) error {
			_, err := c.CreateVolume(ctx, "shop", CreateVolume{Name: "data", Region: "cdg", SizeGB: 1})
			return err
		},
		"postgres.create": func(ctx context.Context, c *Client, _ string) error {
			_, err := c.CreatePostgres(ctx, CreatePostgres{Org: "acme", Name: "db", Plan: "basic", Region: "fra", DiskGB: 10})
			return err
		},
		"graphql": func(ctx context.Context, c *Client, org string) error {
			_, err := c.CreateAddOn(ctx, CreateAddOn{Type: AddOnRedis, OrgID: org, Name: "cache", PrimaryRegion: "cdg"})
			return err
		},
	}
	counts := map[string]func(ctx context.Context, c *Client) (int, error){
		"apps.create": func(ctx context.Context, c *Client) (int, error) {
			all, err := c.Apps(ctx, "acme", "")
			return len(all) - 1, err
		},
		"machines.create": func(ctx context.Context, c *Client) (int, error) {
			all, err := c.Machines(ctx, "shop", MachinesQuery{})
			return len(all), err
		},
		"volumes.create": func(ctx context.Context, c *Client) (int, error) {
			all, err := c.Volumes(ctx, "shop")
			return len(all), err
		},
		"postgres.create": func(ctx context.Context, c *Client) (int, error) {
			all, err := c.PostgresClusters(ctx, "acme")
			return len(all), err
		},
		"graphql": func(ctx context.Context, c *Client) (int, error) {
			all, err := c.AddOns(ctx, "acme", AddOnRedis)
			return len(all), err
		},
	}
	for action, create := range creates {
		for name, fault := range map[string]flyemulator.Fault{
			"lost":      {Drop: flyemulator.DropAfter},
			"503":       {Status: 503, Commit: true},
			"408":       {Status: 408, Commit: true},
			"too late":  {Delay: flyemulator.Duration(2 * patience)},
			"refused":   {Drop: flyemulator.DropBefore},
			"never was": {Status: 500},
		} {
			onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
				ctx := t.Context()
				must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
				org := must[Org](t)(c.Organization(ctx, "acme"))
				fault.Action, fault.Count = action, 1
				e.Fault(fault)
				err := create(ctx, c, org.ID)
				if KindOf(err) != Ambiguous {
					t.Errorf("%s, %s: %v", action, name, err)
				}
				time.Sleep(5 * time.Minute)
				count, err := counts[action](ctx, c)
				made := fault.Drop == flyemulator.DropAfter || fault.Commit
				if err != nil || made && count != 1 || !made && count != 0 {
					t.Errorf("%s, %s: there are %d, %v", action, name, count, err)
				}
			})
		}
	}
}

func TestBurstsOfFailures(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		e.Fault(flyemulator.Fault{Status: 503, Text: "<html>503</html>", Count: 3})
		must[App](t)(c.App(ctx, "shop"))
		e.Fault(flyemulator.Fault{Drop: flyemulator.DropBefore, Count: 3})
		must[[]Machine](t)(c.Machines(ctx, "shop", MachinesQuery{}))
		e.Fault(flyemulator.Fault{Drop: flyemulator.DropAfter, Count: 2})
		must[SecretsWritten](t)(c.SetSecrets(ctx, "shop", map[string]*secret.Value{"A": new(secret.New([]byte("v")))}))
		e.Fault(flyemulator.Fault{Delay: flyemulator.Duration(29 * time.Second), Count: 1})
		must[[]IP](t)(c.IPs(ctx, "shop"))
		mend := e.Fault(flyemulator.Fault{Status: 503})
		_, err := c.App(ctx, "shop")
		wantKind(t, err, Unavailable)
		mend()
		must[App](t)(c.App(ctx, "shop"))
	})
}

func TestOthersUseTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := flyemulator.New(flyemulator.Options{RateLimits: true, RetryAfter: true})
		defer e.Close()
		c, flyctl := clientOf(t, e, flyemulator.DefaultToken), clientOf(t, e, flyemulator.DefaultToken)
		must[App](t)(c.CreateApp(t.Context(), CreateApp{Name: "shop", Org: "acme"}))
		var all sync.WaitGroup
		for _, who := range []*Client{c, flyctl} {
			all.Go(func() {
				for range 30 {
					if _, err := who.App(t.Context(), "shop"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
}

func TestRevokedToken(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		e.Revoke(flyemulator.DefaultToken)
		_, err1 := c.App(ctx, "shop")
		_, err2 := c.CreateMachine(ctx, "shop", CreateMachine{Config: web})
		_, err3 := c.TokenScope(ctx)
		err4 := c.DeleteApp(ctx, "shop")
		for _, err := range []error{err1, err2, err3, err4} {
			if e := wantKind(t, err, Unauthenticated); e.RequestID == "" || strings.Contains(err.Error(), flyemulator.DefaultToken) {
				t.Error(err)
			}
		}
		_, err := c.Organization(ctx, "acme")
		if k := KindOf(err); k != Unauthenticated && k != Denied {
			t.Errorf("%v is %q", err, k)
		}
	})
}

func TestWhatTheTokenDoesNotCover(t *testing.T) {
	onFly(t, flyemulator.Options{Foreign: []string{"theirs"}}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		_, err := c.App(ctx, "theirs")
		wantKind(t, err, Denied)
		_, err = c.CreateApp(ctx, CreateApp{Name: "theirs", Org: "acme"})
		wantKind(t, err, Taken)
		wantKind(t, c.DeleteApp(ctx, "theirs"), Denied)

		e.AddToken(flyemulator.Token{Value: "fm2_of-the-shop", Kind: flyemulator.AppToken, Org: "acme", App: "shop"})
		shop := clientOf(t, e, "fm2_of-the-shop")
		if scope := must[Scope](t)(shop.TokenScope(ctx)); !slices.Equal(scope.Apps, []string{"shop"}) {
			t.Errorf("%+v", scope)
		}
		must[App](t)(shop.App(ctx, "shop"))
		_, err1 := shop.Apps(ctx, "acme", "")
		_, err2 := shop.CreateApp(ctx, CreateApp{Name: "new", Org: "acme"})
		_, err3 := shop.PostgresClusters(ctx, "acme")
		_, err4 := shop.OrgMachines(ctx, "acme", OrgQuery{})
		for _, err := range []error{err1, err2, err3, err4} {
			wantKind(t, err, Denied)
		}
		e.AddToken(flyemulator.Token{Value: "fm2_reader", Kind: flyemulator.ReadOnlyToken, Org: "acme"})
		reader := clientOf(t, e, "fm2_reader")
		must[OrgList[OrgMachine]](t)(reader.OrgMachines(ctx, "acme", OrgQuery{}))
		wantKind(t, reader.DeleteApp(ctx, "shop"), Denied)
	})
}

func TestOrganizationsListings(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		for _, region := range []string{"cdg", "syd", "cdg"} {
			must[Machine](t)(c.CreateMachine(ctx, "shop", CreateMachine{Region: region, Config: web}))
			must[Volume](t)(c.CreateVolume(ctx, "shop", CreateVolume{Name: "data", Region: region, SizeGB: 1}))
		}
		time.Sleep(10 * time.Second)
		all := must[OrgList[OrgMachine]](t)(c.OrgMachines(ctx, "acme", OrgQuery{}))
		if len(all.All) != 3 || all.All[0].App != "shop" || all.All[0].Config.Metadata["owner"] != "me" || len(all.ErrorRegions) != 0 {
			t.Errorf("%+v", all)
		}
		e.SetSilent("syd", true)
		some := must[OrgList[OrgMachine]](t)(c.OrgMachines(ctx, "acme", OrgQuery{}))
		if len(some.All) != 2 || !slices.Equal(some.ErrorRegions, []string{"syd"}) {
			t.Errorf("%+v", some)
		}
		if volumes := must[OrgList[OrgVolume]](t)(c.OrgVolumes(ctx, "acme", OrgQuery{Region: "cdg"})); len(volumes.All) != 2 || volumes.All[0].Name != "data" {
			t.Errorf("%+v", volumes)
		}
	})
}

func TestReadsSeeWrites(t *testing.T) {
	onFly(t, flyemulator.Options{Lag: flyemulator.Lag{Replica: 20 * time.Second}}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		m := must[Machine](t)(c.CreateMachine(ctx, "shop", CreateMachine{Name: "web", Config: web}))
		if got := must[[]Machine](t)(c.Machines(ctx, "shop", MachinesQuery{})); len(got) != 1 || got[0].ID != m.ID {
			t.Errorf("%+v", got)
		}
	})
}

func TestNoRoom(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		e.SetRoom("cdg", 0)
		_, err := c.CreateMachine(ctx, "shop", CreateMachine{Region: "cdg", Config: web})
		if e := wantKind(t, err, Capacity); e.Code != "insufficient_capacity" {
			t.Error(err)
		}
	})
}

func TestFieldThatIsRemoved(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		org := must[Org](t)(c.Organization(ctx, "acme"))
		fine(t, e.RemoveFields("App.secrets", "AddOn.metadata", "CreateAddOnInput.options"))
		_, err := c.Snapshot(ctx, "acme", []string{"shop"})
		if e := wantKind(t, err, SchemaDrift); e.Field != "secrets" {
			t.Errorf("%q: %v", e.Field, err)
		}
		_, err = c.AddOn(ctx, "cache", AddOnRedis)
		wantKind(t, err, SchemaDrift)
		_, err = c.CreateAddOn(ctx, CreateAddOn{Type: AddOnRedis, OrgID: org.ID, Name: "cache", PrimaryRegion: "cdg", Options: map[string]any{"eviction": true}})
		wantKind(t, err, SchemaDrift)
		fine(t, e.RemoveFields())
		must[map[string]AppDigest](t)(c.Snapshot(ctx, "acme", []string{"shop"}))
	})
}

func TestLostAnswersOfSockets(t *testing.T) {
	e := flyemulator.New(flyemulator.Options{})
	defer e.Close()
	server := httptest.NewServer(e)
	defer server.Close()
	c, err := New(Options{Token: secret.New([]byte(flyemulator.DefaultToken)), Endpoints: Endpoints{Machines: server.URL, GraphQL: server.URL}})
	fine(t, err)
	defer c.Close()
	must[Scope](t)(c.TokenScope(t.Context())) // so that there is a connection
	for action, create := range map[string]func() error{
		"apps.create": func() error { _, err := c.CreateApp(t.Context(), CreateApp{Name: "shop", Org: "acme"}); return err },
		"postgres.create": func() error {
			_, err := c.CreatePostgres(t.Context(), CreatePostgres{Org: "acme", Name: "db", Plan: "basic", Region: "fra", DiskGB: 10})
			return err
		},
	} {
		e.ForgetRequests()
		e.Fault(flyemulator.Fault{Action: action, Drop: flyemulator.DropAfter, Count: 1})
		wantKind(t, create(), Ambiguous)
		if n := len(e.Requests()); n != 1 {
			t.Errorf("%s: %d requests", action, n)
		}
	}
}
