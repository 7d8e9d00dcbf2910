// Package secret holds values that must not be printed, and turns references
// to secrets into such values.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Value is a secret. It prints as [redacted] through fmt, encoding/json,
// encoding and slog; only Reveal gives the bytes away.
type Value struct {
	// Behind two pointers, because fmt cannot call the methods below on an
	// unexported field of somebody else's struct and prints what it finds
	// there instead. With a verb that does not fit it follows one pointer.
	v **[]byte
}

// New makes a Value; it keeps its own copy of b.
func New(b []byte) Value {
	if len(b) == 0 {
		return Value{}
	}
	own := append([]byte(nil), b...)
	p := &own
	return Value{&p}
}

// Reveal returns the secret itself. Call it only where the value leaves for
// the place it is meant for.
func (v Value) Reveal() []byte {
	if v.v == nil {
		return nil
	}
	return append([]byte(nil), **v.v...)
}

// IsZero tells whether nothing was ever put in.
func (v Value) IsZero() bool { return v.v == nil }

// Format implements fmt.Formatter, so that no verb and no flag prints the value.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (Value) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Value) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler and thereby covers JSON.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }
