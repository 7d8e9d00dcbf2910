package servicetest

import (
	"fmt"
	"os/exec"
	"testing"
)

// Redis is a running Redis.
type Redis struct{ Server }

// RedisOptions say how it runs.
type RedisOptions struct {
	Cert, Key string   // PEM; empty: it does not encrypt
	Settings  []string // arguments: "--requirepass", "x"
}

// StartRedis starts one that ends with the test.
func StartRedis(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: apt-get install redis-server", err)
	}
	r := &Redis{}
	r.dir, r.Port = ownDir(t, nil), FreePort(t)
	args := []string{"--bind", "127.0.0.1", "--save", "", "--dir", r.dir}
	if o.Cert == "" {
		args = append(args, "--port", fmt.Sprint(r.Port))
	} else {
		args = append(args, "--port", "0", "--tls-port", fmt.Sprint(r.Port), "--tls-auth-clients", "no",
			"--tls-cert-file", put(t, r.dir, "server.crt", o.Cert, nil), "--tls-key-file", put(t, r.dir, "server.key", o.Key, nil))
	}
	r.serve(t, listens(r.Port), nil, program, append(args, o.Settings...)...)
	return r
}
