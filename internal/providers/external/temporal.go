package external

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"forged.dev/forged/internal/secret"
)

// temporalService is what the frontend answers for when asked for its health.
const temporalService = "temporal.api.workflowservice.v1.WorkflowService"

// temporalLogin is a login to a Temporal.
type temporalLogin struct {
	subject
	namespace     string
	encrypted     bool
	bundle        secret.Value
	apiKey        secret.Value
	cert, certKey secret.Value
}

// first keeps the first error of a connection: what gRPC makes of it is a text.
type first struct {
	mu  sync.Mutex
	err error
}

func (f *first) note(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	return err
}

func (f *first) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// noting is a way to encrypt that notes what goes wrong.
type noting struct {
	credentials.TransportCredentials
	first *first
}

func (n noting) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, conn)
	return c, info, n.first.note(err)
}

func (n noting) Clone() credentials.TransportCredentials {
	return noting{n.TransportCredentials.Clone(), n.first}
}

// check asks for the health of the frontend, and for the namespace: that needs
// a login.
func (l temporalLogin) check(ctx context.Context) (a answer) {
	var ends expiry
	defer func() { a.expires = ends.get() }()
	transport := insecure.NewCredentials()
	if l.encrypted {
		cfg, t := l.secure(verifyFull, l.bundle, ends.note)
		if t == nil && !l.cert.IsZero() {
			var pair tls.Certificate
			if pair, t = l.clientCertificate(l.cert, l.certKey, time.Now()); t == nil {
				cfg.Certificates = []tls.Certificate{pair}
				ends.note(pair.Leaf.NotAfter)
			}
		}
		if a.trouble = t; t != nil {
			return a
		}
		transport = credentials.NewTLS(cfg)
	}
	failure := &first{}
	conn, err := grpc.NewClient("passthrough:///"+l.server,
		grpc.WithTransportCredentials(noting{transport, failure}),
		grpc.WithAuthority(l.authority()),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, server string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
			return c, failure.note(err)
		}))
	if err != nil {
		a.trouble = l.trouble(codeURL, "want HOST:PORT", "%s is not an address", l.field)
		return a
	}
	defer func() { _ = conn.Close() }()
	ctx = metadata.AppendToOutgoingContext(ctx, "temporal-namespace", l.namespace)
	if !l.apiKey.IsZero() {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+string(l.apiKey.Reveal()))
	}
	a.trouble = l.ask(ctx, conn, failure)
	return a
}

// authority is the name that the frontend is asked by.
func (l temporalLogin) authority() string {
	if l.encrypted {
		return l.host // what its certificate is checked for
	}
	return l.server
}

func (l temporalLogin) ask(ctx context.Context, conn *grpc.ClientConn, failure *first) *trouble {
	health, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: temporalService})
	switch c := status.Code(err); {
	case c == codes.OK && health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		return l.trouble(codeBusy, "forged asks again", "the frontend of Temporal at %s is %s", l.server, health.GetStatus())
	case c == codes.OK, c == codes.Unimplemented, c == codes.NotFound, c == codes.PermissionDenied, c == codes.Unauthenticated:
		// A proxy in front of it may have no health; what counts comes now.
	default:
		return l.explain(err, failure)
	}
	described, err := workflowservice.NewWorkflowServiceClient(conn).DescribeNamespace(ctx,
		&workflowservice.DescribeNamespaceRequest{Namespace: l.namespace})
	if err != nil {
		return l.explain(err, failure)
	}
	if state := described.GetNamespaceInfo().GetState(); state == enums.NAMESPACE_STATE_DEPRECATED || state == enums.NAMESPACE_STATE_DELETED {
		return l.trouble(codeDatabase, "name another one in services.temporal.namespace", "namespace %s at %s is %s", l.namespace, l.server, state)
	}
	return nil
}

// explain tells what is wrong; it always finds something to say.
func (l temporalLogin) explain(err error, failure *first) *trouble {
	s := status.Convert(err)
	said := printable(redact(s.Message(), l.apiKey))
	switch s.Code() {
	case codes.NotFound:
		return l.trouble(codeDatabase, "make it: temporal operator namespace create --namespace "+l.namespace,
			"there is no namespace %s at %s", l.namespace, l.server)
	case codes.InvalidArgument:
		return l.trouble(codeDatabase, "check services.temporal.namespace", "namespace %s is no name for %s: %s", l.namespace, l.server, said)
	case codes.Unauthenticated:
		return l.trouble(codeLogin, l.credentialsHint(), "%s does not know who is asking", l.server)
	case codes.PermissionDenied:
		return l.trouble(codePermission, l.credentialsHint(), "%s does not let us use namespace %s", l.server, l.namespace)
	case codes.ResourceExhausted:
		return l.trouble(codeBusy, "forged asks again", "%s has had too many requests", l.server)
	case codes.Unimplemented:
		return l.trouble(codeProtocol, "is it the frontend of Temporal that listens there?", "%s does not answer as Temporal does", l.server)
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		if was := failure.get(); was != nil {
			if t := l.network(was); t != nil {
				return t
			}
		}
		if s.Code() == codes.DeadlineExceeded {
			return l.network(context.DeadlineExceeded)
		}
		hint := "is it the frontend of Temporal that listens there?"
		if !l.encrypted {
			hint += " if it wants TLS, write tls: true"
		} else if l.cert.IsZero() {
			hint += " it may want a certificate of the client: " + l.subject.key("mtls")
		}
		return l.trouble(codeCut, hint, "%s ends the connection before it has answered", l.server)
	}
	return l.trouble(codeProtocol, "", "%s answers with %s: %s", l.server, s.Code(), said)
}

func (l temporalLogin) credentialsHint() string {
	switch {
	case !l.apiKey.IsZero():
		return "is the key in services.temporal.apiKey one of this account, still valid, and allowed to use the namespace?"
	case !l.cert.IsZero():
		return "does the namespace trust the authority of services.temporal.mtls.cert?"
	}
	return "it wants an API key or a certificate of the client"
}
