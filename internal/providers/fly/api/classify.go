package api

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// said is what an answer of failure says, whichever of Fly's services said it.
type said struct {
	text string
	code string // the word beside it
	page bool   // it is no answer of an API, but somebody's page
}

const longestText = 800

// decodeError reads what an answer of failure says: {"error","status"} of the
// Machines API, {"message"} of some of its handlers, {"errors":{"detail"}} of
// the API behind the web interface, {"errors":[{"message"}]} of GraphQL, or
// plain text.
func decodeError(body []byte, hide hider) said {
	var value any
	if json.Unmarshal(body, &value) != nil {
		text := strings.TrimSpace(string(body))
		if strings.HasPrefix(text, "<") { // a page of HTML tells nobody anything
			return said{page: true}
		}
		return said{text: clean(hide(text)), page: text == "404 page not found"}
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return said{text: clean(hide(told(value, deepest)))}
	}
	code, _ := fields["status"].(string)
	s := said{code: clean(hide(code))}
	for _, key := range []string{"error", "message", "errors", "detail"} {
		if text := told(fields[key], deepest); text != "" {
			s.text = clean(hide(text))
			break
		}
	}
	return s
}

// deepest is how deep below an answer's fields a text may lie.
const deepest = 3

// told is the text in a value: its own, that of "detail" or "message", or all
// that its parts say.
func told(value any, depth int) string {
	if depth == 0 {
		return ""
	}
	var all []string
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		for _, key := range []string{"detail", "message"} {
			if s := told(v[key], depth-1); s != "" {
				return s
			}
		}
		for key, part := range v {
			if s := told(part, depth-1); s != "" {
				all = append(all, key+" "+s)
			}
		}
		slices.Sort(all)
	case []any:
		for _, part := range v {
			if s := told(part, depth-1); s != "" {
				all = append(all, s)
			}
		}
	}
	return strings.Join(all, "; ")
}

// clean makes one line of a text that somebody else wrote.
func clean(text string) string {
	text = strings.ToValidUTF8(text, "")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case unicode.IsControl(r), r == unicode.ReplacementChar:
			return -1 // an id of a machine has been seen as 14 zero bytes
		default:
			return r
		}
	}, text)
	text = strings.TrimSpace(text)
	if len(text) > longestText {
		cut := longestText
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return text
}

// meaning is a text that Fly is known to answer, and what it means. The first
// that fits counts. The texts are those of the Machines API docs, of flyctl's
// source, and measured by users of the API; they have been seen with more than
// one status, so the text counts before the status.
type meaning struct {
	text string // in lower case
	kind Kind
}

var meanings = []meaning{
	{"manifest_unknown", NoImage},
	{"manifest unknown", NoImage},
	{"lease currently held by", Leased},
	{"lease not found", NoLease},
	{"rate limit exceeded", Throttled},
	{"payment method", Payment},

	{"insufficient resources", Capacity},
	{"insufficient cpus", Capacity},
	{"insufficient memory", Capacity},
	{"insufficient ips", Capacity},
	{"could not find a candidate host", Capacity},
	{"could not reserve resource", Capacity},
	{"no capacity", Capacity},
	{"deploys to this host are temporarily disabled", Capacity},
	{"governor policy blocked start", Capacity},

	{"concurrent update", Conflict},
	{"currently replaced", Conflict},
	{"current_version", Conflict},
	{"machine_version", Conflict},

	{"has already been taken", Taken},
	{"uniqueness constraint violated", Taken},
	{"unique machine name violation", Taken},
	{"hostname already exists", Taken},
	{"already_exists", Taken},
	{"already exists", Taken},
	{"already enabled", Taken},

	{"is not yet available", NotYet},
	{"unable to start machine from current state", NotYet},
	{"getting replaced, refusing to start", NotYet},
	{"still active, refusing to start", NotYet},
	{"volume is currently bound to machine", NotYet},
	{"snapshot is already scheduled", NotYet},

	{"deadline_exceeded", TimedOut},
	{"failed to reach desired state", TimedOut},
	{"cluster has been deleted", Gone},
	{"failed_precondition", Precondition},
}

// money are words about what must be paid. Names hold them, too: they count last.
var money = []meaning{
	{"billing", Payment},
	{"quota", Payment},
}

// quoted are the names in a text: "already exists with name \"billing\"" is not
// about money.
var quoted = regexp.MustCompile(`"[^"]*"|'[^'\s]*'`)

// codes are the words beside the texts that mean something by themselves.
var codes = map[string]Kind{
	"insufficient_capacity":     Capacity,
	"volume_placement_capacity": Capacity,
	"name_taken":                Taken,
}

// classify makes an Error of an answer of failure.
func classify(r request, res *http.Response, body []byte, hide hider) *Error {
	s := decodeError(body, hide)
	e := &Error{
		Action: r.action, Method: r.method,
		Status: res.StatusCode, Code: s.code, Text: s.text, RequestID: requestID(res, hide),
	}
	e.Kind = kindOf(r, res.StatusCode, s)
	switch e.Kind {
	case Throttled:
		e.RetryAfter = retryAfter(res)
	case Leased:
		e.Holder, e.Until = holder(s.text)
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		e.Text = "Fly answers that it is to be asked elsewhere, where the token is not sent: check the address of the API"
	}
	return e
}

func kindOf(r request, status int, s said) Kind {
	switch {
	case status == http.StatusUnauthorized:
		return Unauthenticated
	case status == http.StatusTooManyRequests:
		return Throttled
	case status >= 500, status == http.StatusRequestTimeout && !r.waits:
		if r.repeat {
			return Unavailable
		}
		return Ambiguous
	}
	if kind, ok := codes[s.code]; ok {
		return kind
	}
	text := strings.ToLower(quoted.ReplaceAllString(s.text, ""))
	for _, m := range slices.Concat(meanings, money) {
		if strings.Contains(text, m.text) && (m.kind != Payment || mayCost(status)) {
			return m.kind
		}
	}
	switch status {
	case http.StatusForbidden:
		return Denied
	case http.StatusNotFound:
		if s.page { // somebody else answers: that says nothing about what was asked for
			return Unavailable
		}
		return NotFound
	case http.StatusRequestTimeout:
		return TimedOut
	case http.StatusConflict:
		return Conflict
	case http.StatusGone:
		return Gone
	case http.StatusPreconditionFailed:
		return Precondition
	case http.StatusPaymentRequired:
		return Payment
	}
	if status < 400 {
		return Unavailable
	}
	return Invalid
}

// mayCost tells of a status with which Fly says that something must be paid: it
// does not say so of what is not there.
func mayCost(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusGone, http.StatusConflict:
		return false
	}
	return true
}

var held = regexp.MustCompile(`lease currently held by (\S+?),? expires at (\S+)`)

// holder reads who holds a lease, and until when.
func holder(text string) (string, time.Time) {
	m := held.FindStringSubmatch(text)
	if m == nil {
		return "", time.Time{}
	}
	until, err := time.Parse(time.RFC3339Nano, strings.TrimRight(m[2], ".,;"))
	if err != nil {
		return m[1], time.Time{}
	}
	return m[1], until
}
