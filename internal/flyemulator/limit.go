package flyemulator

import (
	"net/http"
	"time"
)

// rate is how often an action may be asked of one thing.
type rate struct {
	perSecond float64
	burst     float64
}

// Machines API docs, rate limits: one request a second for each action and
// each thing, three at once; reading a machine five and ten; a hundred
// deletions of apps a minute.
var (
	usualRate     = rate{1, 3}
	machineGet    = rate{5, 10}
	appDeletion   = rate{100.0 / 60, 100}
	identifiersBy = []string{"id", "volume", "cluster", "app", "org"}
)

// bucket is what is left of a rate.
type bucket struct {
	left float64
	at   time.Time
}

// throttle refuses what comes too often.
func (e *Emulator) throttle(c *call) *failure {
	if !e.o.RateLimits || c.all || c.route.action == "" {
		return nil
	}
	of, r := "", c.route.rate
	for _, name := range identifiersBy {
		if of = c.values[name]; of != "" {
			break
		}
	}
	if of == "" && len(c.tokens) > 0 {
		of = c.tokens[0].Org
	}
	if r == appDeletion && len(c.tokens) > 0 {
		of = c.tokens[0].Org // it cannot be of each app
	}
	if r == (rate{}) {
		r = usualRate
	}
	key, now := c.route.action+" "+of, e.now()
	b := e.buckets[key]
	if b == nil {
		b = &bucket{left: r.burst, at: now}
		e.buckets[key] = b
	}
	b.left = min(r.burst, b.left+now.Sub(b.at).Seconds()*r.perSecond)
	b.at = now
	if b.left < 1-1e-9 {
		return refuse(http.StatusTooManyRequests, "rate limit exceeded")
	}
	b.left--
	return nil
}
