package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

const (
	flyInventory  = "forged-acme-shop"
	flyFirstToken = "fm2_the-first-one"
)

// flyTrouble is what can go wrong with a whole environment, and what comes of it.
type flyTrouble struct {
	name  string
	begin func(p *onFly)        // the trouble
	mend  func(p *onFly)        // nil: the faults are mended
	kept  bool                  // it comes when all is there already; else while all is made
	lasts time.Duration         // 0: a quarter of an hour
	told  string                // in the status or the log
	ready []string              // kinds that are ready all the same
	stuck []string              // kinds that are not ready while it lasts
	extra func(p *onFly) string // what the picture has more than usual, as it should be; nil: nothing
}

// What Fly, its answers and other people do to a whole environment: what is
// told of it, what goes on, and that in the end there is what forge.cue asks
// for, and nothing twice.
//
// Each resource has tests of its own of what is special about it:
//
//   - answers that are lost, late, or come twice, of each request: TestLostAnswers,
//     TestWritesAreNotMadeTwice (internal/providers/fly/api), TestVolumesAreNotMadeTwice,
//     TestAddressesAreNotAssignedTwice, TestSecretsWithLostAnswers (internal/providers/fly),
//     TestManagedNeverTwo, TestAppNeverTwo (internal/providers/flypostgres),
//     TestNeverTwo (internal/providers/upstash)
//   - a process that stops and goes on: TestStoppedHolderIsRefused, TestFlyRefusesAnOldNonce
//   - an inventory that is destroyed: TestDestroyedInventoryIsWrittenFromMemory,
//     TestLostInventoryAdoptsAnew
//   - machines that were moved, disks on lost hosts: TestVolumesOfAMachineThatWasMoved,
//     TestVolumesOnALostHost
//   - lost data: TestDeletedVolumesAreToldOf, TestManagedLostData, TestAppLostDatabase
//   - what Fly refuses, by its texts: TestKinds, TestManagedRefusals, TestRefusals
//
// Machines are not rolled out yet; nothing of theirs is here.
func TestTroubleOnFly(t *testing.T) {
	f := newFlyForge(t)
	one := f.load(t, flyKilledOne)
	var want string
	onFlyInBubble(t, f, flyemulator.Options{}, func(p *onFly) {
		d := p.begin(one, 0)
		d.settle()
		want = p.picture()
		d.end()
	})
	for _, tt := range slices.Concat(flyAnswers(), flyRefusals(), flyOthers()) {
		t.Run(tt.name, func(t *testing.T) {
			defer f.write(t, "token", flyemulator.DefaultToken)
			onFlyInBubble(t, f, flyemulator.Options{}, func(p *onFly) {
				p.AddToken(flyemulator.Token{Value: flyFirstToken, Kind: flyemulator.OrgToken, Org: flytest.Org})
				p.forge.write(p.t, "token", flyFirstToken)
				if !tt.kept {
					tt.begin(p)
				}
				d := p.begin(one, 0)
				if tt.kept {
					d.settle()
					tt.begin(p)
				}
				if tt.lasts == 0 {
					tt.lasts = 15 * time.Minute
				}
				time.Sleep(tt.lasts)
				d.tells(tt)
				if tt.mend != nil {
					tt.mend(p)
				}
				p.MendAll()
				time.Sleep(30 * time.Minute) // some look again only after a while
				d.settle()
				expected := want
				if tt.extra != nil {
					expected = tt.extra(p)
				}
				if got := p.picture(); got != expected {
					t.Errorf("not as without trouble:\n%s", cmp.Diff(expected, got))
				}
				d.rests()
				d.end()
				p.proveSecrets()
			})
		})
	}
}

// tells looks at what a process says while there is trouble.
func (d *flyProcess) tells(tt flyTrouble) {
	d.p.t.Helper()
	status, err := json.Marshal(d.engine.Status())
	d.p.must(err)
	if strings.Contains(string(status), flyFirstToken) || d.says(flyFirstToken) {
		d.p.t.Error("a token is told")
	}
	if tt.told != "" && !strings.Contains(string(status), tt.told) && !d.says(tt.told) {
		d.p.t.Errorf("nobody is told of %q: %s", tt.told, status)
	}
	for id, r := range d.states() {
		kind := r.ID.Kind
		if slices.Contains(tt.ready, kind) && r.State != reconcile.StateReady {
			d.p.t.Errorf("%s is held up: %s %s %+v %s", id, r.State, r.Message, r.Error, r.WaitingFor)
		}
		if slices.Contains(tt.stuck, kind) && r.State == reconcile.StateReady {
			d.p.t.Errorf("%s is ready", id)
		}
	}
}

