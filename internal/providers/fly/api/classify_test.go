package api

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func plain(s string) string { return s }

func answered(status int, body string, header http.Header, r request) *Error {
	if header == nil {
		header = http.Header{}
	}
	return classify(r, &http.Response{StatusCode: status, Header: header}, []byte(body), plain)
}

// TestKinds: the texts are those that the Machines API docs, flyctl's source
// and users of the API name.
func TestKinds(t *testing.T) {
	write, read, wait := request{}, request{repeat: true}, request{repeat: true, waits: true}
	for _, tt := range []struct {
		name   string
		status int
		body   string
		of     request
		want   Kind
	}{
		{"no token", 401, `{"error":"malformed authorization header"}`, read, Unauthenticated},
		{"wrong token", 401, `{"error":"Authenticate: token validation error"}`, read, Unauthenticated},
		{"no scope", 403, `{"error":"unauthorized"}`, read, Denied},
		{"no app", 404, `{"error":"app not found"}`, read, NotFound},
		{"nothing said", 404, ``, read, NotFound},
		{"another server", 404, "404 page not found\n", read, Unavailable},
		{"a page", 404, "<html><h1>Not Found</h1></html>", read, Unavailable},

		{"app name", 422, `{"error":"Validation failed: Name has already been taken","status":"name_taken"}`, write, Taken},
		{"app name of old", 422, `{"error":"Validation failed: Name has already been taken"}`, write, Taken},
		{"app name at once", 422, `{"error":"uniqueness constraint violated"}`, write, Taken},
		{"bad app name", 422, `{"error":"Validation failed: Name under 63 chars using numbers, lowercase letters and dashes"}`, write, Invalid},
		{"machine name", 409, `{"error":"already_exists: unique machine name violation, machine ID 1 already exists with name \"a\""}`, write, Taken},
		{"machine name about money", 409, `{"error":"already_exists: unique machine name violation, machine ID 1 already exists with name \"billing-quota\""}`, write, Taken},
		{"an app about money that is missing", 404, `{"error":"app billing not found"}`, read, NotFound},
		{"hostname about money", 422, `{"error":"Hostname already exists on app billing"}`, write, Taken},
		{"quota", 400, `{"error":"your quota of addresses is used up"}`, write, Payment},
		{"hostname", 422, `{"error":"Hostname already exists on app"}`, write, Taken},

		{"region full", 422, `{"error":"could not find a candidate host","status":"insufficient_capacity"}`, write, Capacity},
		{"region full, of old", 422, `{"error":"could not find a candidate host"}`, write, Capacity},
		{"region full, in other words", 422, `{"error":"try elsewhere","status":"insufficient_capacity"}`, write, Capacity},
		{"host of the volume full, in other words", 412, `{"error":"try elsewhere","status":"volume_placement_capacity"}`, write, Capacity},
		{"app name, in other words", 422, `{"error":"try another","status":"name_taken"}`, write, Taken},
		{"host of the volume full", 412, `{"error":"insufficient resources to create new machine with existing volume id 'vol_1'","status":"volume_placement_capacity"}`, write, Capacity},
		{"host of the volume full, of old", 412, `{"error":"insufficient resources to create new machine with existing volume 'vol_1'"}`, write, Capacity},
		{"host full", 409, `{"error":"aborted: could not reserve resource for machine: insufficient CPUs available to fulfill request on the current host"}`, write, Capacity},
		{"host full of memory", 409, `{"error":"aborted: could not reserve resource for machine: insufficient memory available to fulfill request on the current host"}`, write, Capacity},
		{"no resources", 409, `{"error":"aborted: insufficient resources available to fulfill request: x"}`, write, Capacity},
		{"no addresses", 409, `{"error":"aborted: insufficient IPs available"}`, write, Capacity},
		{"no room", 409, `{"error":"aborted: no capacity"}`, write, Capacity},
		{"no deploys", 409, `{"error":"deploys to this host are temporarily disabled"}`, write, Capacity},
		{"governor", 409, `{"error":"governor policy blocked start"}`, write, Capacity},

		{"two updates", 409, `{"error":"aborted: machine update failed due to concurrent update"}`, write, Conflict},
		{"another version", 412, `{"error":"failed_precondition: current_version does not match"}`, write, Conflict},
		{"another version of metadata", 412, `{"error":"machine_version mismatch"}`, write, Conflict},
		{"a backup runs", 409, `{"error":"a backup is running"}`, write, Conflict},

		{"lease", 409, `{"error":"machine ID 1 lease currently held by a@b.c, expires at 2026-11-23T12:00:00Z"}`, write, Leased},
		{"no lease", 404, `{"error":"not_found: lease not found"}`, write, NoLease},

		{"too early", 412, `{"error":"failed_precondition: unable to start machine from current state: 'created'"}`, write, NotYet},
		{"too early, with another status", 400, `{"error":"unable to start machine from current state: 'replacing'"}`, write, NotYet},
		{"being replaced", 412, `{"error":"failed_precondition: machine getting replaced, refusing to start"}`, write, NotYet},
		{"still active", 412, `{"error":"failed_precondition: machine still active, refusing to start"}`, write, NotYet},
		{"bound", 412, `{"error":"failed_precondition: volume is currently bound to machine: 1"}`, write, NotYet},
		{"scheduled", 412, `{"error":"failed_precondition: snapshot is already scheduled at x"}`, write, NotYet},
		{"secrets lag", 412, `{"error":"min_secrets_version 4 is not yet available"}`, write, NotYet},

		{"claimed", 412, "{\"error\":\"failed_precondition: volume already claimed by machine \\u0000\\u0000\"}", write, Precondition},
		{"runs", 412, `{"error":"failed_precondition: unable to destroy machine, not currently stopped"}`, write, Precondition},

		{"wait", 408, `{"error":"deadline_exceeded: machine failed to reach desired state, started, currently stopped"}`, wait, TimedOut},
		{"wait, with another status", 412, `{"error":"deadline_exceeded: machine failed to reach desired state, started, currently stopped"}`, wait, TimedOut},
		{"wait, nothing said", 408, ``, wait, TimedOut},
		{"replaced while waiting", 400, `{"error":"machine is currently replaced"}`, wait, Conflict},
		{"no answer to a write", 408, ``, write, Ambiguous},
		{"no answer to a read", 408, ``, read, Unavailable},

		{"network", 400, `{"error":"network not found"}`, write, Invalid},
		{"region", 422, `{"error":"target region xxx not found"}`, write, Invalid},
		{"nothing said of a bad request", 400, ``, write, Invalid},
		{"payment", 422, `{"error":"To create more than 1 machine per app please add a payment method. https://fly.io"}`, write, Payment},
		{"payment by status", 402, ``, write, Payment},
		{"image", 404, `{"error":"failed to get manifest: MANIFEST_UNKNOWN: manifest unknown"}`, write, NoImage},
		{"image, with another status", 422, `{"error":"MANIFEST_UNKNOWN"}`, write, NoImage},
		{"deleted", 410, `{"error":"This cluster has been deleted"}`, read, Gone},
		{"deleted, nothing said", 410, ``, read, Gone},
		{"too many", 429, `{"error":"rate limit exceeded"}`, write, Throttled},

		{"read fails", 503, `{"error":"upstream"}`, read, Unavailable},
		{"write fails", 503, `{"error":"upstream"}`, write, Ambiguous},
		{"write fails otherwise", 500, `oops`, write, Ambiguous},
		{"elsewhere", 307, ``, write, Unavailable},
	} {
		if got := answered(tt.status, tt.body, nil, tt.of); got.Kind != tt.want {
			t.Errorf("%s: %d %s is %q, not %q", tt.name, tt.status, tt.body, got.Kind, tt.want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for _, tt := range []struct{ body, text, code string }{
		{`{"error":"region full","status":"insufficient_capacity","details":{}}`, "region full", "insufficient_capacity"},
		{`{"message":"app is suspended"}`, "app is suspended", ""},
		{`{"errors":{"detail":"Not Found"}}`, "Not Found", ""},
		{`{"ok":false,"errors":{"detail":"plan is unknown"}}`, "plan is unknown", ""},
		{`{"errors":{"name":["can't be blank","is short"],"plan":"is unknown"}}`, "name can't be blank; is short; plan is unknown", ""},
		{`{"errors":[{"message":"a"},{"message":"b"}],"data":null}`, "a; b", ""},
		{`{"error":{"message":"deep"}}`, "deep", ""},
		{`{"detail":"x"}`, "x", ""},
		{`"just a text"`, "just a text", ""},
		{" plain\ntext ", "plain text", ""},
		{"<html>\n<body>502</body></html>", "", ""},
		{"claimed by machine \x00\x00\x00", "claimed by machine", ""},
		{`{"error":null,"status":7}`, "", ""},
		{`null`, "", ""},
		{``, "", ""},
		{`{"error":"cut`, `{"error":"cut`, ""},
	} {
		got := decodeError([]byte(tt.body), plain)
		if got.text != tt.text || got.code != tt.code {
			t.Errorf("%s says %q (%q), not %q (%q)", tt.body, got.text, got.code, tt.text, tt.code)
		}
	}
}

func TestErrorSaysWhatSupportAsksFor(t *testing.T) {
	e := answered(422, `{"error":"region full","status":"insufficient_capacity"}`, http.Header{"Fly-Request-Id": {"01K\r\nX"}}, request{action: "machine.create"})
	if got, want := e.Error(), "machine.create: region full (status 422, insufficient_capacity, request 01KX)"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	e = answered(503, "", nil, request{action: "machine.create"})
	contains(t, e.Error(), "machine.create", "may have happened", "503")
}

func TestHolderOfLease(t *testing.T) {
	e := answered(409, `{"error":"machine ID 148e1 lease currently held by 4f0c@tokens.fly.io, expires at 2026-11-23T12:00:00Z"}`, nil, request{})
	if e.Holder != "4f0c@tokens.fly.io" || !e.Until.Equal(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("held by %q until %s", e.Holder, e.Until)
	}
	e = answered(409, `{"error":"machine ID 1 lease currently held by a@b.c, expires at soon"}`, nil, request{})
	if e.Holder != "a@b.c" || !e.Until.IsZero() {
		t.Errorf("held by %q until %s", e.Holder, e.Until)
	}
}

func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-3": 0, "9999999": time.Minute, "99999999999999999999": 0, "soon": 0,
		"Mon, 02 Jan 2006 15:04:05 GMT": 0, "Fri, 01 Jan 2100 00:00:00 GMT": time.Minute,
	} {
		if got := retryAfter(&http.Response{Header: http.Header{"Retry-After": {text}}}); got != want {
			t.Errorf("%q is %s, not %s", text, got, want)
		}
	}
}

func FuzzDecodeError(f *testing.F) {
	for _, seed := range []string{
		`{"error":"a","status":"b"}`, `{"message":"a"}`, `{"errors":{"detail":"a"}}`, `{"errors":[{"message":"a","path":["b",1]}]}`,
		"plain", "<html>", `{"error":{"error":[{}]}}`, "\xff\xfe", `"` + strings.Repeat("ü", 900) + `"`, "[]", `{"errors":[[[["a"]]]]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		const canary = "fm2_canary"
		hide := hider(strings.NewReplacer(canary, "[redacted]").Replace)
		for _, s := range []said{decodeError([]byte(body), hide), decodeError([]byte(`{"error":"`+canary+body), hide)} {
			for _, text := range []string{s.text, s.code} {
				switch {
				case !utf8.ValidString(text):
					t.Errorf("%q is not UTF-8", text)
				case len(text) > longestText+len("…"):
					t.Errorf("%d bytes", len(text))
				case strings.IndexFunc(text, unicode.IsControl) >= 0:
					t.Errorf("%q is not one line", text)
				case strings.Contains(text, canary):
					t.Errorf("%q tells the token", text)
				}
			}
		}
		for _, status := range []int{200, 301, 401, 403, 404, 408, 409, 412, 422, 429, 500} {
			for _, r := range []request{{}, {repeat: true}, {repeat: true, waits: true}} {
				if answered(status, body, nil, r).Kind == "" {
					t.Errorf("%d is of no kind", status)
				}
			}
		}
		if complaints, err := complaintsOf([]byte(body)); err == nil && len(complaints) > 0 {
			if graphError(complaints, false, hide).Kind == "" {
				t.Error("of no kind")
			}
		}
	})
}
