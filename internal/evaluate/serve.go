package evaluate

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/schema"
)

// question is what a child is asked. It is text that was read, and no secret.
type question struct {
	Source schema.Source
	Bounds apart.Bounds
}

// wire is an answer on its way between processes.
type wire struct {
	Forge       any            `json:",omitempty"` // packed
	Diagnostics []byte         `json:",omitempty"`
	Invalid     bool           `json:",omitempty"` // the diagnostics are the error
	Exceeded    *ExceededError `json:",omitempty"`
	Error       string         `json:",omitempty"`
}

// maxQuestion bounds what a child reads, in bytes.
const maxQuestion = 1 << 30

// ask writes a question and leaves the pipe open.
func ask(w io.Writer, q question) error {
	text, err := json.Marshal(q)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint64(nil, uint64(len(text))), text...))
	return err
}

// errParentGone is what a child ends with that nobody waits for.
var errParentGone = errors.New("the process that asked is gone")

// Serve is the child's side: it answers the question on in, on out, and ends.
// The end of in, which stays open meanwhile, means that nobody waits for the
// answer. The caller ends the process when Serve returns.
func Serve(ctx context.Context, in io.Reader, out io.Writer, load Load) error {
	apart.Volunteer()
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return fmt.Errorf("this command is for forged itself: %w", err)
	}
	n := binary.BigEndian.Uint64(head[:])
	if n > maxQuestion {
		return errors.New("this command is for forged itself: the question is too long")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(in, text); err != nil {
		return errParentGone
	}
	var q question
	if err := json.Unmarshal(text, &q); err != nil {
		return fmt.Errorf("this command is for forged itself: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		_, _ = in.Read(make([]byte, 1)) // nothing comes any more
		cancel(errParentGone)
	}()
	var a answer
	undo := apart.Confine(q.Bounds)
	err := here(ctx, q.Source, q.Bounds, func(ctx context.Context) {
		a.forge, a.diagnostics, a.err = load(ctx, q.Source)
	})
	undo()
	if errors.Is(err, errParentGone) {
		return errParentGone
	}
	if err != nil {
		return writeAnswer(out, answer{err: err}) // a is not ours to read
	}
	return writeAnswer(out, a)
}

func writeAnswer(out io.Writer, a answer) error {
	var w wire
	var err error
	if w.Forge, err = apart.Pack(a.forge); err != nil {
		return err
	}
	diagnostics := a.diagnostics
	if d, ok := errors.AsType[schema.Diagnostics](a.err); ok {
		w.Invalid, diagnostics = true, d
	} else if x, ok := errors.AsType[*ExceededError](a.err); ok {
		w.Exceeded = x
	} else if a.err != nil {
		w.Error = a.err.Error()
	}
	if w.Diagnostics, err = diagnostics.MarshalBinary(); err != nil {
		return err
	}
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

func parseAnswer(text []byte) (a answer, err error) {
	var w wire
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&w); err != nil {
		return a, err
	}
	if err := apart.Unpack(w.Forge, &a.forge); err != nil {
		return a, err
	}
	var d schema.Diagnostics
	if err := d.UnmarshalBinary(w.Diagnostics); err != nil {
		return a, err
	}
	switch {
	case w.Exceeded != nil:
		a.err = w.Exceeded
	case w.Error != "":
		a.err = errors.New(w.Error)
	case w.Invalid:
		a.err = d
	case a.forge == nil:
		return a, errors.New("there is neither a forge nor an error in its answer")
	default:
		a.diagnostics = d
	}
	return a, nil
}
