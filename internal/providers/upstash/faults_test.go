package upstash_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// An answer that is lost is looked for; no request makes a second database,
// wherever a process ends.
func TestNeverTwo(t *testing.T) {
	faults := []flyemulator.Fault{
		{Body: `createAddOn`, Drop: flyemulator.DropAfter, Count: 1},
		{Body: `createAddOn`, Drop: flyemulator.DropBefore, Count: 1},
		{Body: `createAddOn`, Status: 502, Commit: true, Count: 1},
		{Body: `createAddOn`, Status: 503, Count: 3},
		{Body: `createAddOn`, Status: 408, Commit: true, Count: 1},
		{Body: `updateAddOn`, Drop: flyemulator.DropAfter, Count: 1},
		{Body: `addOns\(`, Status: 502, Count: 10},
		{Body: `addOnPlans`, Status: 500, Count: 5},
		{Body: `addOns?\(`, Delay: flyemulator.Duration(29 * time.Second), Count: 10},
		{Body: `createAddOn`, Delay: flyemulator.Duration(29 * time.Second), Count: 1},
		{Action: "machines.update", Drop: flyemulator.DropAfter, Count: 1},
	}
	for _, f := range faults {
		t.Run(fmt.Sprintf("%s %s%d", f.Body, f.Drop, f.Status), func(t *testing.T) {
			for _, restart := range []bool{false, true} {
				inBubble(t, flyemulator.Options{}, func(r *rig) {
					p := r.redis()
					r.Fault(f)
					for range 30 {
						if _, err := r.Round(p, r.request()); err == nil {
							continue
						}
						if restart {
							p = r.redis()
						}
						time.Sleep(3 * time.Second)
					}
					r.MendAll()
					r.Converge(p, r.request())
				})
			}
		})
	}
}

// What Fly refuses is said, and tried again when that makes sense.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		what  string
		fault flyemulator.Fault
		kind  reconcile.ErrorKind
		want  string
	}{
		{"no payment", flyemulator.Fault{Body: `createAddOn`, Status: 200, Text: `{"errors":[{"message":"Please add a payment method"}],"data":null}`}, reconcile.Denied, "payment"},
		{"a taken name", flyemulator.Fault{Body: `createAddOn`, Status: 200, Text: `{"errors":[{"message":"Validation failed: Name has already been taken"}],"data":null}`}, reconcile.Conflict, "services.redis.name"},
		{"a field is gone", flyemulator.Fault{Body: `addOns\(`, Status: 200, Text: `{"errors":[{"message":"Field 'readRegions' doesn't exist on type 'AddOn'","extensions":{"code":"undefinedField"}}]}`}, reconcile.Internal, "a newer forged may know it"},
		{"a revoked token", flyemulator.Fault{Status: 401}, reconcile.Denied, "revoked"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(r *rig) {
				p := r.redis()
				r.Plan(p, r.request())
				r.Fault(tt.fault)
				time.Sleep(time.Hour)
				_, err := r.Round(p, r.request())
				if reconcile.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
					r.t.Errorf("%s: %v", reconcile.KindOf(err), err)
				}
				r.MendAll()
				time.Sleep(time.Hour)
				r.Converge(p, r.request())
			})
		})
	}
}

// What Fly has refused to make is not forged's when somebody makes it later.
func TestRefusedIsNotOurs(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.redis()
		mend := r.Fault(flyemulator.Fault{Body: `createAddOn`, Status: 200, Text: `{"errors":[{"message":"Please add a payment method"}],"data":null}`})
		if _, err := r.Round(p, r.request()); reconcile.KindOf(err) != reconcile.Denied {
			r.t.Fatal(err)
		}
		mend()
		live := r.Make(name)
		time.Sleep(5 * time.Minute)
		r.Blocked(p, r.request(), "forged did not make it")
		if now := r.live(); len(now.Metadata) > 0 || now.ID != live.ID {
			r.t.Errorf("%+v", now)
		}
	})
}

// Nor is what somebody makes long after an answer of Fly's was lost.
func TestLateIsNotOurs(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		mend := r.Fault(flyemulator.Fault{Body: `createAddOn`, Drop: flyemulator.DropBefore})
		if _, err := r.Round(r.redis(), r.request()); reconcile.KindOf(err) != reconcile.Unavailable {
			r.t.Fatal(err)
		}
		mend()
		r.Process.Close()
		time.Sleep(time.Hour)
		r.Make(name)
		r.Blocked(r.redis(), r.request(), "forged did not make it")
	})
}

// An answer is lost, and another forged has made a database of this name
// meanwhile: that one stays theirs.
func TestAnotherForgedWasFaster(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.redis()
		r.Plan(p, r.request())
		r.Fault(flyemulator.Fault{Body: `createAddOn`, Drop: flyemulator.DropBefore, Delay: flyemulator.Duration(20 * time.Second), Count: 1})
		ended := make(chan error)
		go func() {
			_, err := r.Round(p, r.request())
			ended <- err
		}()
		time.Sleep(10 * time.Second)
		live, err := r.Somebody.CreateAddOn(r.t.Context(), api.CreateAddOn{Type: api.AddOnRedis, OrgID: r.Ask.OrgID, Name: name, PrimaryRegion: "iad"})
		r.Must(err)
		marks := map[string]any{"forged.dev/instance": "cart", "forged.dev/environment": "prod"}
		_, err = r.Somebody.UpdateAddOn(r.t.Context(), api.UpdateAddOn{ID: live.ID, Metadata: marks})
		r.Must(err)
		if err := <-ended; reconcile.KindOf(err) != reconcile.Conflict {
			r.t.Errorf("error %v", err)
		}
		time.Sleep(5 * time.Minute)
		r.Blocked(p, r.request(), "belongs to another forged")
		if now := r.live(); fmt.Sprint(now.Metadata) != fmt.Sprint(marks) {
			r.t.Errorf("%+v", now)
		}
	})
}

// A database that could not be made is told of.
func TestFailure(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		r.SetMode(flyemulator.ModeAddOn, "error")
		p := r.redis()
		if _, err := r.Round(p, r.request()); err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		o, steps := r.Plan(p, r.request())
		if o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, "provisioning failed") || len(steps) != 0 {
			r.t.Errorf("%+v %v", o.Health, steps)
		}
	})
}
