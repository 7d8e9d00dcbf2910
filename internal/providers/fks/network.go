package fks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"forged.dev/forged/internal/reconcile"
)

// dialTimeout is short enough for what connects to hear why it cannot.
const dialTimeout = 10 * time.Second

// network is what lies between here and a cluster.
type network struct {
	cluster, org, server string
	connect              connect
}

// connect is what a net.Dialer does.
type connect func(ctx context.Context, network, address string) (net.Conn, error)

func dialer() connect {
	return (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
}

// dial connects, to the cluster or to the proxy that its kubeconfig names, and
// says what is missing where that fails.
func (n network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	c, err := n.connect(ctx, kind, address)
	if err != nil {
		return nil, n.explain(address, err)
	}
	return c, nil
}

func (n network) explain(address string, err error) error {
	host, _, split := net.SplitHostPort(address)
	if split != nil || errors.Is(err, context.Canceled) {
		return err
	}
	e := &reconcile.Error{Kind: reconcile.Unavailable, Op: "reach", Object: "cluster " + n.cluster}
	switch {
	case host != n.server:
		e.Err = fmt.Errorf("the proxy that its kubeconfig names does not answer: %w", err)
		e.Hint = "proxy-url of the kubeconfig has to lead into the private network of organization " + n.org
	case private(host) && unreachable(err):
		e.Err = fmt.Errorf("the private network of organization %s is not reachable from here: %w", n.org, err)
		e.Hint = "run forged on a Fly machine of organization " + n.org + ", or give this machine a way in: \"fly wireguard create " + n.org +
			"\" makes a tunnel; or name a proxy there, as proxy-url in a kubeconfig that platform.kubeconfig names"
	default:
		return err
	}
	return e
}

// fly6PN are the addresses of Fly's private networks.
var fly6PN = netip.MustParsePrefix("fdaa::/16")

// private tells a name or an address of the private network of an organization.
func private(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return fly6PN.Contains(a)
	}
	host = strings.TrimSuffix(host, ".")
	return strings.HasSuffix(host, ".flycast") || strings.HasSuffix(host, ".internal")
}

// unreachable tells an error that says of no server that it has answered. One
// that refuses a connection has.
func unreachable(err error) bool {
	var dns *net.DNSError
	var timeout net.Error
	for _, no := range []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, no) {
			return true
		}
	}
	return errors.As(err, &dns) || errors.As(err, &timeout) && timeout.Timeout()
}
