package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/evaluate"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
)

type runFlags struct {
	configFlags
	listen  string
	once    bool
	approve []string
	format  *choice
	level   *choice
	grace   time.Duration
}

func newRun(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Stay, and keep everything as forge.cue says",
		Long: `Reconcile every environment, then stay: when forge.cue or a secret file changes,
and when somebody changes what runs, put right what differs, as far as the
mode of the environment allows.

forge.cue is loaded again when it changes, or any other file that it consists of or
imports, on SIGHUP and on POST /-/reload. While the newest one is invalid the last
good one stays in force. At the start an invalid forge.cue is an error. Whoever asks
for a reload has every object checked against the API server itself, too.

A forge is evaluated by a process of its own, which may take 30s and 1GiB of memory,
or half of what the control group has; FORGED_MAX_TIME and FORGED_MAX_MEMORY change
that. One that asks for more is as good as invalid.

SIGTERM and SIGINT end what is under way and stop; a second one stops at once.

Exit codes: 0 stopped in an orderly way, 1 an error. With --once: 0 everything
is as it should be, 1 an error, 2 something is left to do that the mode or a
policy does not allow.`,
		Example: `  forged run
  forged run --once -e local
  forged run --config /etc/forged/forge.cue --log-format json --listen 0.0.0.0:9464`,
		Args: noArguments("name the forge with --config: COMMAND -c ARGUMENT"),
	}
	var flags runFlags
	flags.add(c)
	c.Flags().StringVar(&flags.listen, "listen", server.DefaultAddress, "address of metrics, health and status; empty: none")
	c.Flags().BoolVar(&flags.once, "once", false, "reconcile until nothing moves any more, then end")
	c.Flags().StringSliceVar(&flags.approve, "approve", nil, "with --once: token of a step that may destroy data, as forged plan shows it")
	flags.format = choiceFlag(c, "log-format", "", "form of the log", "text", "json")
	flags.level = choiceFlag(c, "log-level", "", "least level that is logged", "info", "debug", "warn", "error")
	c.Flags().DurationVar(&flags.grace, "grace", 30*time.Second, "time to finish what is under way when stopping")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if len(flags.approve) > 0 && !flags.once {
			return errors.New("--approve goes with --once; a daemon is told by forged approve")
		}
		var level slog.Level
		if err := level.UnmarshalText([]byte(flags.level.value)); err != nil {
			return err
		}
		log := newLogger(s.err, flags.format.value, level)
		// A daemon does more with signals than to end, so it listens for itself,
		// and before anything that takes time.
		signals := make(chan os.Signal, 4)
		signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
		defer signal.Stop(signals)
		e, err := newEvaluator(!flags.once)
		if err != nil {
			return err
		}
		l, err := loadFile(c.Context(), e, flags.configFlags, s)
		if err != nil && c.Context().Err() != nil && !flags.once {
			return nil // told to stop before it had begun
		}
		if err != nil {
			return err
		}
		if flags.once {
			return runOnce(c.Context(), flags, l, log, s)
		}
		return runDaemon(c.Context(), flags, e, l, log, signals, s)
	}
	return c
}

// newLogger makes the log of the process. What client-go has to say goes there
// too, which is for the whole process, and not for one of its worlds.
func newLogger(w io.Writer, format string, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: said}
	var handler slog.Handler = slog.NewTextHandler(w, options)
	if format == "json" {
		handler = slog.NewJSONHandler(w, options)
	}
	klog.SetSlogLogger(slog.New(warnings{handler}))
	return slog.New(handler)
}

// said leaves out attributes that say nothing.
func said(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindString && a.Value.String() == "" {
		return slog.Attr{}
	}
	return a
}

