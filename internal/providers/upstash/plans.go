package upstash

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// payAsYouGo is the plan that is paid by use, in forge.cue.
const payAsYouGo = "pay-as-you-go"

// catalogue is what Upstash offers. It hardly ever changes: it is read once,
// and again when it lacks what is asked for.
type catalogue struct {
	mu    sync.Mutex
	plans []api.AddOnPlan
	read  time.Time
}

// old is when a catalogue that lacks something is read again.
const old = 10 * time.Minute

// find is the id of a plan of forge.cue.
func (c *catalogue) find(ctx context.Context, org *fly.Org, plan string) (string, error) {
	c.mu.Lock()
	plans, read := c.plans, c.read
	c.mu.Unlock()
	if id := idOf(plans, plan); id != "" {
		return id, nil
	}
	if plans == nil || time.Since(read) > old {
		var err error
		if plans, err = org.Client().AddOnPlans(ctx, api.AddOnRedis); err != nil {
			return "", fly.Classify("read", "the plans of Upstash Redis", err)
		}
		c.mu.Lock()
		c.plans, c.read = plans, time.Now()
		c.mu.Unlock()
	}
	if id := idOf(plans, plan); id != "" {
		return id, nil
	}
	var names []string
	for _, p := range plans {
		names = append(names, p.DisplayName)
	}
	return "", &reconcile.Error{
		Kind: reconcile.Invalid, Op: "find", Object: "plan " + plan,
		Err:  fmt.Errorf("Upstash offers no such plan: it has %s", strings.Join(names, ", ")), //nolint:staticcheck // a name
		Hint: "write another services.redis.plan",
	}
}

func idOf(plans []api.AddOnPlan, plan string) string {
	for _, p := range plans {
		if planOf(p.Name) == plan || planOf(p.DisplayName) == plan {
			return p.ID
		}
	}
	return ""
}

var (
	size  = regexp.MustCompile(`(?i)(?:^|[^0-9])([0-9]+)[ _-]?(mb|gb)\b`)
	byUse = regexp.MustCompile(`(?i)pay[ _-]?as[ _-]?you[ _-]?go|payg`)
)

// planOf is what a plan of Upstash is called in forge.cue, by either of its
// names; empty: it is not known there.
func planOf(name string) string {
	if byUse.MatchString(name) {
		return payAsYouGo
	}
	if m := size.FindStringSubmatch(name); m != nil {
		return m[1] + strings.ToLower(m[2])
	}
	return ""
}
