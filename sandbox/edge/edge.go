// Package edge is the way to what runs at Fly, as one HTTP proxy. It stands for
// the private network of the organization, in which API servers answer, and for
// Fly's own proxies, which stand between the world and the apps.
package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	headerBound = 10 * time.Second
	dialBound   = 10 * time.Second
)

// Network says where names lead.
type Network interface {
	// Server is the address of the API server of a name in the private network.
	Server(host string) (address string, ok bool)
}

// Config says what to serve.
type Config struct {
	Network Network
	Control http.Handler // answers what is asked of the proxy itself
}

// Edge is a proxy that listens.
type Edge struct {
	URL string // of the proxy

	network Network
	control http.Handler
	server  *http.Server
	ended   chan error

	mu      sync.Mutex
	stopped bool
	open    map[net.Conn]bool // that no server looks after
	tunnels sync.WaitGroup
}

// Start returns when it answers.
func Start(ctx context.Context, c Config) (*Edge, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &Edge{
		URL:     "http://" + listener.Addr().String(),
		network: c.Network, control: c.Control,
		ended: make(chan error, 1), open: map[net.Conn]bool{},
	}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: headerBound}
	go func() { e.ended <- e.server.Serve(listener) }()
	return e, nil
}

// Stop ends it, and every connection through it.
func (e *Edge) Stop() error {
	err := e.server.Close()
	if ended := <-e.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	e.mu.Lock()
	e.stopped = true
	for conn := range e.open {
		conn.Close()
	}
	e.mu.Unlock()
	e.tunnels.Wait()
	return err
}

// ServeHTTP is a proxy for whoever uses it as one.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		e.connect(w, r)
	case r.URL.IsAbs():
		refuse(w, r.URL.Hostname())
	default:
		e.control.ServeHTTP(w, r)
	}
}

// connect makes a tunnel.
func (e *Edge) connect(w http.ResponseWriter, r *http.Request) {
	host, text, err := net.SplitHostPort(r.Host)
	port, errPort := strconv.Atoi(text)
	if err != nil || errPort != nil {
		http.Error(w, "CONNECT wants host:port", http.StatusBadRequest)
		return
	}
	if address, ok := e.network.Server(name(host)); ok && port == serverPort {
		e.tunnel(w, r, address)
		return
	}
	refuse(w, host)
}

// serverPort is that of the API servers.
const serverPort = 6443

// name is a host as names are compared.
func name(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// refuse answers for a name that nothing answers at.
func refuse(w http.ResponseWriter, host string) {
	http.Error(w, "no such host in the sandbox: "+host, http.StatusBadGateway)
}

// tunnel joins the client to an address until one of the two hangs up.
func (e *Edge) tunnel(w http.ResponseWriter, r *http.Request, address string) {
	dialer := net.Dialer{Timeout: dialBound}
	backend, err := dialer.DialContext(r.Context(), "tcp", address)
	if err != nil {
		http.Error(w, "the host does not answer", http.StatusBadGateway)
		return
	}
	client, ok := e.hijack(w)
	if !ok {
		backend.Close()
		return
	}
	e.keep(func() {
		var one sync.WaitGroup
		one.Go(func() { pipe(backend, client) })
		one.Go(func() { pipe(client, backend) })
		one.Wait()
	}, client, backend)
}

// hijack takes the connection from the server and tells the client that it
// leads where it asked.
func (e *Edge) hijack(w http.ResponseWriter) (net.Conn, bool) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, false
	}
	_ = conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		conn.Close()
		return nil, false
	}
	if rw.Reader.Buffered() == 0 {
		return conn, true
	}
	return &ahead{conn, rw.Reader}, true // of a client that did not wait
}

// ahead is a connection of which something was read already.
type ahead struct {
	net.Conn
	from io.Reader
}

func (a *ahead) Read(p []byte) (int, error) { return a.from.Read(p) }

// keep does something with connections, and closes them after it, or at the end
// of the proxy.
func (e *Edge) keep(do func(), conns ...net.Conn) {
	e.mu.Lock()
	stopped := e.stopped
	if !stopped {
		e.tunnels.Add(1)
		for _, conn := range conns {
			e.open[conn] = true
		}
	}
	e.mu.Unlock()
	if !stopped {
		defer e.tunnels.Done()
		do()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, conn := range conns {
		delete(e.open, conn)
		conn.Close()
	}
}

// pipe copies until one end is closed, and closes the other.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from) // however it ended, it is over
	to.Close()
	from.Close()
}
