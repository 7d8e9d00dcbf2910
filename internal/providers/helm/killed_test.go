package helm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
)

// TestKilledAfterEveryRequest cuts an install and an upgrade after each
// request that changes something, as SIGKILL would, and starts anew: it must
// end as if nothing had happened, without anybody's help.
func TestKilledAfterEveryRequest(t *testing.T) {
	one := map[string]any{"level": "one", "extra": true, "keys": map[string]any{"a": "1"}, "extraEnv": map[string]any{"X": "1"}}
	two := map[string]any{"level": "two", "keys": map[string]any{"b": "2"}}

	// behind makes a rig that reaches the cluster through a proxy.
	behind := func(t *testing.T) (*rig, *faultproxy.Proxy) {
		r := newRig(t)
		proxy := faultproxy.New(t, r.env.Config)
		r.target = forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
		return r, proxy
	}
	first, proxy := behind(t)
	first.values = two
	first.converge()
	installs := proxy.Mutations()

	whole, proxy := behind(t)
	whole.values = one
	whole.converge()
	before := proxy.Mutations()
	whole.values = two
	whole.converge()
	upgrades := proxy.Mutations() - before
	if installs < 5 || upgrades < 5 {
		t.Fatalf("an install takes %d mutations and an upgrade %d: is anything counted?", installs, upgrades)
	}
	want := whole.live()

	for name, limit := range map[string]int{"install": installs, "upgrade": upgrades} {
		for n := 1; n <= limit; n++ {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				r, proxy := behind(t)
				r.values = two
				if name == "upgrade" {
					r.values = one
					r.converge()
					r.values = two
				}
				dead := proxy.DieAfter(n)
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() {
					_, err := r.pass(ctx, r.request())
					ended <- err
				}()
				select {
				case <-dead:
				case err := <-ended:
					select {
					case <-dead:
					case <-time.After(10 * time.Second):
						t.Fatalf("it did not get to mutation %d: %v", n, err)
					}
				}
				// The dead one no longer reaches the cluster; it is left
				// behind as a killed process would be.
				killed := r.clusters
				t.Cleanup(func() {
					cancel()
					go killed.Close()
				})
				r.target = r.env.Target()
				r.start()
				r.converge()
				if got := sameInstance(r, whole); got != want {
					t.Errorf("after a kill at mutation %d\n%s\nwant\n%s", n, got, want)
				}
			})
		}
	}
}

// sameInstance is the live state of a release as if it were the other's.
func sameInstance(r, other *rig) string {
	return strings.ReplaceAll(r.live(), r.env.Instance, other.env.Instance)
}
