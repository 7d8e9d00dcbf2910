package upstash_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
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
						if _, err := r.round(p, r.request()); err == nil {
							continue
						}
						if restart {
							p = r.redis()
						}
						time.Sleep(3 * time.Second)
					}
					r.MendAll()
					r.converge(p, r.request())
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
				r.plan(p, r.request())
				r.Fault(tt.fault)
				time.Sleep(time.Hour)
				_, err := r.round(p, r.request())
				if reconcile.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
					r.t.Errorf("%s: %v", reconcile.KindOf(err), err)
				}
				r.MendAll()
				time.Sleep(time.Hour)
				r.converge(p, r.request())
			})
		})
	}
}

// A database that could not be made is told of.
func TestFailure(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		r.SetMode(flyemulator.ModeAddOn, "error")
		p := r.redis()
		if _, err := r.round(p, r.request()); err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		o, steps := r.plan(p, r.request())
		if o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, "provisioning failed") || len(steps) != 0 {
			r.t.Errorf("%+v %v", o.Health, steps)
		}
	})
}
