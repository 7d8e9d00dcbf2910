package edge_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/sandbox/edge"
)

const bound = 30 * time.Second

// names is a network of which everything is known.
type names struct {
	servers  map[string]string
	services map[string]edge.Service // by host:port
}

func (n names) Server(host string) (string, bool) {
	address, ok := n.servers[host]
	return address, ok
}

func (n names) Service(host string, port int) (edge.Service, bool) {
	s, ok := n.services[fmt.Sprintf("%s:%d", host, port)]
	return s, ok
}

func start(t *testing.T, n names) *edge.Edge {
	t.Helper()
	control := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "control ", r.URL.Path) })
	e, err := edge.Start(t.Context(), edge.Config{Dir: t.TempDir(), Network: n, Control: control})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func client(t *testing.T, e *edge.Edge, config *tls.Config) *http.Client {
	t.Helper()
	proxy, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	if config.RootCAs == nil {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(e.CA)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: config, ForceAttemptHTTP2: len(config.NextProtos) == 0}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: bound}
}

func ok() int { return http.StatusOK }

func yes(string) bool { return true }

func no(string) bool { return false }

func TestServices(t *testing.T) {
	web := edge.Service{TLS: true, HTTP: true, Certified: func(name string) bool { return name == "web.example.org" || name == "ill.example.org" }, Status: ok}
	ill, alone, grpc, old := web, web, web, web
	ill.Status = func() int { return http.StatusInternalServerError }
	alone.Certified, alone.SelfSigned = no, true
	grpc.HTTP, grpc.Protocols, grpc.Certified = false, []string{"h2"}, yes
	old.MinVersion, old.MaxVersion, old.Certified = tls.VersionTLS12, tls.VersionTLS12, yes
	e := start(t, names{services: map[string]edge.Service{
		"web.example.org:443": web, "ill.example.org:443": ill, "bare.example.org:443": web, "alone.example.org:443": alone,
		"grpc.example.org:443": grpc, "old.example.org:443": old,
		"web.example.org:80":    {HTTP: true, Certified: no, Status: ok},
		"raw.example.org:80":    {Certified: no, Status: ok},
		"secure.example.org:80": web,
	}})
	for _, c := range []struct {
		url    string
		config *tls.Config
		want   string // status, protocol and version of TLS; or a part of the error
	}{
		{"https://web.example.org/any", &tls.Config{}, "200 HTTP/2.0 304"},
		{"https://WEB.example.org", &tls.Config{NextProtos: []string{"http/1.1"}}, "200 HTTP/1.1 304"},
		{"https://ill.example.org", &tls.Config{}, "500 HTTP/2.0 304"},
		{"https://bare.example.org", &tls.Config{}, "handshake|internal error"},
		{"https://alone.example.org", &tls.Config{}, "unknown authority"},
		{"https://alone.example.org", &tls.Config{InsecureSkipVerify: true}, "200 HTTP/2.0 304"}, //nolint:gosec // that is what is tried
		{"https://grpc.example.org", &tls.Config{}, "200 HTTP/2.0 304"},
		{"https://old.example.org", &tls.Config{}, "200 HTTP/2.0 303"},
		{"https://old.example.org", &tls.Config{MinVersion: tls.VersionTLS13}, "protocol version"},
		{"https://none.example.org", &tls.Config{}, "Bad Gateway"},
		{"https://web.example.org:8443", &tls.Config{}, "Bad Gateway"},
		{"http://web.example.org", &tls.Config{}, "200 HTTP/1.1 0"},
		{"http://raw.example.org", &tls.Config{}, "502 HTTP/1.1 0"},
		{"http://secure.example.org", &tls.Config{}, "502 HTTP/1.1 0"},
	} {
		t.Run(c.url, func(t *testing.T) {
			got := ""
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client(t, e, c.config).Do(req)
			if err != nil {
				got = err.Error()
			} else {
				version := uint16(0)
				if resp.TLS != nil {
					version = resp.TLS.Version - 0x0304 + 304
				}
				got = fmt.Sprintf("%d %s %d", resp.StatusCode, resp.Proto, version)
				resp.Body.Close()
			}
			for want := range strings.SplitSeq(c.want, "|") {
				if strings.Contains(got, want) {
					return
				}
			}
			t.Errorf("got %q, want %q", got, c.want)
		})
	}
}

// An API server is reached at its own port only, byte for byte; the end of the
// proxy is the end of every connection through it.
func TestTunnel(t *testing.T) {
	backend, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	go func() {
		for {
			conn, err := backend.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	e, err := edge.Start(t.Context(), edge.Config{Dir: t.TempDir(), Network: names{servers: map[string]string{"k.flycast": backend.Addr().String()}}, Control: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	if _, line := connect(t, e, "k.flycast:443"); !strings.Contains(line, "502") {
		t.Errorf("another port: %s", line)
	}
	conn, line := connect(t, e, "K.flycast.:6443")
	if !strings.Contains(line, "200") {
		t.Fatal(line)
	}
	fmt.Fprintln(conn, "hello")
	if back, err := bufio.NewReader(conn).ReadString('\n'); err != nil || back != "hello\n" {
		t.Errorf("got %q, %v", back, err)
	}
	if err := e.Stop(); err != nil {
		t.Error(err)
	}
	closed(t, conn)
}

// closed wants the other end to have hung up.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is there: %d, %v", n, err)
	}
}

// connect asks for a tunnel, and returns the first line of the answer.
func connect(t *testing.T, e *edge.Edge, to string) (net.Conn, string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
	var head strings.Builder
	one := make([]byte, 1)
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		if _, err := conn.Read(one); err != nil {
			t.Fatalf("%q: %v", head.String(), err)
		}
		head.Write(one)
	}
	line, _, _ := strings.Cut(head.String(), "\r\n")
	return conn, line
}

// A port that the edge only passes on is accepted, and closed.
func TestRawPort(t *testing.T) {
	e := start(t, names{services: map[string]edge.Service{"db.example.org:5432": {}}})
	conn, line := connect(t, e, "db.example.org:5432")
	if !strings.Contains(line, "200") {
		t.Fatal(line)
	}
	closed(t, conn)
}

func TestWhatIsAskedOfTheProxyItself(t *testing.T) {
	e := start(t, names{})
	resp, err := http.Get(e.URL + "/_sandbox/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "control /_sandbox/x" {
		t.Errorf("%s, %v", body, err)
	}
	if _, line := connect(t, e, "nowhere"); !strings.Contains(line, "400") {
		t.Error(line)
	}
}
