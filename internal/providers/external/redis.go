package external

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"forged.dev/forged/internal/secret"
)

// redisLogin is a login to a Redis.
type redisLogin struct {
	subject
	address
	bundle   secret.Value
	database int
}

func newRedisLogin(s subject, url secret.Value, source string, bundle secret.Value) (redisLogin, *trouble) {
	l := redisLogin{subject: s, bundle: bundle}
	a, err := parseAddress(url, redisSchemes())
	if err == nil && a.path != "" {
		if l.database, err = strconv.Atoi(a.path); err != nil || l.database < 0 {
			err = errors.New("is a URL whose path is not the number of a database")
		}
	}
	if err != nil {
		return l, s.trouble(codeURL, "want rediss://USER:PASSWORD@HOST:PORT/0, or redis:// without encryption", "%s %s", source, err)
	}
	l.address, l.subject.server, l.subject.host, l.subject.bundle = a, a.server(), a.host, !bundle.IsZero()
	return l, nil
}

// check logs in and asks for a sign of life.
func (l redisLogin) check(ctx context.Context) (a answer) {
	var ends expiry
	defer func() { a.expires = ends.get() }()
	var secure *tls.Config
	if l.scheme == "rediss" {
		if secure, a.trouble = l.secure(verifyFull, l.bundle, ends.note); a.trouble != nil {
			return a
		}
	}
	client := redis.NewClient(&redis.Options{
		Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 1,
		DialTimeout: l.limit, ReadTimeout: l.limit, WriteTimeout: l.limit, PoolTimeout: l.limit, ContextTimeoutEnabled: true,
		Addr: l.subject.server, Username: l.user, Password: string(l.password.Reveal()), DB: l.database,
		Dialer: func(ctx context.Context, network, server string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, server)
			if err != nil || secure == nil {
				return conn, err
			}
			encrypted := tls.Client(conn, secure)
			ctx, cancel := context.WithTimeout(ctx, l.limit*3/4)
			defer cancel()
			if err := encrypted.HandshakeContext(ctx); err != nil {
				_ = conn.Close()
				if errors.Is(err, context.DeadlineExceeded) {
					return nil, l.silentTLS() // a Redis without TLS waits for the end of the line
				}
				return nil, err
			}
			return encrypted, nil
		},
	})
	defer func() { _ = client.Close() }()
	err := client.Ping(ctx).Err()
	if err == nil && l.user == "" && !l.password.IsZero() {
		// The library logs in by HELLO, which takes any password where none is
		// asked for. Others log in like this, which does not.
		err = client.Do(ctx, "AUTH", string(l.password.Reveal())).Err()
	}
	if err != nil {
		a.trouble = l.explain(err)
	}
	return a
}

// explain tells what is wrong; it always finds something to say.
func (l redisLogin) explain(err error) *trouble {
	var said redis.Error
	if errors.As(err, &said) {
		return l.refusal(said.Error())
	}
	if t := l.network(err); t != nil {
		return t
	}
	return l.trouble(codeProtocol, "is it Redis that listens there, and does the scheme of "+l.field+" fit: rediss with TLS, redis without?",
		"%s does not answer as Redis does", l.subject.server)
}

// refusal is what a server says: Redis has a word for it at the beginning.
func (l redisLogin) refusal(text string) *trouble {
	word, _, _ := strings.Cut(text, " ")
	user := "the password"
	if l.user != "" && l.user != "default" {
		user = "user " + l.user + " with the password"
	}
	switch {
	case word == "WRONGPASS", strings.HasPrefix(text, "ERR invalid password"):
		return l.trouble(codeLogin, "is that the password of the server?", "%s refuses %s in %s", l.subject.server, user, l.field)
	case word == "NOAUTH":
		return l.trouble(codeLogin, "write it before the host: rediss://:PASSWORD@HOST:PORT", "%s wants a password, and %s has none", l.subject.server, l.field)
	case strings.HasPrefix(text, "ERR AUTH") && strings.Contains(text, "without any password"), strings.HasPrefix(text, "ERR Client sent AUTH"):
		return l.trouble(codeLogin, "give the server a password (requirepass), or take it out of the URL",
			"%s asks for no password, and %s has one", l.subject.server, l.field)
	case word == "NOPERM":
		return l.trouble(codePermission, "its rules (ACL) say what the user may do", "%s does not let %s in %s do anything", l.subject.server, user, l.field)
	case strings.HasPrefix(text, "ERR DB index"), strings.HasPrefix(text, "ERR SELECT is not allowed"), strings.HasPrefix(text, "ERR invalid DB index"):
		return l.trouble(codeDatabase, "most servers of others have database 0 only", "there is no database %d at %s", l.database, l.subject.server)
	case word == "LOADING", word == "MASTERDOWN", word == "CLUSTERDOWN", word == "BUSY":
		return l.trouble(codeBusy, "forged asks again", "%s takes no commands now: %s", l.subject.server, printable(redact(text, l.password)))
	case strings.HasPrefix(text, "ERR max number of clients"):
		return l.trouble(codeBusy, "raise maxclients, or let clients close what they do not use", "%s has no connection left", l.subject.server)
	case word == "DENIED":
		return l.trouble(codePermission, "give it a password (requirepass), or an address to listen on (bind)",
			"%s answers only to its own machine: it is in protected mode", l.subject.server)
	}
	return l.trouble(codeProtocol, "", "%s answers: %s", l.subject.server, printable(redact(text, l.password)))
}
