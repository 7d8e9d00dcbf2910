package external

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/servicetest"
)

// Each thing that can be wrong with a Redis is told apart, with what to do
// about it. A probe that takes the refusal of a login for an answer says that
// all is well where nobody is let in.
func TestRedis(t *testing.T) {
	authority := servicetest.NewAuthority(t, "our authority")
	cert, key := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}})
	open := servicetest.StartRedis(t, servicetest.RedisOptions{})
	closed := servicetest.StartRedis(t, servicetest.RedisOptions{Settings: []string{
		"--requirepass", password, "--user", "app", "on", ">" + password, "~*", "+@all", "--user", "mute", "on", ">x", "~*", "-@all",
	}})
	encrypted := servicetest.StartRedis(t, servicetest.RedisOptions{Cert: cert, Key: key, Settings: []string{"--requirepass", password}})
	expiredCert, expiredKey := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}, Until: -time.Minute})
	expired := servicetest.StartRedis(t, servicetest.RedisOptions{Cert: expiredCert, Key: expiredKey})
	full := servicetest.StartRedis(t, servicetest.RedisOptions{Settings: []string{"--maxclients", "1"}})
	occupy(t, full.Port)

	for _, tt := range []struct {
		name, url string
		bundle    bool
		want      string
	}{
		{"fine", fmt.Sprintf("redis://localhost:%d", open.Port), false, ""},
		{"by password", fmt.Sprintf("redis://:%s@localhost:%d/0", escaped, closed.Port), false, ""},
		{"by user", fmt.Sprintf("redis://app:%s@localhost:%d/3", escaped, closed.Port), false, ""},
		{"encrypted", fmt.Sprintf("rediss://:%s@localhost:%d/0", escaped, encrypted.Port), true, ""},
		{"the wrong password", fmt.Sprintf("redis://:wrong@localhost:%d/0", closed.Port), false, "refuses the password in services.redis.url"},
		{"the wrong user", fmt.Sprintf("redis://nobody:wrong@localhost:%d/0", closed.Port), false, "refuses user nobody with the password"},
		{"no password", fmt.Sprintf("redis://localhost:%d/0", closed.Port), false, "wants a password, and services.redis.url has none"},
		{"a password too many", fmt.Sprintf("redis://:x@localhost:%d/0", open.Port), false, "asks for no password, and services.redis.url has one"},
		{"no permission", fmt.Sprintf("redis://mute:x@localhost:%d/0", closed.Port), false, "does not let user mute|ACL"},
		{"no such database", fmt.Sprintf("redis://localhost:%d/99", open.Port), false, "there is no database 99"},
		{"full", fmt.Sprintf("redis://localhost:%d/0", full.Port), false, "no connection left"},
		{"plain, to one that encrypts", fmt.Sprintf("redis://:x@localhost:%d/0", encrypted.Port), false, "localhost"},
		{"encrypted, to one that does not", fmt.Sprintf("rediss://:x@localhost:%d/0", open.Port), true, "does not answer to TLS|redis://"},
		{
			"an authority that is not trusted", fmt.Sprintf("rediss://:x@localhost:%d/0", encrypted.Port), false,
			"signed by nobody who is trusted: our authority|services.redis.caBundle",
		},
		{"another name", fmt.Sprintf("rediss://:x@127.0.0.1:%d/0", encrypted.Port), true, "is for localhost|use a name that the certificate has"},
		{"an expired certificate", fmt.Sprintf("rediss://localhost:%d/0", expired.Port), true, "has expired on"},
		{"an unknown name", "redis://cache.invalid", false, "the name cache.invalid is not known here"},
		{"nobody there", fmt.Sprintf("redis://localhost:%d", servicetest.FreePort(t)), false, "refuses connections"},
		{"no answer", fmt.Sprintf("redis://localhost:%d", blackHole(t)), false, "does not answer within 3s"},
		{"something else", fmt.Sprintf("redis://localhost:%d", talker(t, "HTTP/1.1 400 Bad Request\r\n\r\n")), false, "does not answer as Redis does"},
		{"no database but a name", fmt.Sprintf("redis://localhost:%d/cache", open.Port), false, "whose path is not the number of a database"},
		{"no URL", "localhost:6379", false, "services.redis.url is not a URL that begins with redis:// or rediss://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec := forge.CheckSpec{Service: serviceRedis, URL: env("SECRET_URL")}
			if tt.bundle {
				spec.CABundle = env("CA")
			}
			v := variables{"SECRET_URL": tt.url, "SECRET": password, "SECRET_ESCAPED": escaped, "CA": authority.PEM}
			expect(t, ask(t, v, spec), tt.want)
		})
	}
}

// occupy takes the only connection of a server.
func occupy(t *testing.T, port int) {
	t.Helper()
	for t.Context().Err() == nil {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 5)
		_, err = conn.Write([]byte("PING\r\n"))
		if err == nil {
			_, err = io.ReadFull(conn, answer)
		}
		if err == nil && string(answer) == "+PONG" {
			t.Cleanup(func() { _ = conn.Close() })
			return
		}
		_ = conn.Close() // another one is not gone yet
	}
}
