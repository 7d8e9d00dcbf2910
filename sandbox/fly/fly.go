// Package fly runs the emulator of Fly beside the clusters.
package fly

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"forged.dev/forged/internal/flyemulator"
)

// Organization is the one that Token has all rights in.
const (
	Organization = "acme"
	Token        = flyemulator.DefaultToken
)

// Config says what to run.
type Config struct {
	State string  // file that the state is kept in; read if it is there
	Pace  float64 // how much faster than Fly it works; 0: 1

	Clusters flyemulator.Clusters // makes what stands behind Fly Kubernetes; nil: nothing does
}

// Fly is an emulator that listens.
type Fly struct {
	URL      string // of every one of Fly's services
	Emulator *flyemulator.Emulator

	server *http.Server
	state  string
	ended  chan error
}

// Start returns when it answers.
func Start(ctx context.Context, c Config) (*Fly, error) {
	e := flyemulator.New(flyemulator.Options{
		Orgs:   []flyemulator.Org{{Slug: Organization, Name: "Acme", Beta: true}},
		Tokens: []flyemulator.Token{{Value: Token, Kind: flyemulator.OrgToken, Org: Organization}},
		Pace:   c.Pace,

		Clusters: c.Clusters,
	})
	if err := load(e, c.State); err != nil {
		e.Close()
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		e.Close()
		return nil, err
	}
	f := &Fly{
		URL:      "http://" + listener.Addr().String(),
		Emulator: e, state: c.State, ended: make(chan error, 1),
		server: &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { f.ended <- f.server.Serve(listener) }()
	return f, nil
}

func load(e *flyemulator.Emulator, path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := e.Load(file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Stop ends it, and keeps what it holds in the state's file.
func (f *Fly) Stop() error {
	closed := f.server.Close()
	if err := <-f.ended; !errors.Is(err, http.ErrServerClosed) {
		closed = errors.Join(closed, err)
	}
	defer f.Emulator.Close()
	file, err := os.OpenFile(f.state, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return errors.Join(closed, err)
	}
	return errors.Join(closed, f.Emulator.Save(file), file.Close())
}
