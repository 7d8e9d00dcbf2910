package external

import (
	"net/url"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Services that are asked.
const (
	servicePostgres = "postgres"
	serviceRedis    = "redis"
	serviceTemporal = "temporal"

	fieldPostgresURL   = "services.postgres.url"
	fieldPostgresAdmin = "services.postgres.admin"
	fieldRedisURL      = "services.redis.url"
	fieldTemporal      = "services.temporal.address"
)

// answer is what came of asking a service.
type answer struct {
	trouble *trouble // nil: it answers, and lets the app in
	notices []reconcile.Notice
	expires time.Time // of the first certificate that ends; zero: there is none
}

// expiry notes when the first of several certificates ends. Connections are
// made in goroutines of libraries, some of them once more than was asked for.
type expiry struct {
	mu sync.Mutex
	at time.Time
}

func (e *expiry) note(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at.IsZero() || at.Before(e.at) {
		e.at = at
	}
}

func (e *expiry) get() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

func (a answer) health() reconcile.Health {
	if a.trouble != nil {
		return reconcile.Health{Status: reconcile.Failed, Message: a.trouble.Error()}
	}
	return reconcile.Health{Status: reconcile.Ready}
}

func notice(code, object, message string) reconcile.Notice {
	return reconcile.Notice{Code: code, Object: object, Message: message}
}

// redact takes secrets out of what a server says, should it say one.
func redact(text string, secrets ...secret.Value) string {
	for _, s := range secrets {
		plain := string(s.Reveal())
		if plain == "" {
			continue
		}
		for _, form := range []string{plain, url.QueryEscape(plain), url.PathEscape(plain)} {
			text = strings.ReplaceAll(text, form, "[redacted]")
		}
	}
	return text
}