// flyAnswers are answers that are lost, late, old or wrong.
func flyAnswers() []flyTrouble {
	strike := func(faults ...flyemulator.Fault) func(*onFly) {
		return func(p *onFly) {
			for _, f := range faults {
				p.Fault(f)
			}
		}
	}
	var all []flyTrouble
	for _, f := range []flyemulator.Fault{
		{Action: "apps.create"},
		{Action: "machines.create"},
		{Action: "machines.update", Skip: 3},
		{Action: "leases.create"},
		{Action: "secrets.update"},
		{Action: "volumes.create"},
		{Action: "ips.create"},
		{Action: "certificates.create_acme"},
		{Action: "certificates.create_custom"},
		{Path: "^/v1/postgres$", Method: "POST"},
		{Path: "^/v1/postgres/[^/]+/users", Method: "POST"},
		{Path: "^/v1/postgres/[^/]+/databases", Method: "POST"},
		{Action: "graphql", Body: "createAddOn"},
	} {
		f.Count = 1
		what := f.Action + f.Path
		lost, unclear, again := f, f, f
		lost.Drop = flyemulator.DropAfter
		unclear.Status, unclear.Commit = 502, true
		again.Drop, again.Count = flyemulator.DropAfter, 3
		all = append(
			all,
			flyTrouble{name: "the answer is lost of " + what, begin: strike(lost)},
			flyTrouble{name: "502 after it was done of " + what, begin: strike(unclear)},
			flyTrouble{name: "three answers are lost of " + what, begin: strike(again)},
		)
	}
	return append(
		all,
		flyTrouble{name: "a burst of 502", begin: strike(flyemulator.Fault{Status: 502, Skip: 10, Count: 60})},
		flyTrouble{name: "a burst of 503, done all the same", begin: strike(flyemulator.Fault{Status: 503, Commit: true, Skip: 10, Count: 40})},
		flyTrouble{name: "connections are reset", begin: strike(flyemulator.Fault{Drop: flyemulator.DropBefore, Skip: 10, Count: 60})},
		flyTrouble{name: "replies take 29 s", begin: strike(flyemulator.Fault{Delay: flyemulator.Duration(29 * time.Second), Count: 80}), lasts: time.Hour},
		flyTrouble{name: "408, and the machine is made", begin: strike(flyemulator.Fault{Action: "machines.create", Status: 408, Commit: true, Count: 1})},
		flyTrouble{name: "somebody writes at the same time", begin: strike(flyemulator.Fault{Action: "machines.update", Status: 409, Text: "aborted: concurrent update", Skip: 1, Count: 4})},
		flyTrouble{
			name: "nothing answers", begin: strike(flyemulator.Fault{Drop: flyemulator.DropBefore}), told: "reset",
			stuck: []string{"fly-app", "fly-postgres", "upstash-redis"},
		},
		flyTrouble{
			name: "replicas and listings lag", begin: func(p *onFly) { p.SetLag(flyemulator.Lag{Replica: 8 * time.Second, Listing: 20 * time.Second}) },
			mend: func(p *onFly) { p.SetLag(flyemulator.Lag{}) },
		},
		flyTrouble{
			name: "a region does not answer listings", kept: true,
			begin: func(p *onFly) { p.SetSilent("iad", true) }, mend: func(p *onFly) { p.SetSilent("iad", false) },
			ready: []string{"fly-app", "fly-volume", "fly-ips", "fly-secrets", "fly-certificate", "fly-postgres", "upstash-redis"},
		},
		flyTrouble{
			name: "a field of GraphQL is gone that Redis needs", begin: func(p *onFly) { p.must(p.RemoveFields("AddOn.publicUrl")) },
			mend: func(p *onFly) { p.must(p.RemoveFields()) }, told: "publicUrl",
			ready: []string{"fly-app", "fly-volume", "fly-ips", "fly-certificate", "fly-postgres"}, stuck: []string{"upstash-redis"},
		},
		flyTrouble{
			name: "a field of GraphQL is gone that the tick needs", kept: true, begin: func(p *onFly) { p.must(p.RemoveFields("App.secrets")) },
			mend: func(p *onFly) { p.must(p.RemoveFields()) }, told: "secrets",
			ready: []string{"fly-app", "fly-volume", "fly-ips", "fly-secrets", "fly-certificate", "fly-postgres", "upstash-redis"},
		},
	)
}

