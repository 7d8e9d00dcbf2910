package main

import (
	"encoding/json"
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
//	fly release APP        all IPv6 addresses of an app
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
		ts.Value(flyValue{}).(*flyPlace).emulator = e
		server := httptest.NewServer(e)
		ts.Defer(func() { e.Close(); server.Close() })
		for _, name := range []string{"FLY_FLAPS_BASE_URL", "FLY_API_BASE_URL", "FLY_UIEX_BASE_URL"} {
			ts.Setenv(name, server.URL)
		}
		ts.Setenv("FLY_API_TOKEN", flyemulator.DefaultToken)
	case len(args) < 2:
		ts.Fatalf("usage: fly METHOD PATH [BODY]")
	case args[0] == "release":
		var answer struct {
			IPs []struct{ IP string }
		}
		path := "/v1/apps/" + args[1] + "/ip_assignments"
		ts.Check(json.Unmarshal(askFly(ts, http.MethodGet, path, ""), &answer))
		for _, a := range answer.IPs {
			if strings.Contains(a.IP, ":") {
				askFly(ts, http.MethodDelete, path+"/"+a.IP, "")
			}
		}
	default:
		_, err := ts.Stdout().Write(askFly(ts, args[0], args[1], strings.Join(args[2:], " ")))
		ts.Check(err)
	}
}

// askFly is a request of somebody else, which no limit of ours holds up.
func askFly(ts *testscript.TestScript, method, path, body string) []byte {
	at, ok := ts.Value(flyValue{}).(*flyPlace)
	if !ok || at.emulator == nil {
		ts.Fatalf("there is no Fly yet: fly up")
	}
	drift := flyemulator.Drift{Method: method, Path: path}
	if body != "" {
		drift.Body = json.RawMessage(body)
	}
	status, answer := at.emulator.Drift(drift)
	if status >= 300 {
		ts.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// flyPlace is where a script keeps its emulator.
type flyPlace struct{ emulator *flyemulator.Emulator }

type flyValue struct{}
