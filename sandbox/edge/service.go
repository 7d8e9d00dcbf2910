package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"

	"forged.dev/forged/sandbox/pki"
)

// Service is what answers at a public name and port.
type Service struct {
	TLS, HTTP  bool                   // what the edge speaks; neither: it only passes bytes on
	Protocols  []string               // that it offers within TLS (ALPN); none: those of HTTP
	MinVersion uint16                 // of TLS; 0: any
	MaxVersion uint16                 //
	SelfSigned bool                   // where there is no certificate, one that nobody has signed does
	Certified  func(name string) bool // whether there is one for a name
	Status     func() int             // with which it answers now
}

// door hands connections that somebody else accepted to a server.
type door struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newDoor() *door { return &door{conns: make(chan net.Conn), done: make(chan struct{})} }

func (d *door) Accept() (net.Conn, error) {
	select {
	case conn := <-d.conns:
		return conn, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.done) })
	return nil
}

func (d *door) Addr() net.Addr { return &net.TCPAddr{} }

// visit is a connection to a service.
type visit struct {
	net.Conn
	to   Service
	over chan struct{}
	once sync.Once
}

func (v *visit) Close() error {
	v.once.Do(func() { close(v.over) })
	return v.Conn.Close()
}

// serve hands a connection to the server that speaks what the service does, and
// waits for its end.
func (e *Edge) serve(conn net.Conn, to Service) {
	v := &visit{Conn: conn, to: to, over: make(chan struct{})}
	through := e.plain
	switch {
	case to.TLS:
		through = e.secure
	case !to.HTTP:
		return // a program that speaks TCP itself has nothing to say
	}
	select {
	case through.conns <- v:
		<-v.over
	case <-through.done:
	}
}

// visitKey is where a request's connection is found.
type visitKey struct{}

// behind makes the servers that answer for what runs behind the edge.
func (e *Edge) behind() []func() error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, _ := r.Context().Value(visitKey{}).(Service)
		say(w, to)
	})
	withService := func(ctx context.Context, conn net.Conn) context.Context {
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		if v, ok := conn.(*visit); ok {
			ctx = context.WithValue(ctx, visitKey{}, v.to)
		}
		return ctx
	}
	quiet := log.New(io.Discard, "", 0) // clients that hang up are none of anybody's business
	plain := &http.Server{Handler: handler, ConnContext: withService, ReadHeaderTimeout: headerBound, ErrorLog: quiet}
	secure := &http.Server{
		Handler: handler, ConnContext: withService, ReadHeaderTimeout: headerBound, ErrorLog: quiet,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: e.configFor},
	}
	e.servers = append(e.servers, plain, secure)
	return []func() error{
		func() error { return plain.Serve(e.plain) },
		func() error { return secure.ServeTLS(e.secure, "", "") },
	}
}

// say is the answer of a service.
func say(w http.ResponseWriter, to Service) {
	if to.Status == nil {
		http.Error(w, "no service", http.StatusBadGateway)
		return
	}
	status := to.Status()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%d %s\n", status, http.StatusText(status))
}

// configFor is how TLS is spoken with a client of a service.
func (e *Edge) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	v, ok := hello.Conn.(*visit)
	if !ok {
		return nil, errors.New("no service")
	}
	cert, err := e.certificate(v.to, name(hello.ServerName))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion: max(v.to.MinVersion, tls.VersionTLS12), MaxVersion: v.to.MaxVersion,
		Certificates: []tls.Certificate{*cert}, NextProtos: v.to.Protocols,
	}
	if len(config.NextProtos) == 0 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	return config, nil
}

// certificate is the one that is shown for a name. It is made when it is asked
// for first.
func (e *Edge) certificate(to Service, host string) (*tls.Certificate, error) {
	by := e.authority
	if host == "" || !to.Certified(host) {
		if !to.SelfSigned || host == "" {
			return nil, fmt.Errorf("no certificate for %q", host)
		}
		by = nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	key := issued{host, by != nil}
	if cert := e.certificates[key]; cert != nil {
		return cert, nil
	}
	if by == nil {
		by = e.nobody
	}
	certPEM, keyPEM, err := by.Server(host)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	e.certificates[key] = &cert
	return &cert, nil
}

// issued is a certificate for a name.
type issued struct {
	host   string
	signed bool // by the authority that the sandbox's users trust
}

// authorities are the one that signs for names with a certificate, and another
// that nobody trusts.
func (e *Edge) authorities(dir string) (err error) {
	if e.authority, err = pki.Load(dir); err != nil {
		return err
	}
	e.nobody, err = pki.New()
	return err
}
