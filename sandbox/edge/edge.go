// Package edge is the way to what runs at Fly, as one HTTP proxy. It stands for
// the private network of the organization, in which API servers answer, and for
// Fly's own proxies, which stand between the world and the apps.
package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/sandbox/pki"
)

const (
	headerBound = 10 * time.Second
	dialBound   = 10 * time.Second
)

// Network says where names lead.
type Network interface {
	// Server is the address of the API server of a name in the private network.
	Server(host string) (address string, ok bool)
	// Service is what answers at a public name, or address, and port.
	Service(host string, port int) (Service, bool)
}

// Config says what to serve.
type Config struct {
	Dir     string // of the authority for public names; must exist
	Network Network
	Control http.Handler // answers what is asked of the proxy itself
}

// Edge is a proxy that listens.
type Edge struct {
	URL string // of the proxy
	CA  []byte // by which public names are known, as PEM

	network           Network
	control           http.Handler
	plain, secure     *door // to the servers that answer for services
	servers           []*http.Server
	ended             chan error // of each of them
	authority, nobody *pki.Authority

	mu           sync.Mutex
	stopped      bool
	open         map[net.Conn]bool // that no server looks after
	tunnels      sync.WaitGroup
	certificates map[issued]*tls.Certificate
}

// Start returns when it answers.
func Start(ctx context.Context, c Config) (*Edge, error) {
	e := &Edge{
		network: c.Network, control: c.Control,
		plain: newDoor(), secure: newDoor(),
		open: map[net.Conn]bool{}, certificates: map[issued]*tls.Certificate{},
	}
	if err := e.authorities(c.Dir); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e.URL, e.CA = "http://"+listener.Addr().String(), e.authority.CertPEM
	proxy := &http.Server{Handler: e, ReadHeaderTimeout: headerBound}
	e.servers = []*http.Server{proxy}
	serve := append(e.behind(), func() error { return proxy.Serve(listener) })
	e.ended = make(chan error, len(serve))
	for _, one := range serve {
		go func() { e.ended <- one() }()
	}
	return e, nil
}

// Stop ends it, and every connection through it.
func (e *Edge) Stop() error {
	var errs []error
	for _, server := range e.servers {
		errs = append(errs, server.Close())
	}
	for range e.servers {
		if ended := <-e.ended; !errors.Is(ended, http.ErrServerClosed) {
			errs = append(errs, ended)
		}
	}
	e.mu.Lock()
	e.stopped = true
	for conn := range e.open {
		conn.Close()
	}
	e.mu.Unlock()
	e.tunnels.Wait()
	return errors.Join(errs...)
}

// ServeHTTP is a proxy for whoever uses it as one.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		e.connect(w, r)
	case r.URL.IsAbs():
		e.forward(w, r)
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
	to, ok := e.network.Service(name(host), port)
	if !ok {
		refuse(w, host)
		return
	}
	if conn, ok := e.hijack(w); ok {
		e.keep(func() { e.serve(conn, to) }, conn)
	}
}

// forward answers a request for a name over plain HTTP.
func (e *Edge) forward(w http.ResponseWriter, r *http.Request) {
	port := 80
	if text := r.URL.Port(); text != "" {
		port, _ = strconv.Atoi(text) // nothing is at port 0
	}
	to, ok := e.network.Service(name(r.URL.Hostname()), port)
	if !ok || r.URL.Scheme != "http" || to.TLS || !to.HTTP {
		refuse(w, r.URL.Host)
		return
	}
	say(w, to)
}

// serverPort is that of the API servers.
const serverPort = 6443

// name is a host as names are compared.
func name(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// refuse answers for a name that nothing answers at.
func refuse(w http.ResponseWriter, host string) {
	http.Error(w, "nothing answers in the sandbox at "+host, http.StatusBadGateway)
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
