package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/flyemulator"
)

// flyKilledOne is examples/fly-minimal.cue with a disk and a certificate of
// one's own. The inventory is named, so that it stays when the app goes.
const flyKilledOne = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "registry.fly.io/acme-shop", tag: "1.4.2"}
	secrets: {SESSION: generate: {}, GOES: generate: {}}
}
environments: prod: {
	platform: {kind: "fly", org: "acme", appName: "acme-shop", inventory: "forged-acme-shop", token: file: "token"}
	regions: iad: {}
	domains: ["api.acme.com", "api.acme.io"]
	expose: certificates: "api.acme.io": {chain: file: "own.pem", key: file: "own.key"}
	services: {
		postgres: {mode: "fly-managed", create: true}
		redis: {mode: "upstash", create: true}
	}
	volumes: uploads: {mount: "/app/uploads", size: "3Gi"}
	policy: {mode: "apply", prune: "owned", maxDelete: 20, destroyData: "with-token"}
}
`

// flyKilledTwo changes what can be changed of each, adds, and lets go.
const flyKilledTwo = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "registry.fly.io/acme-shop", tag: "1.4.2"}
	secrets: {SESSION: generate: {}, EXTRA: generate: {}}
}
environments: prod: {
	platform: {kind: "fly", org: "acme", appName: "acme-shop", inventory: "forged-acme-shop", token: file: "token"}
	regions: iad: machines: 2
	domains: ["shop.acme.com", "api.acme.io"]
	expose: {
		publicIPv4: "dedicated"
		certificates: "api.acme.io": {chain: file: "own.pem", key: file: "own.key"}
	}
	services: {
		postgres: {mode: "fly-managed", create: true, extensions: ["pg_trgm"]}
		redis: {mode: "upstash", create: true, evict: false, plan: "1gb", readRegions: ["lhr"]}
	}
	volumes: uploads: {mount: "/app/uploads", size: "4Gi"}
	policy: {mode: "apply", prune: "owned", maxDelete: 20, destroyData: "with-token"}
}
`

// flyKilledNone moves on to an app without anything: all that was there is to go.
const flyKilledNone = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "registry.fly.io/acme-shop", tag: "1.4.2"}
}
environments: prod: {
	platform: {kind: "fly", org: "acme", appName: "acme-other", inventory: "forged-acme-shop", token: file: "token"}
	regions: iad: {}
	services: postgres: mode: "off"
	policy: {mode: "apply", prune: "owned", maxDelete: 20, destroyData: "with-token"}
}
`

// flyKilledApp is an environment whose PostgreSQL runs as an app.
const flyKilledApp = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "registry.fly.io/acme-shop", tag: "1.4.2"}
	secrets: SESSION: generate: {}
}
environments: prod: {
	platform: {kind: "fly", org: "acme", appName: "acme-shop", inventory: "forged-acme-shop", token: file: "token"}
	regions: iad: {}
	services: postgres: {mode: "fly-unmanaged", appName: "acme-shop-db", create: true}
	policy: {mode: "apply", prune: "owned", maxDelete: 20, destroyData: "with-token"}
}
`

// TestKilledOnFly kills forged, with the engine and all that acts on Fly, after
// requests that change something, while it installs an environment, changes
// all of it, and takes all of it away: its memory is lost, and its lease stands
// until it has run out. Another one must come to the same end as one that was
// left in peace. A request that changes nothing leaves nothing: a kill after it
// is one after the change before it.
func TestKilledOnFly(t *testing.T) {
	f := newFlyForge(t)
	one, two, none, app := f.load(t, flyKilledOne), f.load(t, flyKilledTwo), f.load(t, flyKilledNone), f.load(t, flyKilledApp)
	real := newFlyPostgres(t)
	for _, trial := range []struct {
		name          string
		before, after *loaded
		guest         flyemulator.Guest
		points        int
	}{
		{"install", nil, one, nil, 4},
		{"upgrade", one, two, nil, 3},
		{"removal", one, none, nil, 3},
		{"install of an app", nil, app, real, 3},
		{"removal of an app", app, none, real, 2},
	} {
		t.Run(trial.name, func(t *testing.T) {
			// until is how far an undisturbed or a killed process gets.
			run := func(t *testing.T, last int) (changes int, end string) {
				onFlyInBubble(t, f, flyemulator.Options{Guest: trial.guest}, func(p *onFly) {
					if trial.before != nil {
						d := p.begin(trial.before, 0)
						d.settle()
						d.end()
					}
					d := p.begin(trial.after, last)
					if last > 0 {
						<-d.dead
						go d.end()
						d = p.begin(trial.after, 0)
					}
					d.settle()
					changes = d.lastChange()
					end = p.picture()
					d.rests()
					d.end()
					if trial.after != none {
						p.proveSecrets()
					}
				})
				return changes, end
			}
			var changes int
			var want string
			if !t.Run("undisturbed", func(t *testing.T) { changes, want = run(t, 0) }) {
				return
			}
			t.Logf("%d changing requests; %d bytes are compared:\n%s", changes, len(want), want)
			if *everyKill {
				trial.points = changes
			}
			for i := range trial.points {
				n := 1 + i*(changes-1)/max(trial.points-1, 1)
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					if _, got := run(t, n); got != want {
						t.Errorf("not as after an undisturbed run:\n%s", cmp.Diff(want, got))
					}
				})
			}
		})
	}
}
