package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ErrKilled says that a second signal ended the process at once.
var ErrKilled = errors.New("stopped by a second signal; what was under way will be finished at the next start")

// Component is a part of the daemon that runs until its context ends.
type Component struct {
	Name string
	Run  func(ctx context.Context) error
}

// Options are what a daemon consists of.
type Options struct {
	Components []Component
	Reloader   *Reloader        // started already; nil: no configuration to keep current
	Signals    <-chan os.Signal // SIGTERM and SIGINT stop, SIGHUP reloads
	Notifier   Notifier
	// Alive fails when the scheduler makes no progress; the watchdog then gets
	// no sign of life.
	Alive  func() error
	Grace  time.Duration // for finishing what is under way; default 30 s
	Logger *slog.Logger
}

// Run runs the components until a signal, the end of ctx or the end of one of
// them, then stops the others. It returns nil after an orderly stop, and it
// returns within the grace period in any case.
func Run(ctx context.Context, opts Options) error {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Grace <= 0 {
		opts.Grace = 30 * time.Second
	}
	components := slices.Clone(opts.Components)
	if opts.Reloader != nil {
		components = append(components, Component{"reload", opts.Reloader.Run})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &life{Options: opts, ended: make(chan end, len(components)), running: map[string]bool{}}
	for _, c := range components {
		l.running[c.Name] = true
		go func() { l.ended <- end{c.Name, c.Run(ctx)} }()
	}
	l.notify(opts.Notifier.Ready("running"))
	err := l.serve(ctx)
	l.notify(opts.Notifier.Stopping())
	cancel()
	return errors.Join(err, l.stop())
}

// life is one Run; its goroutine owns it.
type life struct {
	Options
	ended   chan end
	running map[string]bool
}

type end struct {
	name string
	err  error
}

// serve returns when it is time to stop, with an error when that is because
// something went wrong.
func (l *life) serve(ctx context.Context) error {
	var watchdog <-chan time.Time
	if every := l.Notifier.Watchdog() / 3; every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		watchdog = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-l.ended:
			delete(l.running, e.name)
			if ctx.Err() != nil {
				return e.failure()
			}
			if e.err == nil {
				return fmt.Errorf("%s ended without being told to", e.name)
			}
			return e.failure()
		case <-watchdog:
			if l.Alive != nil {
				if err := l.Alive(); err != nil {
					l.Logger.Error("no sign of life for the watchdog", "error", err)
					continue
				}
			}
			l.notify(l.Notifier.Alive())
		case s := <-l.Signals:
			if s == syscall.SIGHUP {
				if l.Reloader != nil {
					l.Logger.Info("reloading", "signal", s)
					l.Reloader.Request()
				}
				continue
			}
			l.Logger.Info("stopping", "signal", s, "grace", l.Grace)
			return nil
		}
	}
}

// stop waits for the components, within the grace period.
func (l *life) stop() error {
	grace := time.NewTimer(l.Grace)
	defer grace.Stop()
	var failed []error
	for len(l.running) > 0 {
		select {
		case e := <-l.ended:
			delete(l.running, e.name)
			failed = append(failed, e.failure())
		case s := <-l.Signals:
			if s == syscall.SIGHUP {
				continue
			}
			return ErrKilled
		case <-grace.C:
			names := []string{}
			for name := range l.running {
				names = append(names, name)
			}
			slices.Sort(names)
			return errors.Join(append(failed, fmt.Errorf("%s did not stop within %s; what was under way will be finished at the next start",
				strings.Join(names, ", "), l.Grace))...)
		}
	}
	return errors.Join(failed...)
}

func (l *life) notify(err error) {
	if err != nil {
		l.Logger.Warn("service manager", "error", err)
	}
}

func (e end) failure() error {
	if e.err == nil || errors.Is(e.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", e.name, e.err)
}
