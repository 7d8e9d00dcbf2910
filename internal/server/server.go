package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/reconcile"
)

// DefaultAddress is where forged listens unless told otherwise: other machines
// cannot reach it.
const DefaultAddress = "127.0.0.1:9464"

// Options are what a Server shows. All but Logger are required.
type Options struct {
	Build    BuildInfo
	Instance string
	Metrics  *Metrics
	Status   func() reconcile.Status
	Config   func() daemon.ConfigState
	Reload   func(ctx context.Context) error
	Approve  func(token string) error // allows a step to destroy the data that it names
	Alive    func() error             // fails when the scheduler makes no progress
	Logger   *slog.Logger
}

// Server answers over HTTP.
type Server struct {
	opts    Options
	started time.Time

	mu       sync.Mutex
	observed map[string]bool // environments that were seen as a whole at least once
}

// New makes a Server and registers what it reads off Options with the metrics.
func New(opts Options) *Server {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: opts, started: time.Now(), observed: map[string]bool{}}
	opts.Metrics.registry.MustRegister(newGauges(s.snapshot))
	return s
}

// Listen opens the port.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w; is another forged running? Choose another port with --listen", err)
	case err != nil:
		return nil, fmt.Errorf("%w; --listen takes host:port", err)
	}
	return ln, nil
}

// Serve answers on ln until ctx ends, then lets running answers finish for at
// most two seconds. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler(isLoopback(ln.Addr().String())),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err := srv.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		stopped <- err
	})
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) && !stop() {
		return <-stopped
	}
	return err
}

// handler routes requests. Behind a loopback port only names of this machine
// are answered to, so that a web page cannot read the status by pointing its
// own host name at 127.0.0.1.
func (s *Server) handler(loopback bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.opts.Metrics.handler())
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("POST /-/reload", s.reload)
	mux.HandleFunc("POST /-/approve", s.approve)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "forged "+s.opts.Build.Version+"\n\n/status\n/metrics\n/healthz\n/readyz\nPOST /-/reload\nPOST /-/approve")
	})
	h := http.NewCrossOriginProtection().Handler(mux)
	if !loopback {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocalName(r.Host) {
			text(w, http.StatusForbidden, "this address is only served under names of this machine")
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.opts.Alive(); err != nil {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	text(w, http.StatusOK, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if missing := s.missing(); len(missing) > 0 {
		text(w, http.StatusServiceUnavailable, strings.Join(missing, "\n"))
		return
	}
	text(w, http.StatusOK, "ok")
}

// missing says what is not ready yet, one sentence each. An environment that
// was seen as a whole once counts as seen: that its cluster is away later is
// for the metrics and the status to say.
func (s *Server) missing() []string {
	if s.opts.Config().Generation == 0 {
		return []string{"no configuration is in force yet"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []string
	seen := map[string]bool{}
	for _, env := range s.opts.Status().Environments {
		var unseen []string
		for _, r := range env.Resources {
			if notLookedAt := r.State == reconcile.StateWaiting && r.WaitingFor == ""; notLookedAt || r.State == reconcile.StateUnknown {
				unseen = append(unseen, r.ID.Kind+"/"+r.ID.Name)
			}
		}
		if len(unseen) == 0 || s.observed[env.Name] {
			seen[env.Name] = true
			continue
		}
		slices.Sort(unseen)
		missing = append(missing, fmt.Sprintf("environment %s: not observed yet: %s", env.Name, strings.Join(unseen, ", ")))
	}
	s.observed = seen
	return missing
}

func (s *Server) snapshot() Snapshot {
	return Snapshot{
		Build: s.opts.Build, Instance: s.opts.Instance, Started: s.started,
		Config: s.opts.Config(), Status: s.opts.Status(),
	}
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s.snapshot()); err != nil {
		s.opts.Logger.Debug("answering /status", "error", err) // the client went away
	}
}

// reload loads the configuration again. Who may do that is decided by where
// the request comes from; only this machine may.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.RemoteAddr) {
		text(w, http.StatusForbidden, "reload is only served to this machine; a changed file and SIGHUP reload too")
		return
	}
	if err := s.opts.Reload(r.Context()); err != nil {
		text(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	text(w, http.StatusOK, "the configuration is in force")
}

// approve lets a step destroy the data that it names. Only this machine may.
func (s *Server) approve(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.RemoteAddr) {
		text(w, http.StatusForbidden, "approve is only served to this machine; run forged approve there")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if err := s.opts.Approve(r.FormValue("token")); err != nil {
		text(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	text(w, http.StatusOK, "approved: it is done as soon as nothing else is in the way")
}

func text(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, message)
}

// isLoopback tells whether host:port is on this machine's loopback.
func isLoopback(hostport string) bool {
	a, err := netip.ParseAddrPort(hostport)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// isLocalName tells whether a Host header is an address or localhost. A name
// is what an attacker can point at 127.0.0.1; an address is not.
func isLocalName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}
