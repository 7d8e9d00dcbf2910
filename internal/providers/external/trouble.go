package external

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// code tells kinds of trouble from one another.
type code string

const (
	codeURL         code = "url"         // what was to be read says nothing
	codeName        code = "name"        // DNS
	codeRefused     code = "refused"     // nobody listens
	codeTimeout     code = "timeout"     // nobody answers
	codeUnreachable code = "unreachable" // no route
	codeCut         code = "cut"         // the connection ended
	codeNoTLS       code = "no-tls"      // it does not offer TLS
	codeAuthority   code = "authority"   // its certificate is signed by somebody unknown
	codeHost        code = "host"        // its certificate is for another name
	codeExpired     code = "expired"     // a certificate is not valid now
	codeCertificate code = "certificate" // another problem with a certificate
	codeLogin       code = "login"       // it does not let the app in
	codeDatabase    code = "database"    // the database or namespace is missing
	codePermission  code = "permission"  // the app may not do what it has to
	codeBusy        code = "busy"        // it is starting, or full
	codeProtocol    code = "protocol"    // something else answers
)

// trouble is what is wrong with a service, told apart as far as it can be. Its
// texts are made here: what libraries say of a URL may quote its password.
type trouble struct {
	code code
	text string
	hint string
}

// Error lets it travel through libraries.
func (t *trouble) Error() string {
	if t.hint == "" {
		return t.text
	}
	return t.text + " (" + t.hint + ")"
}

// subject is what is in trouble.
type subject struct {
	service string // as it stands in forge.cue: postgres, redis, temporal
	field   string // where forge.cue says where it is: services.postgres.url
	server  string // host:port
	host    string
	bundle  bool   // there are authorities of its own to check it against
	inside  bool   // it could be asked from inside of a cluster instead
	pod     bool   // it is asked from there
	roles   string // resource that makes its roles; empty: nobody does
	limit   time.Duration
}

func (s subject) trouble(c code, hint, text string, args ...any) *trouble {
	return &trouble{code: c, hint: hint, text: fmt.Sprintf(text, args...)}
}

// network tells what is wrong with a connection; nil: something else is.
func (s subject) network(err error) *trouble {
	var (
		known *trouble
		dns   *net.DNSError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &dns) && dns.IsNotFound:
		hint := "check the host in " + s.field
		if s.inside {
			hint += `; if the name is known only in the cluster's network, write check: "cluster"`
		}
		return s.trouble(codeName, hint, "the name %s is not known here", s.host)
	case errors.As(err, &dns):
		return s.trouble(codeName, "check the name servers of "+s.here(), "no name server answers what %s is", s.host)
	}
	if t := s.encryption(err); t != nil {
		return t
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return s.trouble(codeRefused, "is the server running, and is the port right?", "%s refuses connections", s.server)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return s.trouble(codeUnreachable, s.elsewhere("check routes and VPN of "+s.here()), "there is no way from here to %s", s.server)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return s.trouble(codeTimeout, s.elsewhere("a firewall or security group may drop what comes from "+s.here()),
			"%s does not answer within %s", s.server, s.limit)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return s.trouble(codeCut, "a proxy or load balancer in between may have no server behind it, or the server no connection left; its log may say more",
			"%s ends the connection before it has answered", s.server)
	}
	return nil
}

// here is where it is asked from.
func (s subject) here() string {
	if s.pod {
		return "the cluster"
	}
	return "this machine"
}

func (s subject) elsewhere(hint string) string {
	if s.inside {
		hint += `; if only the cluster reaches it, write check: "cluster"`
	}
	return hint
}

// encryption tells what is wrong with a certificate or the encryption; nil:
// something else is.
func (s subject) encryption(err error) *trouble {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		alert     tls.AlertError
		record    tls.RecordHeaderError
		verifying *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &authority):
		hint := "put the certificate of the authority that signed it into " + s.key("caBundle")
		if s.bundle {
			hint = s.key("caBundle") + " does not hold the authority that signed it"
		}
		return s.trouble(codeAuthority, hint, "the certificate of %s is signed by nobody who is trusted%s", s.server, issuer(authority.Cert))
	case errors.As(err, &host):
		hint := "use a name that the certificate has"
		if s.service == servicePostgres {
			hint += `, or write sslMode: "verify-ca"`
		}
		return s.trouble(codeHost, hint, "the certificate of %s is for %s", s.server, namesOf(host.Certificate))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return s.dates("the certificate of "+s.server, invalid.Cert, "renew it at the server; is the clock of "+s.here()+" right?")
	case errors.As(err, &invalid), errors.As(err, &verifying):
		return s.trouble(codeCertificate, "give the server a certificate for servers", "the certificate of %s cannot be used: %s", s.server, printable(err.Error()))
	case errors.As(err, &alert):
		return s.trouble(codeCertificate, s.alertHint(), "%s ends the TLS handshake: %s", s.server, printable(alert.Error()))
	case errors.As(err, &record):
		return s.noTLS()
	}
	return nil
}

func (s subject) noTLS() *trouble {
	hint := map[string]string{
		servicePostgres: "turn ssl on at the server, if it is PostgreSQL that listens there; forged sends no password in plain",
		serviceRedis:    "if it shall not be encrypted, let the URL begin with redis://",
		serviceTemporal: "if it shall not be encrypted, write tls: false",
	}[s.service]
	return s.trouble(codeNoTLS, hint, "%s does not offer TLS", s.server)
}

// silentTLS is about one who takes connections and says nothing in TLS.
func (s subject) silentTLS() *trouble {
	t := s.noTLS()
	t.text = fmt.Sprintf("%s takes the connection and does not answer to TLS", s.server)
	return t
}

func (s subject) alertHint() string {
	if s.service == serviceTemporal {
		return "it may want a certificate of the client: " + s.key("mtls")
	}
	return "the log of the server says what it does not like"
}

// dates says that a certificate is not valid now.
func (s subject) dates(whose string, cert *x509.Certificate, hint string) *trouble {
	if time.Now().Before(cert.NotBefore) {
		return s.trouble(codeExpired, hint, "%s is not valid before %s", whose, cert.NotBefore.UTC().Format(time.DateTime))
	}
	return s.trouble(codeExpired, hint, "%s has expired on %s", whose, cert.NotAfter.UTC().Format(time.DateTime))
}

// key is a field of the service in forge.cue.
func (s subject) key(name string) string { return "services." + s.service + "." + name }

func issuer(cert *x509.Certificate) string {
	if cert == nil || cert.Issuer.CommonName == "" {
		return ""
	}
	if cert.Issuer.String() == cert.Subject.String() {
		return ": it has signed itself"
	}
	return ": " + printable(cert.Issuer.CommonName)
}

func namesOf(cert *x509.Certificate) string {
	const most = 5
	if cert == nil {
		return "another name"
	}
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0 && cert.Subject.CommonName != "":
		return printable(cert.Subject.CommonName) + ", in a field that is not read any more, and for no other name"
	case len(names) == 0:
		return "no name at all"
	case len(names) > most:
		names = append(names[:most], fmt.Sprintf("%d others", len(names)-most))
	}
	return printable(strings.Join(names, ", "))
}

// printable is what a server or a certificate says, in one line that is no
// longer than anybody reads.
func printable(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)), " ")
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}
