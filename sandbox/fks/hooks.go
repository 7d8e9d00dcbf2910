package fks

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"forged.dev/forged/sandbox/pki"
)

// hooks is where API servers ask about admission, which they do over TLS only.
type hooks struct {
	url string
	ca  []byte

	server *http.Server
	ended  chan error
}

const hookHeaderBound = 10 * time.Second

func startHooks(ctx context.Context, handler http.Handler) (*hooks, error) {
	authority, err := pki.New()
	if err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := authority.Server("127.0.0.1")
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &hooks{
		url: "https://" + listener.Addr().String(), ca: authority.CertPEM, ended: make(chan error, 1),
		server: &http.Server{
			Handler: handler, ReadHeaderTimeout: hookHeaderBound, ErrorLog: log.New(io.Discard, "", 0), // of API servers that end
			TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}},
		},
	}
	go func() { s.ended <- s.server.ServeTLS(listener, "", "") }()
	return s, nil
}

func (s *hooks) stop() error {
	err := s.server.Close()
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
