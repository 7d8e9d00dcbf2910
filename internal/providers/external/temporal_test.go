package external

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/servicetest"
)

const apiKey = "S3cret.api+key/of=ours"

// frontend answers as Temporal's does, for the calls that forged makes.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
	key      string // wanted; empty: none
	allowed  string // namespace that the key may use; empty: all
	overload bool
}

func (f *frontend) DescribeNamespace(ctx context.Context, r *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	said := fmt.Sprint(md.Get("authorization"))
	switch {
	case f.overload:
		return nil, status.Error(codes.ResourceExhausted, "namespace rate limit exceeded")
	case f.key != "" && said != "[Bearer "+f.key+"]":
		return nil, status.Error(codes.Unauthenticated, "invalid API key "+said)
	case f.allowed != "" && r.GetNamespace() != f.allowed:
		return nil, status.Error(codes.PermissionDenied, "Request unauthorized.")
	case fmt.Sprint(md.Get("temporal-namespace")) != "["+r.GetNamespace()+"]":
		return nil, status.Error(codes.InvalidArgument, "the header temporal-namespace does not say where to")
	}
	info := &namespacepb.NamespaceInfo{Name: r.GetNamespace(), State: enums.NAMESPACE_STATE_REGISTERED}
	switch r.GetNamespace() {
	case "shop":
	case "old":
		info.State = enums.NAMESPACE_STATE_DEPRECATED
	default:
		return nil, status.Error(codes.NotFound, "Namespace "+r.GetNamespace()+" is not found.")
	}
	return &workflowservice.DescribeNamespaceResponse{NamespaceInfo: info}, nil
}

// serveTemporal serves a frontend; how it feels; with TLS if cfg is not nil.
func serveTemporal(t *testing.T, f *frontend, feels grpc_health_v1.HealthCheckResponse_ServingStatus, cfg *tls.Config) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	if cfg != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg)))
	}
	server := grpc.NewServer(options...)
	workflowservice.RegisterWorkflowServiceServer(server, f)
	if feels != grpc_health_v1.HealthCheckResponse_UNKNOWN {
		h := health.NewServer()
		h.SetServingStatus(temporalService, feels)
		grpc_health_v1.RegisterHealthServer(server, h)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-ended })
	return l.Addr().(*net.TCPAddr).Port
}

func pair(t *testing.T, cert, key string) []tls.Certificate {
	t.Helper()
	p, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{p}
}

