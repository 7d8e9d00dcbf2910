package external

import (
	"context"
	"net"
	"time"

	"forged.dev/forged/internal/secret"
)

// question is what a service is asked, and all that it takes to ask. It is the
// same from wherever it is asked.
type question struct {
	service string
	inside  bool   // it could be asked from inside of a cluster instead
	pod     bool   // it is asked from there
	roles   string // resource that makes its roles; empty: nobody does
	limit   time.Duration

	bundle secret.Value

	url     secret.Value // postgres, redis
	sslMode string       // postgres

	address       string // temporal
	namespace     string
	encrypted     bool
	apiKey        secret.Value
	cert, certKey secret.Value
}

// field is where forge.cue says where the service is.
func (q question) field() string {
	return map[string]string{servicePostgres: fieldPostgresURL, serviceRedis: fieldRedisURL, serviceTemporal: fieldTemporal}[q.service]
}

// ask is how the question is asked; nil: there is no such service.
func (q question) ask() func(context.Context) answer {
	s := subject{
		service: q.service, field: q.field(), inside: q.inside, pod: q.pod, roles: q.roles, limit: q.limit, bundle: !q.bundle.IsZero(),
	}
	wrong := func(t *trouble) func(context.Context) answer {
		return func(context.Context) answer { return answer{trouble: t} }
	}
	switch q.service {
	case servicePostgres:
		login, t := newPostgresLogin(s, q.url, s.field, q.sslMode, q.bundle)
		if t != nil {
			return wrong(t)
		}
		return login.check
	case serviceRedis:
		login, t := newRedisLogin(s, q.url, s.field, q.bundle)
		if t != nil {
			return wrong(t)
		}
		return login.check
	case serviceTemporal:
		host, _, err := net.SplitHostPort(q.address)
		if err != nil {
			return wrong(s.trouble(codeURL, "want HOST:PORT", "%s is %q, which is no address with a port", s.field, q.address))
		}
		s.server, s.host = q.address, host
		return temporalLogin{
			subject: s, namespace: q.namespace, encrypted: q.encrypted, bundle: q.bundle,
			apiKey: q.apiKey, cert: q.cert, certKey: q.certKey,
		}.check
	}
	return nil
}
