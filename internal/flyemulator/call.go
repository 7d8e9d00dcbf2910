package flyemulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// call is one request on its way.
type call struct {
	e      *Emulator
	r      *http.Request
	route  *route
	values map[string]string // of the path
	known  bool              // the path exists, with another method
	body   []byte
	now    time.Time // when it came
	tokens []*Token  // that the request carries
	all    bool      // made by the emulator itself: it may do everything
	app    *app      // with scopeApp; maybe an older state of it
	org    *Org      // with scopeApp and scopeOrg
}

func (e *Emulator) newCall(r *http.Request, body []byte) *call {
	c := &call{e: e, r: r, body: body, now: e.now()}
	c.route, c.values, c.known = e.match(r)
	return c
}

// reply is an answer.
type reply struct {
	status      int
	body        any    // encoded as JSON; nil: none
	raw         []byte // instead of body
	contentType string // of raw
	header      http.Header
	dropped     bool // the connection breaks instead
}

func (r reply) bytes() (raw []byte, contentType string) {
	if r.raw != nil {
		return r.raw, r.contentType
	}
	if r.body == nil {
		return nil, ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r.body); err != nil {
		panic(fmt.Sprintf("flyemulator: an answer is no JSON: %v", err))
	}
	return b.Bytes(), "application/json; charset=utf-8"
}

func (c *call) reply(status int, v any) reply { return reply{status: status, body: v} }

func (c *call) ok(v any) reply { return reply{status: http.StatusOK, body: v} }

func (c *call) nothing(status int) reply { return reply{status: status} }

// failure is a refusal, in the words of Fly.
type failure struct {
	status  int
	text    string
	word    string // the status word, where Fly has one
	details any
}

// errorBody is how the Machines API says that something failed.
type errorBody struct {
	Error   string `json:"error"`
	Status  string `json:"status,omitempty"`
	Details any    `json:"details,omitempty"`
}

func refuse(status int, format string, args ...any) *failure {
	return &failure{status: status, text: fmt.Sprintf(format, args...)}
}

// as gives the failure a status word.
func (f *failure) as(word string) *failure {
	f.word = word
	return f
}

func (c *call) failed(f *failure) reply {
	return reply{status: f.status, body: errorBody{Error: f.text, Status: f.word, Details: f.details}}
}

func (c *call) fail(status int, format string, args ...any) reply {
	return c.failed(refuse(status, format, args...))
}

// decode reads the body. Fields that nobody knows are passed over; a value of
// the wrong type is refused.
func (c *call) decode(v any) *failure {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return refuse(http.StatusBadRequest, "request body: %v", io.EOF)
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return refuse(http.StatusBadRequest, "json: cannot unmarshal %s into Go struct field %s of type %s", typ.Value, typ.Field, typ.Type)
		}
		return refuse(http.StatusBadRequest, "request body: %v", err)
	}
	return nil
}

// decodeMaybe is decode where the body may be missing.
func (c *call) decodeMaybe(v any) *failure {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return nil
	}
	return c.decode(v)
}

func (c *call) query(name string) string { return c.r.URL.Query().Get(name) }

// flag is a query parameter that says yes or no.
func (c *call) flag(name string) bool {
	yes, err := strconv.ParseBool(c.query(name))
	return err == nil && yes
}

// notRouted answers what no API has.
func (c *call) notRouted() reply {
	if c.known {
		return c.fail(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
	return reply{status: http.StatusNotFound, raw: []byte("404 page not found\n"), contentType: "text/plain; charset=utf-8"}
}

// finish gives the answer what every answer of Fly carries.
func (c *call) finish(rep reply) reply {
	if rep.dropped {
		return rep
	}
	if rep.header == nil {
		rep.header = http.Header{}
	}
	if c.route != nil && c.route.scope == scopeControl {
		return rep
	}
	h := rep.header
	h.Set("Fly-Request-Id", c.e.newULID()+"-iad")
	h.Set("Fly-Trace-Id", c.e.newHex("trace", 32))
	h.Set("Server", "Fly/emulator")
	h.Set("Via", "1.1 fly.io")
	if c.app != nil {
		h.Add("Set-Cookie", "fly_flaps_affinity="+c.app.Affinity+"; Path=/v1/apps/"+c.app.Name)
	}
	return rep
}
