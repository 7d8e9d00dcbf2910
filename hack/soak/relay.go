package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"sync"

	"k8s.io/client-go/tools/clientcmd"
)

// relay stands between a daemon and the API server, and can be cut.
type relay struct {
	to       string
	listener net.Listener
	all      sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	lines map[net.Conn]struct{}
}

// newRelay leads to the server of a kubeconfig; file becomes one that leads here.
func newRelay(ctx context.Context, kubeconfig, file string) (*relay, error) {
	cfg, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	r := &relay{lines: map[net.Conn]struct{}{}}
	if r.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	for _, c := range cfg.Clusters {
		server, err := url.Parse(c.Server)
		if err != nil {
			return nil, errors.Join(err, r.listener.Close())
		}
		r.to, server.Host = server.Host, r.listener.Addr().String()
		c.Server = server.String()
	}
	raw, err := clientcmd.Write(*cfg)
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, r.listener.Close())
	}
	r.all.Go(r.accept)
	return r, nil
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.all.Go(func() { r.pass(conn) })
	}
}

// pass passes on what goes over one line, both ways, until one end has enough.
func (r *relay) pass(from net.Conn) {
	defer from.Close()
	if !r.take(from) {
		return
	}
	defer r.drop(from)
	to, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer to.Close()
	if !r.take(to) {
		return
	}
	defer r.drop(to)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	})
	_, _ = io.Copy(to, from)
	_ = to.Close()
	back.Wait()
}

func (r *relay) take(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return false
	}
	r.lines[c] = struct{}{}
	return true
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lines, c)
}

// sever cuts all lines, and takes no others until they are mended.
func (r *relay) sever(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	for c := range r.lines {
		if cut {
			_ = c.Close()
		}
	}
}

func (r *relay) close() error {
	err := r.listener.Close()
	r.sever(true)
	r.all.Wait()
	return err
}
