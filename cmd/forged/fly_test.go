package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"forged.dev/forged/internal/flyemulator"
)

// flyPace is how much faster the emulator of Fly works than Fly: what takes
// Fly a minute is there in a second.
const flyPace = 60

// cmdFly starts an emulator of Fly that forged finds as it would find Fly, or
// does there what somebody else might do:
//
//	fly up
//	fly METHOD PATH [BODY]
func cmdFly(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: fly up, or fly METHOD PATH [BODY]")
	case args[0] == "up":
		e := flyemulator.New(flyemulator.Options{
			Orgs:   []flyemulator.Org{{Slug: "acme"}},
			Tokens: []flyemulator.Token{{Kind: flyemulator.OrgToken, Org: "acme", Value: flyemulator.DefaultToken}},
			Pace:   flyPace, RateLimits: true,
		})
		server := httptest.NewServer(e)
		ts.Defer(func() { e.Close(); server.Close() })
		for _, name := range []string{"FLY_FLAPS_BASE_URL", "FLY_API_BASE_URL", "FLY_UIEX_BASE_URL"} {
			ts.Setenv(name, server.URL)
		}
		ts.Setenv("FLY_API_TOKEN", flyemulator.DefaultToken)
	case len(args) < 2:
		ts.Fatalf("usage: fly METHOD PATH [BODY]")
	default:
		req, err := http.NewRequest(args[0], ts.Getenv("FLY_FLAPS_BASE_URL")+args[1], strings.NewReader(strings.Join(args[2:], " ")))
		ts.Check(err)
		req.Header.Set("Authorization", "Bearer "+ts.Getenv("FLY_API_TOKEN"))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		ts.Check(err)
		if resp.StatusCode >= 300 {
			ts.Fatalf("%s %s: %s %s", args[0], args[1], resp.Status, body)
		}
		_, err = ts.Stdout().Write(body)
		ts.Check(err)
	}
}