// flyRefusals are what Fly does not let forged do.
func flyRefusals() []flyTrouble {
	renew := func(p *onFly) { p.forge.write(p.t, "token", flyemulator.DefaultToken) }
	return []flyTrouble{
		{
			name: "the token is revoked on the way", begin: func(p *onFly) {
				time.AfterFunc(20*time.Second, func() { p.Revoke(flyFirstToken) })
			},
			mend: renew, told: "fly tokens create org", stuck: []string{"upstash-redis", "fly-secrets"},
		},
		{
			name: "the token is revoked later", kept: true, begin: func(p *onFly) {
				p.Revoke(flyFirstToken)
				p.drift("DELETE", "/v1/apps/acme-shop/secrets/SESSION", "")
			},
			mend: renew, told: "fly tokens create org",
		},
		{
			name: "the token is one of an app", begin: func(p *onFly) {
				p.AddToken(flyemulator.Token{Value: "fm2_of-an-app", Kind: flyemulator.AppToken, Org: flytest.Org, App: flytest.Bystander})
				p.forge.write(p.t, "token", "fm2_of-an-app")
			},
			mend: renew, told: "bystander only", stuck: []string{"fly-app", "fly-postgres", "upstash-redis"},
		},
		{
			name: "no payment method", begin: func(p *onFly) { p.pays(false) }, mend: func(p *onFly) { p.pays(true) }, told: "payment method",
			ready: []string{"fly-app", "fly-ips", "fly-volume", "fly-certificate"}, stuck: []string{"fly-postgres", "upstash-redis", "fly-secrets"},
		},
		{
			name: "no room for volumes", begin: func(p *onFly) {
				p.Fault(flyemulator.Fault{Action: "volumes.create", Status: 412, Word: "volume_placement_capacity", Text: "insufficient resources to create volume"})
			},
			told: "no room", stuck: []string{"fly-volume"},
			ready: []string{"fly-app", "fly-ips", "fly-secrets", "fly-certificate", "fly-postgres", "upstash-redis"},
		},
		{
			name: "no room for clusters", begin: func(p *onFly) {
				p.Fault(flyemulator.Fault{Path: "^/v1/postgres$", Method: "POST", Status: 422, Word: "insufficient_capacity", Text: "could not find a candidate host"})
			},
			told: "no room", stuck: []string{"fly-postgres", "fly-secrets"},
			ready: []string{"fly-app", "fly-ips", "fly-volume", "fly-certificate", "upstash-redis"},
		},
		{
			name: "the host of the inventory is lost", kept: true, begin: func(p *onFly) {
				p.SetHost(flyInventory, p.inventoryMachine().ID, "unreachable", false)
				time.Sleep(2 * time.Minute)
				p.drift("DELETE", "/v1/apps/acme-shop/certificates/api.acme.com", "")
			},
			mend: func(p *onFly) { p.SetHost(flyInventory, p.inventoryMachine().ID, "ok", false) },
			told: "cannot be reached",
		},
	}
}

// flyOthers are what other people and Fly itself do, which is put right.
func flyOthers() []flyTrouble {
	gone := func(p *onFly) { p.drift("DELETE", "/v1/apps/acme-shop/certificates/api.acme.com", "") }
	return []flyTrouble{
		{
			name: "the lease is stolen after a pause", kept: true, lasts: 3 * time.Minute, begin: func(p *onFly) {
				p.StealLease(flyInventory, p.inventoryMachine().ID, "somebody@acme.com", 10*time.Minute)
				gone(p)
			},
			told: "somebody@acme.com",
		},
		{
			name: "Fly's clock jumps by an hour", kept: true, begin: func(p *onFly) {
				p.Advance(time.Hour)
				gone(p)
			},
		},
		{name: "Fly's clock is an hour ahead from the start", begin: func(p *onFly) { p.Advance(time.Hour) }},
		{name: "Fly moves the inventory to another host", kept: true, begin: func(p *onFly) {
			p.Migrate(flyInventory, p.inventoryMachine().ID)
			gone(p)
		}},
		{name: "the inventory is destroyed", kept: true, begin: func(p *onFly) {
			p.drift("DELETE", "/v1/apps/"+flyInventory+"/machines/"+p.inventoryMachine().ID+"?force=true", "")
			gone(p)
		}},
		{name: "the proxy starts and stops at its pleasure", begin: func(p *onFly) { p.SetProxy(true) }, mend: func(p *onFly) { p.SetProxy(false) }},
		{name: "somebody changes all that can be healed", kept: true, begin: func(p *onFly) {
			gone(p)
			p.drift("DELETE", "/v1/apps/acme-shop/certificates/api.acme.io", "")
			p.drift("POST", "/v1/apps/acme-shop/secrets", `{"values":{"DATABASE_URL":"postgres://somewhere.else","REDIS_URL":null}}`)
			ips, err := p.Somebody.IPs(p.t.Context(), "acme-shop")
			p.must(err)
			for _, ip := range ips {
				if !ip.Shared { // the one that is shared cannot be taken away
					p.drift("DELETE", "/v1/apps/acme-shop/ip_assignments/"+ip.Address, "")
				}
			}
			id := p.cluster()
			p.must(p.Somebody.DetachPostgres(p.t.Context(), id, "acme-shop"))
		}},
		{
			name: "somebody deploys with flyctl, and sets a secret", kept: true, begin: func(p *onFly) {
				p.drift("POST", "/v1/apps/acme-shop/secrets", `{"values":{"THEIRS":"1"}}`)
				p.MakeMachine("acme-shop", map[string]string{"fly_platform_version": "v2", "fly_process_group": "app"})
				p.drift("PATCH", "/v1/apps/"+flyInventory+"/machines/"+p.inventoryMachine().ID+"/metadata", `{"metadata":{"fly_flyctl_version":"0.4.0"}}`)
			},
			ready: []string{"fly-app", "fly-volume", "fly-ips", "fly-secrets", "fly-certificate", "fly-postgres", "upstash-redis"},
			extra: func(p *onFly) string {
				got := p.picture()
				if !strings.Contains(got, "THEIRS") || !strings.Contains(got, ": machine ") || !strings.Contains(got, " in fra\"") {
					p.t.Errorf("what they have made is not there: %s", got)
				}
				return got
			},
		},
	}
}