// runDaemon ends by signals; begun only ends what comes before it listens to them.
func runDaemon(begun context.Context, flags runFlags, evaluator *evaluate.Evaluator, first *loaded, log *slog.Logger, signals <-chan os.Signal, s streams) error {
	ctx := context.Background()

	build := buildInfo()
	metrics := server.NewMetrics(build)
	instance := instanceOf(flags.configFlags, first)
	w, err := newWorld(worldOptions{dir: first.dir, instance: instance, log: log, metrics: metrics, grace: flags.grace})
	if err != nil {
		return err
	}
	defer w.close()

	notifier := daemon.NewNotifier(os.Getenv)
	src := &source{configFlags: flags.configFlags, evaluator: evaluator, first: first, ahead: w.ahead, activate: func(l *loaded, generation int, hash string) error {
		if now := instanceOf(flags.configFlags, l); now != instance {
			return fmt.Errorf("app.name is %q now, and what runs belongs to %q: restart with --instance %s to keep it, or without to begin anew",
				now, instance, instance)
		}
		g := l.generation
		g.Number, g.Hash = generation, hash
		if err := w.engine.Set(g); err != nil {
			return err
		}
		metrics.Keep(environmentsOf(g))
		w.charts.Recheck() // those of this machine: they are what they are when the forge is loaded
		return nil
	}}
	reloader := daemon.NewReloader(daemon.ReloadOptions{
		Path: flags.config, Read: src.read, Logger: log, Notifier: notifier, Recheck: w.recheck, Asked: w.verify,
	})
	alive := daemon.Probe(5*time.Second, func() { w.engine.Changed() })
	components := []daemon.Component{
		{Name: "engine", Run: w.engine.Run},
		{Name: "memory", Run: func(ctx context.Context) error { return daemon.TrimMemory(ctx, 3*time.Second, w.engine.Changed) }},
	}
	if flags.listen != "" {
		ln, err := server.Listen(ctx, flags.listen)
		if err != nil {
			return err
		}
		srv := server.New(server.Options{
			Build: build, Instance: instance, Metrics: metrics, Logger: log,
			Status: w.engine.Status, Config: reloader.State, Reload: reloader.Reload, Approve: w.engine.Approve, Alive: alive,
		})
		log.Info("listening", "address", ln.Addr().String())
		// Who asks whether it lives is answered from here on, however long what
		// comes next has to wait for others.
		serving, stop := serve(ctx, srv, ln)
		defer stop()
		components = append(components, daemon.Component{Name: "server", Run: serving})
	}
	err = w.refuse(begun, first, s)
	if begun.Err() != nil {
		return nil // told to stop before it had begun
	}
	if unread, ok := errors.AsType[*unreadError](err); ok {
		// A restart must not end what is well. What cannot run is refused in the
		// cluster, too.
		log.Warn("what may not run on Fly Kubernetes goes on to its cluster", "cluster", unread.cluster, "error", unread)
	} else if err != nil {
		return err
	}
	log.Info("starting", "version", build.Version, "instance", instance, "config", flags.config,
		"environments", strings.Join(environmentsOf(first.generation), ","))
	if err := reloader.Start(ctx); err != nil {
		return err
	}
	return daemon.Run(ctx, daemon.Options{
		Components: components, Reloader: reloader, Signals: signals, Notifier: notifier,
		Alive: alive, Grace: flags.grace, Logger: log,
	})
}

// serve has a server answer until stop, or as a component until that is to end.
func serve(ctx context.Context, srv *server.Server, ln net.Listener) (component func(context.Context) error, stop func()) {
	ctx, stop = context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, ln) }()
	return func(ctx context.Context) error {
		defer context.AfterFunc(ctx, stop)()
		return <-ended
	}, stop
}

func runOnce(ctx context.Context, flags runFlags, l *loaded, log *slog.Logger, s streams) error {
	w, err := l.begin(ctx, worldOptions{dir: l.dir, instance: instanceOf(flags.configFlags, l), log: log, grace: flags.grace, approved: flags.approve}, s)
	if err != nil {
		return err
	}
	defer w.close()
	l.warn(s)
	return converge(ctx, w, l, log, s)
}

// converge goes on until nothing moves any more, and shows what came of it.
func converge(ctx context.Context, w *world, l *loaded, log *slog.Logger, s streams) error {
	watching, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() { defer close(told); tellProgress(watching, w.engine, log) }()
	status, err := w.engine.Converge(ctx, l.generation)
	stop()
	<-told
	if ctx.Err() != nil {
		if err := showStatus(newPrinter(s.out), status, time.Now()); err != nil {
			return err
		}
		return errors.New("interrupted before everything was as it should be; what was begun is taken up again by the next run")
	}
	if err != nil {
		return err
	}
	if err := showStatus(newPrinter(s.out), status, time.Now()); err != nil {
		return err
	}
	return verdict(status)
}

// verdict is how run --once ends.
func verdict(status reconcile.Status) error {
	var failed, pending int
	for _, env := range status.Environments {
		for _, r := range env.Resources {
			switch r.State {
			case reconcile.StateFailed, reconcile.StateUnknown:
				failed++
			case reconcile.StateDrifted, reconcile.StateBlocked, reconcile.StateWaiting:
				pending++
			}
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%s could not be brought to where forge.cue wants it; the table says why", count(failed, "resource"))
	case status.State == reconcile.StateUnknown || status.State == reconcile.StateFailed:
		return errors.New("not everything could be read; the log says why")
	case pending > 0:
		return &exit{exitPending, nil}
	}
	return nil
}
