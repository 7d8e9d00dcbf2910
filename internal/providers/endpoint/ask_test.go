package endpoint

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// direct asks without a proxy, trusting a server of the test.
func direct(trusted ...*httptest.Server) line {
	l := line{proxy: func(*http.Request) (*url.URL, error) { return nil, nil }, roots: x509.NewCertPool()}
	for _, s := range trusted {
		l.roots.AddCert(s.Certificate())
	}
	return l
}

// at is the question for a server of the test.
func at(t *testing.T, address string) question {
	t.Helper()
	a, err := netip.ParseAddrPort(strings.TrimPrefix(strings.TrimPrefix(address, "http://"), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	return question{host: a.Addr().String(), port: int(a.Port()), path: "/health/ready", timeout: 10 * time.Second}
}

// accept is a server that does with a connection what it likes.
func accept(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer func() { _ = c.Close() }(); f(c) }()
		}
	}()
	return l.Addr().String()
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const body = "s3cret body"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	served := map[int]string{200: "", 204: "", 302: "", 308: "", 400: "it answers 400 Bad Request", 404: "it answers 404 Not Found", 500: "it answers 500 Internal Server Error", 503: "it answers 503 Service Unavailable", 599: "it answers 599"}
	for status, trouble := range served {
		for _, encrypted := range []bool{false, true} {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != "/health/ready" || r.Header.Get("User-Agent") != "forged" {
					t.Errorf("asked with %s %s by %q", r.Method, r.URL.Path, r.UserAgent())
				}
				w.Header().Set("Location", elsewhere.URL)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			}))
			s.EnableHTTP2 = encrypted
			if encrypted {
				s.StartTLS()
			} else {
				s.Start()
			}
			q := at(t, s.URL)
			q.tls = encrypted
			if v := direct(trustedBy(s)...).own(t.Context(), q); v != (verdict{trouble: trouble}) {
				t.Errorf("%d, encrypted %v: %+v", status, encrypted, v)
			}
			s.Close()
		}
	}
}

func trustedBy(s *httptest.Server) []*httptest.Server {
	if s.Certificate() == nil {
		return nil
	}
	return []*httptest.Server{s}
}

