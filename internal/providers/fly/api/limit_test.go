package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// allowance is the bucket of the server, by a clock of its own.
type allowance struct {
	rate, burst float64
	clock       float64 // seconds of the server's in one of ours
	left        float64
	at          time.Time
}

func (a *allowance) take(at time.Time) bool {
	a.left = min(a.burst, a.left+at.Sub(a.at).Seconds()*a.rate*a.clock)
	a.at = at
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// TestLimitNeverExceeded: ten thousand requests of one identifier, some delayed
// on the way, by a server whose clock is slower than ours.
func TestLimitNeverExceeded(t *testing.T) {
	for name, server := range map[string]*allowance{
		"usual":        {rate: 1, burst: 3, clock: 0.995},
		"machine.get":  {rate: 5, burst: 10, clock: 0.995},
		"just started": {rate: 1, burst: 3, clock: 1, left: -2}, // whoever was here before has used it up: 2 after the fill below
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(time.Now())
			key := limited{name, "x"}
			server.at = time.Now()
			server.left += server.burst
			random := rand.New(rand.NewPCG(1, 2))
			var arrivals []time.Time
			for range 10_000 {
				if err := l.wait(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				late := time.Duration(random.Int64N(int64(700 * time.Millisecond))) // in the network
				arrivals = append(arrivals, time.Now().Add(late))
				if random.IntN(50) == 0 {
					time.Sleep(time.Duration(random.Int64N(int64(10 * time.Second)))) // nobody wants anything: the bucket fills
				}
			}
			slices.SortFunc(arrivals, time.Time.Compare)
			for i, at := range arrivals {
				if !server.take(at) {
					t.Fatalf("%s: request %d is too much", name, i)
				}
			}
		})
	}
}

func TestLimitIsNotSlowerThanItMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Now())
		began := time.Now()
		for range 101 {
			if err := l.wait(t.Context(), limited{"a", "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 102*time.Second {
			t.Errorf("101 requests took %s", took)
		}
	})
}

// TestLimitsAreApart: nobody waits for another identifier or action.
func TestLimitsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Now())
		began := time.Now()
		for i := range 200 {
			for _, action := range []string{"a", "b"} {
				if err := l.wait(t.Context(), limited{action, fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s", took)
		}
	})
}

func TestLimitIsFairAndCanBeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Now())
		key := limited{"a", "x"}
		var mu sync.Mutex
		var order []int
		var gone int
		began := time.Now()
		for i := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				err := l.wait(ctx, key)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					order = append(order, i)
				} else if errors.Is(err, context.Canceled) {
					gone++
				}
			}()
			synctest.Wait() // so that they stand in line in this order
			defer cancel()
			if i%2 == 1 { // leaves the line at once
				cancel()
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if want := []int{0, 2, 4, 6, 8, 10, 12, 14, 16, 18}; !slices.Equal(order, want) || gone != 10 {
			t.Errorf("order %v, %d gone", order, gone)
		}
		if took := time.Since(began); took > 61*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestThoseWhoLeaveUseNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Now())
		key := limited{"a", "x"}
		if err := l.wait(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if err := l.wait(ctx, key); err == nil {
				t.Fatal("two at once from a bucket with one")
			}
			cancel()
		}
		began := time.Now()
		if err := l.wait(t.Context(), key); err != nil || time.Since(began) > 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestRefusedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Now())
		key := limited{"a", "x"}
		time.Sleep(time.Minute)
		l.wait(t.Context(), key)
		l.refused(key, 30*time.Second)
		began := time.Now()
		l.wait(t.Context(), key)
		if got := time.Since(began); got < 30*time.Second || got > 32*time.Second {
			t.Errorf("waited %s", got)
		}
	})
}

// TestLimiterForgets: it does not grow with all the machines that ever were.
func TestLimiterForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Now())
		for i := range 100_000 {
			if err := l.wait(t.Context(), limited{"a", fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(l.buckets); n > 2*sweepFrom {
			t.Errorf("%d buckets", n)
		}
	})
}

func TestAffinityIsBounded(t *testing.T) {
	a := newAffinity()
	for i := range 3 * affinities {
		header := http.Header{"Set-Cookie": {affinityCookie + "=v; Path=/v1/apps/x"}}
		a.keep(fmt.Sprint(i), &http.Response{Header: header})
	}
	if len(a.ofApp) != affinities {
		t.Errorf("%d cookies", len(a.ofApp))
	}
}
