package flyemulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// Fault is trouble with some requests. What is zero matches everything, and
// does no harm.
type Fault struct {
	ID     int    `json:"id,omitempty"`
	Action string `json:"action,omitempty"` // as in Request
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"` // regular expression over path and query
	App    string `json:"app,omitempty"`
	Body   string `json:"body,omitempty"` // of the request: regular expression

	Skip  int `json:"skip,omitempty"`  // requests that are spared first
	Count int `json:"count,omitempty"` // requests it strikes; 0: until it is mended

	Delay  Duration          `json:"delay,omitempty"`
	Status int               `json:"status,omitempty"` // answered instead
	Text   string            `json:"text,omitempty"`   // the answer: JSON, or the error's text
	Word   string            `json:"word,omitempty"`   // the error's status word
	Header map[string]string `json:"header,omitempty"`
	Commit bool              `json:"commit,omitempty"` // with Status: what was asked is done all the same
	Drop   string            `json:"drop,omitempty"`

	path, body *regexp.Regexp
}

// Where a connection drops.
const (
	DropBefore = "before" // anything was done
	DropAfter  = "after"  // it was done: only the answer is lost
)

// Duration is written as "1.5s" in JSON.
type Duration time.Duration

// MarshalJSON writes "1.5s".
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads "1.5s", or nanoseconds.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case float64:
		*d = Duration(v)
	case string:
		p, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		*d = Duration(p)
	default:
		return fmt.Errorf("a duration is written as \"1.5s\", not %s", raw)
	}
	return nil
}

// Fault has trouble strike from now on, until mend is called. Of several that
// match, the newest strikes. It panics when a regular expression is none.
func (e *Emulator) Fault(f Fault) (mend func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	one, err := e.addFault(f)
	if err != nil {
		panic(err)
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.mend(one.ID)
	}
}

func (e *Emulator) addFault(f Fault) (*Fault, error) {
	var err error
	if f.path, err = regexp.Compile(f.Path); err != nil {
		return nil, fmt.Errorf("flyemulator: fault: path: %w", err)
	}
	if f.body, err = regexp.Compile(f.Body); err != nil {
		return nil, fmt.Errorf("flyemulator: fault: body: %w", err)
	}
	if f.Drop != "" && f.Drop != DropBefore && f.Drop != DropAfter {
		return nil, fmt.Errorf("flyemulator: fault: drop is %q or %q, not %q", DropBefore, DropAfter, f.Drop)
	}
	e.faultID++
	f.ID = e.faultID
	e.faults = append(e.faults, &f)
	return &f, nil
}

func (e *Emulator) mend(id int) {
	e.faults = slices.DeleteFunc(e.faults, func(f *Fault) bool { return f.ID == id })
}

// MendAll ends every trouble.
func (e *Emulator) MendAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = nil
}

// strike finds the trouble of a request, and counts it.
func (e *Emulator) strike(c *call) *Fault {
	if c.all {
		return nil
	}
	for _, f := range slices.Backward(e.faults) {
		if !f.matches(c) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			return nil
		}
		if f.Count > 0 {
			if f.Count--; f.Count == 0 {
				e.mend(f.ID)
			}
		}
		return f
	}
	return nil
}

func (f *Fault) matches(c *call) bool {
	return (f.Action == "" || f.Action == c.route.action) &&
		(f.Method == "" || f.Method == c.r.Method) &&
		(f.App == "" || f.App == c.values["app"]) &&
		f.path.MatchString(c.r.URL.RequestURI()) && f.body.Match(c.body)
}

func (f *Fault) reply(c *call) reply {
	text := f.Text
	if text == "" {
		text = http.StatusText(f.Status)
	}
	rep := c.failed((&failure{status: f.Status, text: text}).as(f.Word))
	if json.Valid([]byte(text)) {
		rep.raw, rep.contentType = []byte(text), "application/json; charset=utf-8"
	}
	rep.header = http.Header{}
	for k, v := range f.Header {
		rep.header.Set(k, v)
	}
	return rep
}
