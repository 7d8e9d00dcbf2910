package schema

import (
	"bytes"
	"encoding/gob"
)

// carried is a diagnostic on its way between two processes of one binary. Its
// JSON form is for others and leaves out what is needed to show it.
type carried struct {
	Diagnostic Diagnostic
	Line       string
	Span       [2]int
}

// MarshalBinary implements [encoding.BinaryMarshaler]. Nothing is lost, and
// the form is for the same build only.
func (d Diagnostics) MarshalBinary() ([]byte, error) {
	all := make([]carried, len(d))
	for i, x := range d {
		all[i] = carried{x, x.line, x.span}
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(all)
	return b.Bytes(), err
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler].
func (d *Diagnostics) UnmarshalBinary(data []byte) error {
	var all []carried
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&all); err != nil {
		return err
	}
	*d = nil
	for _, c := range all {
		x := c.Diagnostic
		x.line, x.span = c.Line, c.Span
		*d = append(*d, x)
	}
	return nil
}