// Each thing that can be wrong with a Temporal is told apart, with what to do
// about it.
func TestTemporal(t *testing.T) {
	const serving, notServing, unknown = grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_UNKNOWN
	authority, clients := servicetest.NewAuthority(t, "our authority"), servicetest.NewAuthority(t, "of clients")
	served := pair2(authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}}))
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(clients.PEM))
	clientCert, clientKey := clients.Sign(t, servicetest.Certificate{Client: true})
	oldCert, oldKey := clients.Sign(t, servicetest.Certificate{Client: true, Until: -time.Minute})
	strangeCert, strangeKey := authority.Sign(t, servicetest.Certificate{Client: true})
	expiredCert, expiredKey := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}, Until: -time.Minute})

	plain := serveTemporal(t, &frontend{}, serving, nil)
	encrypted := serveTemporal(t, &frontend{key: apiKey, allowed: "shop"}, serving, &tls.Config{Certificates: pair(t, served[0], served[1])})
	mutual := serveTemporal(t, &frontend{}, serving, &tls.Config{Certificates: pair(t, served[0], served[1]), ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted})
	expired := serveTemporal(t, &frontend{}, serving, &tls.Config{Certificates: pair(t, expiredCert, expiredKey)})
	starting := serveTemporal(t, &frontend{}, notServing, nil)
	withoutHealth := serveTemporal(t, &frontend{}, unknown, nil)
	overloaded := serveTemporal(t, &frontend{overload: true}, serving, nil)
	something := grpcServer(t)

	for _, tt := range []struct {
		name, namespace string
		port            int
		host            string
		change          func(*forge.CheckSpec)
		want            string
	}{
		{"fine", "shop", plain, "", nil, ""},
		{"without health, as behind a proxy", "shop", withoutHealth, "", nil, ""},
		{"by API key", "shop", encrypted, "", func(s *forge.CheckSpec) { s.TLS, s.CABundle, s.APIKey = true, env("CA"), env("SECRET_KEY") }, ""},
		{"by certificate", "shop", mutual, "", func(s *forge.CheckSpec) {
			s.TLS, s.CABundle, s.ClientCert, s.ClientKey = true, env("CA"), env("CERT"), env("SECRET_CERT_KEY")
		}, ""},
		{"no namespace", "cart", plain, "", nil, "there is no namespace cart|temporal operator namespace create --namespace cart"},
		{"a namespace of before", "old", plain, "", nil, "namespace old at |Deprecated"},
		{
			"the wrong API key", "shop", encrypted, "", func(s *forge.CheckSpec) { s.TLS, s.CABundle, s.APIKey = true, env("CA"), env("SECRET_OTHER") },
			"does not know who is asking|services.temporal.apiKey",
		},
		{"no API key", "shop", encrypted, "", func(s *forge.CheckSpec) { s.TLS, s.CABundle = true, env("CA") }, "does not know who is asking|it wants an API key"},
		{
			"not allowed", "cart", encrypted, "", func(s *forge.CheckSpec) { s.TLS, s.CABundle, s.APIKey = true, env("CA"), env("SECRET_KEY") },
			"does not let us use namespace cart",
		},
		{"no certificate", "shop", mutual, "", func(s *forge.CheckSpec) { s.TLS, s.CABundle = true, env("CA") }, "services.temporal.mtls"},
		{"a certificate of somebody else", "shop", mutual, "", func(s *forge.CheckSpec) {
			s.TLS, s.CABundle, s.ClientCert, s.ClientKey = true, env("CA"), env("STRANGE_CERT"), env("SECRET_STRANGE_KEY")
		}, "localhost:"},
		{"a certificate that has expired", "shop", mutual, "", func(s *forge.CheckSpec) {
			s.TLS, s.CABundle, s.ClientCert, s.ClientKey = true, env("CA"), env("OLD_CERT"), env("SECRET_OLD_KEY")
		}, "services.temporal.mtls.cert has expired on"},
		{"certificate and key of different people", "shop", mutual, "", func(s *forge.CheckSpec) {
			s.TLS, s.CABundle, s.ClientCert, s.ClientKey = true, env("CA"), env("CERT"), env("SECRET_OLD_KEY")
		}, "services.temporal.mtls: certificate and key cannot be used together"},
		{
			"an authority that is not trusted", "shop", encrypted, "", func(s *forge.CheckSpec) { s.TLS = true },
			"signed by nobody who is trusted: our authority|services.temporal.caBundle",
		},
		{"another name", "shop", encrypted, "127.0.0.1", func(s *forge.CheckSpec) { s.TLS, s.CABundle = true, env("CA") }, "is for localhost"},
		{"an expired certificate", "shop", expired, "", func(s *forge.CheckSpec) { s.TLS, s.CABundle = true, env("CA") }, "has expired on"},
		{"encrypted, to one that does not", "shop", plain, "", func(s *forge.CheckSpec) { s.TLS, s.CABundle = true, env("CA") }, "localhost:"},
		{"plain, to one that encrypts", "shop", encrypted, "", nil, "tls: true"},
		{"starting", "shop", starting, "", nil, "is NOT_SERVING"},
		{"overloaded", "shop", overloaded, "", nil, "has had too many requests"},
		{"another service", "shop", something, "", nil, "does not answer as Temporal does"},
		{"an unknown name", "shop", 7233, "temporal.invalid", nil, "the name temporal.invalid is not known here|services.temporal.address"},
		{"nobody there", "shop", servicetest.FreePort(t), "", nil, "refuses connections"},
		{"no answer", "shop", blackHole(t), "", nil, "does not answer within 3s"},
		{"no answer in TLS", "shop", blackHole(t), "", func(s *forge.CheckSpec) { s.TLS = true }, "does not answer"},
		{"something else", "shop", talker(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), "", nil, "is it the frontend of Temporal that listens there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.host == "" {
				tt.host = "localhost"
			}
			spec := forge.CheckSpec{Service: serviceTemporal, Address: fmt.Sprintf("%s:%d", tt.host, tt.port), TemporalNamespace: tt.namespace}
			if tt.change != nil {
				tt.change(&spec)
			}
			v := variables{
				"SECRET_KEY": apiKey, "SECRET_OTHER": apiKey + "x", "CA": authority.PEM, "CERT": clientCert, "SECRET_CERT_KEY": clientKey,
				"OLD_CERT": oldCert, "SECRET_OLD_KEY": oldKey, "STRANGE_CERT": strangeCert, "SECRET_STRANGE_KEY": strangeKey,
			}
			expect(t, ask(t, v, spec), tt.want)
		})
	}
}

func pair2(cert, key string) [2]string { return [2]string{cert, key} }

// grpcServer speaks gRPC, and is no Temporal.
func grpcServer(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-ended })
	return l.Addr().(*net.TCPAddr).Port
}
