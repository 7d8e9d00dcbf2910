package endpoint

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"forged.dev/forged/internal/sandboxtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(askedFor) != "" {
		askAsAnotherProcess()
		return
	}
	code := sandboxtest.Main(m)
	// Clients of the tests' own share connections that stay for later ones.
	idle := []goleak.Option{
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*http2clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	}
	if err := goleak.Find(idle...); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
