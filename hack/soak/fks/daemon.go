package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"time"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/reconcile"
)

// daemon is one of the forged that keep the environment: one of them acts.
type daemon struct {
	*child.Daemon
	s    *soak
	name string
	line string // URL by which it finds Fly
	cut  atomic.Bool
	ends func()
}

func (s *soak) newDaemon(ctx context.Context, name string) (*daemon, error) {
	d := &daemon{s: s, name: name}
	to, err := url.Parse(s.fly.URL)
	if err != nil {
		return nil, err
	}
	relay := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog:     log.New(io.Discard, "", 0), // of those who hang up
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.line = "http://" + listener.Addr().String()
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.cut.Load() {
			panic(http.ErrAbortHandler)
		}
		relay.ServeHTTP(w, r)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	d.ends = func() {
		_ = server.Close()
		<-ended //nolint:errcheck // it was told to
	}
	return d, d.start(ctx)
}

func (d *daemon) start(ctx context.Context) error {
	f := d.s.fly
	env := []string{
		"NO_PROXY=127.0.0.1,localhost", "HTTP_PROXY=" + f.Proxy, "HTTPS_PROXY=" + f.Proxy, "SSL_CERT_FILE=" + f.CA, "FLY_API_TOKEN=" + f.Token,
		"FLY_FLAPS_BASE_URL=" + d.line, "FLY_API_BASE_URL=" + d.line, "FLY_UIEX_BASE_URL=" + d.line,
	}
	var err error
	d.Daemon, err = d.s.place.StartDaemon(ctx, d.name, env, filepath.Join(d.s.dir, "forge.cue"), "--log-format", "json", "--log-level", "debug")
	if err != nil {
		return err
	}
	return child.Until(ctx, d.Child, time.Minute, "an answer of "+d.name, func() (bool, error) {
		_, err := d.Status(ctx)
		return err == nil, err
	})
}

func (d *daemon) restart(ctx context.Context, how func(*child.Child) error) error {
	if err := how(d.Child); err != nil {
		return err
	}
	return d.start(ctx)
}

func (d *daemon) close() (err error) {
	if d.Daemon != nil {
		err = d.Stop()
	}
	d.ends()
	return err
}

// settled waits until all is ready, by the words of the one that acts, and stays
// so after everything was looked at again.
func (s *soak) settled(ctx context.Context) error {
	if err := s.calm(ctx, 5*time.Second); err != nil {
		return err
	}
	for _, d := range s.daemons {
		if err := d.Reload(ctx); err != nil {
			return err
		}
	}
	return s.calm(ctx, 40*time.Second)
}

// calm waits until all has been ready for some time.
func (s *soak) calm(ctx context.Context, long time.Duration) error {
	var since time.Time
	return child.Until(ctx, s.daemons[0].Child, patience, "that everything is ready", func() (bool, error) {
		if err := s.ready(ctx); err != nil {
			since = time.Time{}
			return false, err
		}
		if since.IsZero() {
			since = time.Now()
		}
		return time.Since(since) > long, nil
	})
}

// ready says what is not.
func (s *soak) ready(ctx context.Context) error {
	acting := 0
	var wrong []error
	for _, d := range s.daemons {
		status, err := d.Status(ctx)
		if err != nil {
			return err
		}
		for _, env := range status.Environments {
			if env.Lease == nil || !env.Lease.Held {
				wrong = append(wrong, errors.New(d.name+": "+env.Lease.Message()))
				continue
			}
			acting++
			for _, r := range env.Resources {
				if r.State != reconcile.StateReady {
					wrong = append(wrong, fmt.Errorf("%s is %s: %s %+v %s", r.ID, r.State, r.Message, r.Error, r.Fight))
				}
			}
		}
	}
	if acting == 1 && len(wrong) == 1 {
		return nil // the other one stands by
	}
	return errors.Join(append(wrong, fmt.Errorf("%d forged act", acting))...)
}
