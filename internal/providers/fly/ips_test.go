package fly_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// types are those of the addresses that an app has, and the addresses.
func (r *rig) types() (types, addresses []string) {
	r.t.Helper()
	list, err := r.Somebody.IPs(r.t.Context(), flytest.App)
	r.must(err)
	for _, ip := range list {
		types, addresses = append(types, ip.Type()), append(addresses, ip.Address)
	}
	slices.Sort(types)
	return types, addresses
}

func (r *rig) wantTypes(want ...string) {
	r.t.Helper()
	if got, _ := r.types(); !slices.Equal(got, want) {
		r.t.Errorf("the app has %v, want %v", got, want)
	}
}

func TestAddressesAreAssignedAndShown(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewIPs(r.forged())
		r.must(r.apply(t.Context(), p, ask(r.ips("shared", true))))
		r.wantTypes("shared_v4", "v6")
		o := r.observe(p, ask(r.ips("shared", true)))
		_, addresses := r.types()
		for _, address := range addresses {
			if !strings.Contains(o.Health.Message, address) {
				t.Errorf("%s is not told: %s", address, o.Health.Message)
			}
		}
		if o.Outputs["host"].Value != flytest.App+".fly.dev" || o.Outputs["address/v6"].Value == "" || o.Objects != 2 {
			t.Errorf("%+v", o)
		}
	})
}

// Going from a shared address to a dedicated one, the old one is released last,
// and that it does not come back is said.
func TestWhatForgedAssignedIsReleasedLate(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewIPs(r.forged())
		r.must(r.apply(t.Context(), p, ask(r.ips("shared", true))))
		q := ask(r.ips("dedicated", true))
		steps := r.planned(p, q)
		if len(steps) != 2 || steps[0].Late || !steps[1].Late || steps[1].Deletes != 1 || !strings.Contains(words(steps), "does not come back") {
			t.Errorf("planned:\n%s", words(steps))
		}
		r.must(r.apply(t.Context(), p, q))
		r.wantTypes("v4", "v6")
	})
}

// What was to be released and is gone already, after a crash or by somebody's
// hand, does not stay in the inventory.
func TestWhatIsReleasedAlreadyIsForgotten(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		p := fly.NewIPs(a)
		r.must(r.apply(t.Context(), p, ask(r.ips("dedicated", true))))
		all, err := r.Somebody.IPs(t.Context(), flytest.App)
		r.must(err)
		for _, ip := range all {
			r.must(r.Somebody.ReleaseIP(t.Context(), flytest.App, ip.Address))
		}
		time.Sleep(10 * time.Minute)
		q := ask(r.ips("none", true))
		if steps := r.planned(p, q); len(steps) != 2 || steps[1].Action != reconcile.ActionForget || steps[1].Deletes != 0 {
			t.Errorf("planned:\n%s", words(steps))
		}
		r.must(r.apply(t.Context(), p, q))
		record, _ := r.inventory(a).Record(r.ips("", true).ID)
		if len(record.Entries) != 1 || record.Entries[0].Name != api.IPv6 {
			t.Errorf("%+v", record.Entries)
		}
		r.wantTypes("v6")
	})
}

// An address that somebody else assigned does as well, and stays at the end.
func TestAddressesOfOthersAreNeverReleased(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		for _, kind := range []string{api.IPv4, api.IPv6, api.PrivateIP} {
			_, err := r.Somebody.AssignIP(t.Context(), flytest.App, api.AssignIP{Type: kind})
			r.must(err)
		}
		time.Sleep(time.Hour) // it is none of an action of ours
		p := fly.NewIPs(r.forged())
		r.must(r.apply(t.Context(), p, ask(r.ips("dedicated", true))))
		r.wantTypes("private_v6", "v4", "v6")
		r.must(r.apply(t.Context(), p, ask(r.ips("shared", true))))
		r.wantTypes("private_v6", "shared_v4", "v4", "v6")
		r.must(r.apply(t.Context(), p, ask(r.ips("shared", true), removing)))
		r.wantTypes("private_v6", "v4", "v6")
		if o := r.observe(p, ask(r.ips("shared", true), removing)); o.Exists {
			t.Error("it is there still")
		}
	})
}

// Whoever gets no answer, or is told that there is one already, looks; nothing is
// assigned twice.
func TestAddressesAreNotAssignedTwice(t *testing.T) {
	for name, fault := range map[string]flyemulator.Fault{
		"the answer is lost":     {Drop: flyemulator.DropAfter},
		"an error after it":      {Status: 502, Commit: true},
		"timed out after it":     {Status: 408, Commit: true},
		"has one already":        {Status: 409, Commit: true, Text: "App already has one"},
		"nothing was done":       {Drop: flyemulator.DropBefore},
		"an error before it":     {Status: 503},
		"a slow answer":          {Delay: flyemulator.Duration(29 * time.Second)},
		"too many requests":      {Status: 429, Text: "rate limit exceeded"},
		"not enough of them now": {Status: 422, Text: "Validation failed: try later"},
	} {
		t.Run(name, func(t *testing.T) {
			inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
				fault.Action, fault.Count = "ips.create", 1
				r.Fault(fault)
				p, q := fly.NewIPs(r.forged()), ask(r.ips("dedicated", false))
				for range 3 {
					if err := r.apply(t.Context(), p, q); err == nil {
						break
					}
				}
				r.wantTypes("v4")
				if o := r.observe(p, q); o.Health.Status != reconcile.Ready {
					t.Errorf("%+v", o.Health)
				}
				// It is known to be ours, so that it does not cost for ever.
				r.must(r.apply(t.Context(), p, ask(r.ips("dedicated", false), removing)))
				r.wantTypes()
			})
		})
	}
}

// What a process has made in its last moment is known to the next one.
func TestAddressOfAnInterruptedActionIsOurs(t *testing.T) {
	for _, remove := range []bool{false, true} {
		inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
			a := r.forged()
			p, q := fly.NewIPs(a), ask(r.ips("dedicated", false))
			steps := r.planned(p, q)
			mend := r.Line.CutAfter(2) // what is written down, and the address
			if _, err := p.Apply(t.Context(), q, steps[0]); err == nil {
				t.Fatal("it was not cut")
			}
			mend()
			a.Close()
			r.wantTypes("v4")
			p = fly.NewIPs(r.forged())
			if !remove {
				r.must(r.apply(t.Context(), p, q))
				r.wantTypes("v4")
			}
			r.must(r.apply(t.Context(), p, ask(r.ips("dedicated", false), removing)))
			r.wantTypes()
		})
	}
}

func TestAppsOfOthersGetNoAddress(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.MakeApp(flytest.App) // not by forged
		p, q := fly.NewIPs(r.forged()), ask(r.ips("shared", true))
		if err := r.apply(t.Context(), p, q); err == nil || !strings.Contains(err.Error(), "not in the inventory") {
			t.Errorf("error %v", err)
		}
		r.wantTypes()
	})
}

func TestNoMoreDedicatedAddressesIsTold(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.SetMode(flyemulator.ModeDedicatedIPv4, "exhausted")
		p, q := fly.NewIPs(r.forged()), ask(r.ips("dedicated", true))
		err := r.apply(t.Context(), p, q)
		if err == nil || !strings.Contains(err.Error(), "limit of dedicated IPv4") {
			t.Errorf("error %v", err)
		}
		r.SetMode(flyemulator.ModeDedicatedIPv4, "allowed")
		r.must(r.apply(t.Context(), p, q))
		r.wantTypes("v4", "v6")
	})
}
