package fly_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// TestCreate: fifty resources, beside the least time in which Fly's limits let
// anybody send these requests.
func TestCreate(t *testing.T) {
	for name, make := range map[string]func(w *world) []reconcile.Environment{
		"one environment of 5": func(w *world) []reconcile.Environment { return w.environments(1) },
		"10 environments of 5": func(w *world) []reconcile.Environment { return w.environments(10) },
		"one environment of 50 apps": func(w *world) []reconcile.Environment {
			return []reconcile.Environment{w.onlyApps("e000", 50)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				all := make(w)
				asked := len(w.Requests())
				w.run(all)
				took := w.ready(time.Hour)
				floor, by := floorOf(w.Requests()[asked:])
				made := w.meter.seen()
				what := fmt.Sprintf("fly: create %d resources, %s", resourcesOf(all), name)
				tell(t, result{
					Name: what, Value: took.Seconds(), Unit: "s", Floor: floor.Seconds(), Note: by,
					Target: "≤ 1.1× floor", Met: took <= floor*11/10,
				})
				tell(t, result{
					Name: what + ": while the inventory's machine takes in what is written", Value: takenIn(w.Requests()[asked:]).Seconds(), Unit: "s",
				})
				tell(t, result{Name: what + ": requests", Value: float64(made.total()), Note: made.String()})
			})
		})
	}
}

// onlyApps is an environment of nothing but apps.
func (w *world) onlyApps(name string, n int) reconcile.Environment {
	account := w.Account()
	account.Inventory = "forged-shop-" + name
	var all []forge.Resource
	for i := range n {
		app := fmt.Sprintf("shop-%s-%02d", name, i)
		all = append(all, forge.Resource{
			ID: forge.ID{Environment: name, Kind: forge.KindFlyApp, Name: app}, Target: forge.Target{Org: flytest.Org},
			Spec: forge.FlyAppSpec{Account: account, Name: app},
		})
	}
	return w.of(name, all)
}

// floorOf is the least time in which Fly takes so many requests: of each action
// and thing, one a second after three at once; five after ten to read a machine
// (Machines API docs, rate limits). by is what sets it.
func floorOf(requests []flyemulator.Request) (floor time.Duration, by string) {
	of := map[string]int{}
	for _, r := range requests {
		of[r.Action+" of "+thing(r)]++
	}
	for _, key := range slices.Sorted(maps.Keys(of)) {
		rate, burst := 1.0, 3.0
		if strings.HasPrefix(key, "machines.get ") {
			rate, burst = 5, 10
		}
		if d := time.Duration(math.Max(0, float64(of[key])-burst) / rate * float64(time.Second)); d > floor {
			floor, by = d, fmt.Sprintf("%d × %s", of[key], key)
		}
	}
	return floor, by
}

// takenIn is how long the busiest machine of an inventory was preparing and taking
// in updates, one after the other (as measured by users of the API, and so in the
// emulator).
func takenIn(requests []flyemulator.Request) time.Duration {
	const prepare, takeIn = 9 * time.Second, 3500 * time.Millisecond
	of := map[string]int{}
	most := 0
	for _, r := range requests {
		if r.Action == "machines.update" {
			of[thing(r)]++
			most = max(most, of[thing(r)])
		}
	}
	return prepare + time.Duration(most)*takeIn
}

// thing is what a limit is counted for: a machine, an app or the organization.
func thing(r flyemulator.Request) string {
	parts := strings.Split(strings.SplitN(r.Path, "?", 2)[0], "/") // "", v1, apps, APP, machines, ID
	if len(parts) > 5 && parts[4] == "machines" {
		return "machine " + parts[5]
	}
	if r.App != "" {
		return "app " + r.App
	}
	return "the organization"
}

// TestStorm: somebody undoes what forged does, until it has sent ten thousand
// requests; Fly refuses none.
func TestStorm(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		all := w.environments(size(4, 40))
		w.run(all)
		w.ready(time.Hour)
		before, began := w.meter.seen(), time.Now()
		enough := size(500, 10_000)
		undone := 0
		for w.meter.seen().since(before).total() < enough {
			for _, e := range all {
				w.undo(e.Resources[0].ID.Name, undone)
				undone++
			}
			time.Sleep(2 * time.Minute)
		}
		made := w.meter.seen().since(before)
		took := time.Since(began)
		time.Sleep(30 * time.Minute)
		w.ready(time.Hour)
		tell(t, result{
			Name: fmt.Sprintf("fly: %d requests while %d things are undone: 429", made.total(), undone), Value: float64(w.meter.seen()["429"]),
			Target: "0", Met: w.meter.seen()["429"] == 0, Note: fmt.Sprintf("%s: %s", took.Round(time.Second), made),
		})
	})
}

// undo is what somebody does who does not know of forged: each time another
// thing.
func (w *world) undo(app string, turn int) {
	w.t.Helper()
	ctx := w.t.Context()
	var err error
	switch turn % 3 {
	case 0:
		_, err = w.Somebody.SetSecrets(ctx, app, theirs())
	case 1:
		list, failed := w.Somebody.IPs(ctx, app)
		err = failed
		for _, ip := range list {
			if err == nil && ip.Type() == "v6" {
				err = w.Somebody.ReleaseIP(ctx, app, ip.Address)
			}
		}
	default:
		err = w.Somebody.DeleteCertificate(ctx, app, host(app))
	}
	if err != nil {
		w.t.Fatalf("%s: %v", app, err)
	}
}
