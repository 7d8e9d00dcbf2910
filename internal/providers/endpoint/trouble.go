package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// why says why there was no answer. Its texts are made here: what libraries say
// names more than anybody needs, and changes.
func (q question) why(err error, h *handshake) (v verdict, bad bool) {
	var name *net.DNSError
	var op *net.OpError
	var proxy refusedByProxy
	switch {
	case errors.As(err, &proxy):
		return verdict{
			trouble: proxy.Error(),
			blind:   proxy == http.StatusProxyAuthRequired || proxy == http.StatusForbidden,
		}, false
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return verdict{trouble: "the proxy of this machine cannot be reached", blind: true}, false
	case h.err(err) != nil:
		return q.unencrypted(h.err(err))
	case errors.As(err, &name):
		return lookup(name), false
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENETDOWN):
		return verdict{trouble: "no network leads from here to " + q.host, blind: true}, false
	case late(err):
		return verdict{trouble: fmt.Sprintf("no answer within %s", q.timeout)}, false
	case errors.Is(err, syscall.ECONNREFUSED):
		return verdict{trouble: "the connection is refused"}, false
	case errors.Is(err, syscall.EHOSTUNREACH):
		return verdict{trouble: "no way leads to it"}, false
	case cut(err):
		return verdict{trouble: "the connection ends without an answer"}, false
	}
	return verdict{trouble: "what answers there does not speak HTTP"}, false
}

func late(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func cut(err error) bool {
	const early = "server closed idle connection" // before it was asked; net/http has no name for that error
	return strings.Contains(err.Error(), early) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// lookup tells a name that is not known from name servers that do not answer:
// those say nothing of the app.
func lookup(err *net.DNSError) verdict {
	switch {
	case err.IsNotFound:
		return verdict{trouble: "its name " + err.Name + " does not resolve"}
	case err.IsTimeout, strings.HasPrefix(err.Err, "dial "), strings.HasPrefix(err.Err, "read "), strings.HasPrefix(err.Err, "write "):
		return verdict{trouble: "no name server answers here", blind: true}
	}
	return verdict{trouble: "its name " + err.Name + " could not be looked up"}
}

// unencrypted says why there is no TLS.
func (q question) unencrypted(err error) (v verdict, bad bool) {
	v.encryption = true
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	var alert *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &host):
		return verdict{trouble: "its certificate is for other names", encryption: true}, true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return verdict{trouble: "its certificate is not valid now", encryption: true}, true
	case errors.As(err, &unknown):
		return verdict{trouble: "its certificate is signed by somebody unknown", encryption: true}, true
	case errors.As(err, &verification):
		return verdict{trouble: "its certificate is not good", encryption: true}, true
	case errors.As(err, &record):
		v.trouble = "it answers without TLS"
	case late(err):
		v.trouble = fmt.Sprintf("no answer within %s", q.timeout)
	case errors.As(err, &alert) && alert.Op == "remote error":
		v.trouble = "it refuses TLS for this name: there may be no certificate yet"
	case cut(err):
		v.trouble = "the connection ends before there is TLS: there may be no certificate yet"
	default:
		v.trouble = "TLS does not come about"
	}
	return v, false
}