func TestTroubles(t *testing.T) {
	t.Parallel()
	fine := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	plain, encrypted := httptest.NewUnstartedServer(fine), httptest.NewUnstartedServer(fine)
	for _, s := range []*httptest.Server{plain, encrypted} {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
	}
	plain.Start()
	encrypted.StartTLS()
	defer plain.Close()
	defer encrypted.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := nobody.Addr().String()
	_ = nobody.Close()
	closed := accept(t, func(net.Conn) {})
	late := accept(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	silent := accept(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	gibberish := accept(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 mail.test ESMTP\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	alert := accept(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 112}) // unrecognized_name
	})
	for _, tt := range []struct {
		name, address string
		tls           bool
		host          string // asked for besides
		line          line
		want          verdict
	}{
		{"refused", refused, false, "", direct(), verdict{trouble: "the connection is refused"}},
		{"cut", closed, false, "", direct(), verdict{trouble: "the connection ends without an answer"}},
		{"cut when it was asked", late, false, "", direct(), verdict{trouble: "the connection ends without an answer"}},
		{"silent", silent, false, "", direct(), verdict{trouble: "no answer within 200ms"}},
		{"not HTTP", gibberish, false, "", direct(), verdict{trouble: "what answers there does not speak HTTP"}},
		{"silent, with TLS", silent, true, "", direct(), verdict{trouble: "no answer within 200ms", encryption: true}},
		{"cut, with TLS", closed, true, "", direct(), verdict{trouble: "the connection ends before there is TLS: there may be no certificate yet", encryption: true}},
		{"no TLS", plain.URL, true, "", direct(), verdict{trouble: "it answers without TLS", encryption: true}},
		{"TLS refused", alert, true, "", direct(), verdict{trouble: "it refuses TLS for this name: there may be no certificate yet", encryption: true}},
		{"not encrypted, where there is TLS", encrypted.URL, false, "", direct(), verdict{trouble: "it answers 400 Bad Request"}},
		{"own name, signed by somebody", encrypted.URL, true, "", direct(), verdict{certificate: "its certificate is signed by somebody unknown"}},
		{"own name", encrypted.URL, true, "", direct(encrypted), verdict{}},
		{"a name of the certificate", encrypted.URL, true, "example.com", direct(encrypted), verdict{}},
		{"another name", encrypted.URL, true, "shop.acme.test", direct(encrypted), verdict{trouble: "its certificate is for other names", encryption: true}},
		{"a name, signed by somebody", encrypted.URL, true, "example.com", direct(), verdict{trouble: "its certificate is signed by somebody unknown", encryption: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := at(t, tt.address)
			q.tls = tt.tls
			if tt.address == silent {
				q.timeout = 200 * time.Millisecond
			}
			var got verdict
			if tt.host == "" {
				got = tt.line.own(t.Context(), q)
			} else {
				q.hosts = []string{tt.host}
				got = tt.line.others(t.Context(), q)[tt.host]
			}
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// Further names are asked for at the load balancer, wherever DNS leads; in one
// with a star any name will do.
func TestFurtherNamesAreAskedForAtTheLoadBalancer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Host != "shop.acme.test" && r.Host != "forged-asks.acme.test" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	q := at(t, s.URL)
	q.hosts = []string{"shop.acme.test", "*.acme.test", "www.acme.test"}
	got := direct().others(t.Context(), q)
	if asked.Load() != 3 || len(got) != 3 || !got["shop.acme.test"].fine() || !got["*.acme.test"].fine() || got["www.acme.test"].trouble != "it answers 404 Not Found" {
		t.Errorf("asked %d times: %+v", asked.Load(), got)
	}
	if v := direct().own(t.Context(), q); v.trouble != "it answers 404 Not Found" {
		t.Errorf("asked for by its address: %+v", v)
	}
}

// What goes wrong on this side is told from what goes wrong on the other.
func TestWhatSaysNothingOfTheApp(t *testing.T) {
	t.Parallel()
	q := question{host: "lb.test", port: 80, timeout: time.Second}
	refuse := func(status int) line {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(proxy.Close)
		u, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("somebody", "s3cret")
		return line{proxy: http.ProxyURL(u)}
	}
	nobody, err := url.Parse("http://somebody:s3cret@" + closedPort(t))
	if err != nil {
		t.Fatal(err)
	}
	encrypted := q
	encrypted.tls, encrypted.port = true, 443
	for name, tt := range map[string]struct {
		got, want verdict
	}{
		"no proxy there":       {line{proxy: http.ProxyURL(nobody)}.own(t.Context(), q), verdict{trouble: "the proxy of this machine cannot be reached", blind: true}},
		"a proxy that refuses": {refuse(http.StatusForbidden).own(t.Context(), encrypted), verdict{trouble: "the proxy answers 403 Forbidden", blind: true}},
		"one that wants names": {refuse(http.StatusProxyAuthRequired).own(t.Context(), encrypted), verdict{trouble: "the proxy answers 407 Proxy Authentication Required", blind: true}},
		"one that gets none":   {refuse(http.StatusBadGateway).own(t.Context(), encrypted), verdict{trouble: "the proxy answers 502 Bad Gateway"}},
		"no name servers":      {lookup(&net.DNSError{Err: "dial udp 192.0.2.53:53: connect: network is unreachable", Name: "lb.test"}), verdict{trouble: "no name server answers here", blind: true}},
		"slow name servers":    {lookup(&net.DNSError{Err: "i/o timeout", Name: "lb.test", IsTimeout: true}), verdict{trouble: "no name server answers here", blind: true}},
		"no such name":         {lookup(&net.DNSError{Err: "no such host", Name: "lb.test", IsNotFound: true}), verdict{trouble: "its name lb.test does not resolve"}},
		"a name in trouble":    {lookup(&net.DNSError{Err: "server misbehaving", Name: "lb.test", IsTemporary: true}), verdict{trouble: "its name lb.test could not be looked up"}},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, tt.got, tt.want)
		}
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// askedFor is set for another process of this test's program.
const askedFor = "FORGED_TEST_ASK"

func askAsAnotherProcess() {
	host, encrypted := strings.CutPrefix(os.Getenv(askedFor), "tls:")
	q := question{host: host, port: 80, tls: encrypted, path: "/", timeout: 10 * time.Second, hosts: []string{"example.com"}}
	if encrypted {
		q.port = 443
	}
	fmt.Printf("%+v %+v", line{}.own(context.Background(), q), line{}.others(context.Background(), q))
}

// The variables that say which proxy to take and whom to trust are those that
// everything on the machine heeds.
func TestStandardVariables(t *testing.T) {
	t.Parallel()
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "lb.example.com" && r.Host != "example.com" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	encrypted := httptest.NewTLSServer(app)
	defer encrypted.Close()
	var passed atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed.Add(1)
		if r.Method != http.MethodConnect {
			app(w, r)
			return
		}
		if r.Host != "lb.example.com:443" {
			t.Errorf("the proxy is asked for %s", r.Host)
		}
		there, err := net.Dial("tcp", encrypted.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = there.Close() }()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = here.Close() }()
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
		_, _ = io.Copy(here, there)
	}))
	defer proxy.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encrypted.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"lb.example.com", "tls:lb.example.com"} {
		passed.Store(0)
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = []string{askedFor + "=" + host, "HTTP_PROXY=" + proxy.URL, "HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + bundle, "SSL_CERT_DIR=/nowhere"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		// The certificate of these servers is for example.com and its hosts.
		if want := fmt.Sprintf("%+v %+v", verdict{}, map[string]verdict{"example.com": {}}); string(out) != want || passed.Load() != 2 {
			t.Errorf("%s: %s, through the proxy %d times", host, out, passed.Load())
		}
	}
}