func (p *onFly) drift(method, path, body string) {
	p.t.Helper()
	if status, text := p.Drift(flyemulator.Drift{Method: method, Path: path, Body: json.RawMessage(body)}); status >= 300 {
		p.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
}

// inventoryMachine is the machine that holds the inventory.
func (p *onFly) inventoryMachine() api.Machine {
	p.t.Helper()
	all, err := p.Somebody.Machines(p.t.Context(), flyInventory, api.MachinesQuery{})
	p.must(err)
	for _, m := range all {
		if m.State != api.StateDestroyed {
			return m
		}
	}
	p.t.Fatal("there is no inventory")
	return api.Machine{}
}

// cluster is the one of the environment.
func (p *onFly) cluster() string {
	p.t.Helper()
	all, err := p.Somebody.PostgresClusters(p.t.Context(), flytest.Org)
	p.must(err)
	if len(all) != 1 {
		p.t.Fatalf("%d clusters", len(all))
	}
	return all[0].ID
}

// pays says whether the organization has a payment method.
func (p *onFly) pays(yes bool) {
	p.t.Helper()
	var b bytes.Buffer
	p.must(p.Save(&b))
	text := strings.Replace(b.String(), fmt.Sprintf(`"Unpaid": %v`, yes), fmt.Sprintf(`"Unpaid": %v`, !yes), 1)
	if text == b.String() {
		p.t.Fatal("there is no organization")
	}
	p.must(p.Load(strings.NewReader(text)))
}

// Two forged hold one environment, each with an engine of its own: one acts.
// The other goes on when it is cut off; when that one is back, it acts no more.
func TestTwoForgedOnFly(t *testing.T) {
	f := newFlyForge(t)
	one, two := f.load(t, flyKilledOne), f.load(t, flyKilledTwo)
	var wants []string
	onFlyInBubble(t, f, flyemulator.Options{}, func(p *onFly) {
		d := p.begin(one, 0)
		d.settle()
		wants = append(wants, p.picture())
		d.set(two, 2)
		d.settle()
		wants = append(wants, p.picture())
	})
	for _, after := range []time.Duration{time.Second, 15 * time.Second, 40 * time.Second, 70 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			onFlyInBubble(t, f, flyemulator.Options{}, func(p *onFly) {
				p.crowded = true
				first, second := p.begin(one, 0), p.begin(one, 0)
				for i, want := range wants {
					time.Sleep(after)
					acts, waits := first, second
					if l := second.engine.Status().Environments[0].Lease; l != nil && l.Held {
						acts, waits = second, first
					}
					acts.sever(true)
					time.Sleep(5 * time.Minute)
					acts.sever(false)
					waits.settle()
					time.Sleep(10 * time.Minute)
					if got := p.picture(); got != want {
						t.Errorf("not as with one forged:\n%s", cmp.Diff(want, got))
					}
					if i == 0 {
						first.set(two, 2)
						second.set(two, 2)
					}
				}
				first.end()
				second.end()
				p.proveSecrets()
			})
		})
	}
}
