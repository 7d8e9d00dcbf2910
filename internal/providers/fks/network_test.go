package fks

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"forged.dev/forged/internal/reconcile"
)

// A private network that is missing is told from a server that is: only what
// says of no server that it has answered is called the network's.
func TestWhatIsMissingOnTheWay(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	const network, proxy = "the private network of organization acme is not reachable from here", "the proxy that its kubeconfig names"
	for _, tt := range []struct {
		what, server, address string
		err                   error
		want                  string
	}{
		{"no such name", "fks-acme-k.flycast", "fks-acme-k.flycast:6443", dial(&net.DNSError{Err: "no such host", Name: "fks-acme-k.flycast", IsNotFound: true}), network},
		{"no route to an address", "fdaa:0:1::3", "[fdaa:0:1::3]:6443", dial(syscall.ENETUNREACH), network},
		{"no IPv6 at all", "fdaa:0:1::3", "[fdaa:0:1::3]:6443", dial(syscall.EADDRNOTAVAIL), network},
		{"no answer to an address", "fdaa:0:1::3", "[fdaa:0:1::3]:6443", dial(&net.DNSError{IsTimeout: true}), network},
		{"a server that refuses", "fdaa:0:1::3", "[fdaa:0:1::3]:6443", dial(syscall.ECONNREFUSED), ""},
		{"a public server", "k.example.org", "k.example.org:443", dial(syscall.ENETUNREACH), ""},
		{"a public address", "2001:db8::1", "[2001:db8::1]:443", dial(syscall.ENETUNREACH), ""},
		{"a proxy", "fks-acme-k.flycast", "127.0.0.1:1080", dial(syscall.ECONNREFUSED), proxy},
		{"nobody waits any more", "fks-acme-k.flycast", "fks-acme-k.flycast:6443", context.Canceled, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			n := network6PN(tt.server, tt.err)
			_, err := n.dial(t.Context(), "tcp", tt.address)
			if !errors.Is(err, tt.err) {
				t.Errorf("why is not told: %v", err)
			}
			var said *reconcile.Error
			if told := errors.As(err, &said); told != (tt.want != "") || told && (said.Kind != reconcile.Unavailable || said.Hint == "" || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func network6PN(server string, err error) network {
	return network{cluster: "k", org: "acme", server: server, connect: func(context.Context, string, string) (net.Conn, error) { return nil, err }}
}
