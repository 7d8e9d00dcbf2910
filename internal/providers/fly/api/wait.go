package api

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// WaitFor says what is waited for.
type WaitFor struct {
	States  []string      // any of them; empty: started. "settled" is any that a machine stays in
	Version string        // InstanceID that it must have; empty: any. Fly wants it for stopped
	Timeout time.Duration // in all; zero: a minute
}

// Waited is what has come.
type Waited struct {
	State   string `json:"state"`
	Version string `json:"version"`
	EventID string `json:"event_id"`
}

const (
	longestWait = 60 * time.Second // that Fly takes
	youngFor    = 10 * time.Second // a machine may not be known where it is waited for
	slowAnswer  = 15 * time.Second
)

// Wait returns when a machine has reached a state; TimedOut: it has not. That a
// machine has started does not say that it still runs.
func (c *Client) Wait(ctx context.Context, app, id string, w WaitFor) (Waited, error) {
	if w.Timeout <= 0 {
		w.Timeout = longestWait
	}
	if len(w.States) == 0 {
		w.States = []string{StateStarted}
	}
	began := time.Now()
	until := began.Add(w.Timeout)
	ctx, cancel := context.WithTimeout(ctx, w.Timeout+slowAnswer)
	defer cancel()
	for {
		left := min(max(time.Until(until), time.Second), longestWait)
		query := url.Values{
			"state":   {strings.Join(w.States, ",")},
			"timeout": {strconv.Itoa(int((left + time.Second - 1) / time.Second))},
		}
		if w.Version != "" {
			query.Set("version", w.Version)
			query.Set("instance_id", w.Version) // what it was called before
		}
		r := request{
			action: "machine.wait", ident: id, app: app, path: appPath(app, "machines", id, "wait"),
			query: query, waits: true, patience: left + slowAnswer,
		}
		got, err := get[Waited](ctx, c, r)
		switch kind := KindOf(err); {
		case kind == NotFound && slices.Contains(w.States, StateDestroyed):
			return Waited{State: StateDestroyed}, nil
		case kind == NotFound && time.Since(began) < min(youngFor, w.Timeout):
		case kind == TimedOut && time.Now().Before(until):
		default:
			return got, err
		}
	}
}
