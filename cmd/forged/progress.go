package main

import (
	"context"
	"log/slog"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// progressEvery is how often at most a resource that stays in its state says
// another reason for it: counts of pods change all the time.
const progressEvery = 5 * time.Second

// progress is what was said last of each resource.
type progress struct {
	log  *slog.Logger
	last map[forge.ID]progressLine
}

type progressLine struct {
	state       reconcile.State
	on, message string
	at          time.Time
}

// tellProgress logs every resource that comes into another state, or has another
// reason to be in it, until ctx ends.
func tellProgress(ctx context.Context, engine *reconcile.Engine, log *slog.Logger) {
	p := progress{log: log, last: map[forge.ID]progressLine{}}
	for {
		changed := engine.Changed()
		var again <-chan time.Time
		if wait := p.tell(engine.Status(), time.Now()); wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// tell logs what is new, and returns how long to wait for the rest; 0: there is
// none.
func (p *progress) tell(status reconcile.Status, now time.Time) (wait time.Duration) {
	for _, env := range status.Environments {
		for _, r := range env.Resources {
			line := progressLine{r.State, r.WaitingFor, r.Message, now}
			last, told := p.last[r.ID]
			switch early := progressEvery - now.Sub(last.at); {
			case !told && line.state == reconcile.StateWaiting && line.on == "":
				continue // nobody has looked at it yet
			case told && last.state == line.state && last.on == line.on && last.message == line.message:
				continue
			case told && last.state == line.state && early > 0:
				if wait == 0 || early < wait {
					wait = early
				}
				continue
			}
			p.last[r.ID] = line
			p.log.Info("state", "resource", r.ID.String(), "state", string(r.State), "for", line.on, "message", line.message)
		}
	}
	return wait
}
