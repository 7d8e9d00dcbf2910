package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Time is a moment as Fly tells it: as text, in seconds, in milliseconds, or
// not at all. What cannot be read is zero: no decision hangs on it alone.
type Time struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(b []byte) error {
	t.Time = time.Time{}
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		t.Time = unix(n)
		return nil
	}
	if len(b) < 2 || b[0] != '"' {
		return nil
	}
	s := string(b[1 : len(b)-1]) // what needs escaping is no time
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999 -0700 MST", "2006-01-02 15:04:05 MST"} {
		if at, err := time.Parse(layout, s); err == nil {
			t.Time = at.UTC()
			return nil
		}
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.Time.MarshalJSON()
}

// unix reads seconds or milliseconds, whichever make sense in this century.
func unix(n int64) time.Time {
	const milliseconds = 100_000_000_000 // in seconds: the year 5138
	switch {
	case n <= 0:
		return time.Time{}
	case n >= milliseconds:
		return time.UnixMilli(n).UTC()
	default:
		return time.Unix(n, 0).UTC()
	}
}

// Duration is a time as Fly takes it: "15s". Fly answers with that or with
// nanoseconds.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		*d = Duration(n)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return errors.New("a duration is neither a text nor a number")
	}
	if s == "" {
		*d = 0
		return nil
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is no duration", s)
	}
	*d = Duration(parsed)
	return nil
}
