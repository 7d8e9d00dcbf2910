package render

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"forged.dev/forged/internal/apart"
)

// Bounds of what the two processes say to each other, in bytes.
const (
	mostQuestion = 1 << 30
	mostAnswer   = 4 * mostText // all texts, twice, in base64
)

// Child renders in a process of its own.
type Child struct {
	Args   []string // by which this binary calls Serve
	Bounds apart.Bounds

	slots chan struct{}
}

// sideBySide is how many charts are rendered at a time: each may take as much
// memory as it is let.
const sideBySide = 2

// NewChild makes a Child.
func NewChild(b apart.Bounds, args ...string) *Child {
	return &Child{Args: args, Bounds: b, slots: make(chan struct{}, sideBySide)}
}

// question is what a child is asked.
type question struct {
	Input  Input
	Values any // packed
	Bounds apart.Bounds
}

// message is what a child says: it wants to know something, or is done.
type message struct {
	Done      bool              `json:",omitempty"`
	Texts     map[string][]byte `json:",omitempty"` // not all text is UTF-8
	Again     map[string][]byte `json:",omitempty"`
	Heard     Heard             `json:",omitzero"`
	Error     string            `json:",omitempty"`
	TooSlow   bool              `json:",omitempty"`
	TooLarge  bool              `json:",omitempty"`
	Find      bool              `json:",omitempty"` // or else whether a kind is namespaced
	Version   string            `json:",omitempty"`
	Kind      string            `json:",omitempty"`
	Namespace string            `json:",omitempty"`
	Name      string            `json:",omitempty"`
}

// reply is what a child is told.
type reply struct {
	Namespaced bool            `json:",omitempty"`
	Object     json.RawMessage `json:",omitempty"`
	Failed     bool            `json:",omitempty"` // the parent knows why
}

// Render is Here in a child. Beside the errors of the chart it answers those of
// package apart, those of c, and the cause of the end of ctx.
func (ch *Child) Render(ctx context.Context, in Input, c Cluster) (Output, error) {
	select {
	case ch.slots <- struct{}{}:
		defer func() { <-ch.slots }()
	case <-ctx.Done():
		return Output{}, context.Cause(ctx)
	}
	values, err := apart.Pack(in.Values)
	if err != nil {
		return Output{}, fmt.Errorf("values: %w", err)
	}
	bounds := ch.Bounds.Effective()
	var last message
	var failed error // of c
	p := apart.Process{Args: ch.Args, Bounds: bounds}
	err = p.Talk(ctx, func(w io.Writer, r io.Reader) error {
		if err := write(w, question{Input: in, Values: values, Bounds: bounds}); err != nil {
			return err
		}
		for {
			last = message{}
			if err := read(r, mostAnswer, &last); err != nil || last.Done {
				return err
			}
			var answer reply
			if answer, failed = answerTo(last, c); failed != nil {
				answer = reply{Failed: true}
			}
			if err := write(w, answer); err != nil {
				return err
			}
		}
	})
	switch {
	case err != nil:
		return Output{}, err
	case failed != nil:
		return Output{}, failed
	case last.TooSlow:
		return Output{}, apart.ErrTime
	case last.TooLarge:
		return Output{}, apart.ErrMemory
	case last.Error != "":
		return Output{}, errors.New(last.Error)
	}
	return Output{Texts: texts(last.Texts), Again: texts(last.Again), Heard: last.Heard}, nil
}

func answerTo(m message, c Cluster) (a reply, err error) {
	if !m.Find {
		a.Namespaced, err = c.Namespaced(m.Version, m.Kind)
		return a, err
	}
	found, err := c.Find(m.Version, m.Kind, m.Namespace, m.Name)
	if err == nil && found != nil {
		a.Object, err = json.Marshal(found)
	}
	return a, err
}

func texts(in map[string][]byte) map[string]string {
	if in == nil {
		return nil
	}
	out := make(map[string]string, len(in))
	for name, text := range in {
		out[name] = string(text)
	}
	return out
}

func raw(in map[string]string) map[string][]byte {
	out := make(map[string][]byte, len(in))
	for name, text := range in {
		out[name] = []byte(text)
	}
	return out
}

// errNotForPeople is what a person gets to see who runs the child's command.
var errNotForPeople = errors.New("this command is for forged itself")

// Serve is the child's side: it answers the question on in, on out, and ends.
// The end of in means that nobody waits for the answer. The caller ends the
// process when Serve returns.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	apart.Volunteer()
	var q question
	if err := read(in, mostQuestion, &q); err != nil {
		return fmt.Errorf("%w: %w", errNotForPeople, err)
	}
	if err := apart.Unpack(q.Values, &q.Input.Values); err != nil {
		return fmt.Errorf("%w: %w", errNotForPeople, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Somebody always reads, so that the end of the parent is noticed.
	replies := make(chan reply)
	go func() {
		for {
			var r reply
			if err := read(in, mostQuestion, &r); err != nil {
				cancel(errors.New("the process that asked is gone"))
				return
			}
			select {
			case replies <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	asking := &parent{ctx: ctx, out: out, replies: replies}
	undo := apart.Confine(q.Bounds)
	var output Output
	var failed error
	err := apart.Here(ctx, q.Bounds, func(context.Context) {
		defer func() {
			// Nobody above would stop a panic of a library.
			if what := recover(); what != nil {
				failed = fmt.Errorf("its templates made a library panic: %v", what)
			}
		}()
		output, failed = Here(q.Input, asking)
	})
	undo()
	m := message{Done: true}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, apart.ErrTime):
		m.TooSlow = true
	case errors.Is(err, apart.ErrMemory):
		m.TooLarge = true
	case failed != nil:
		m.Error = failed.Error()
	default:
		m.Texts, m.Heard = raw(output.Texts), output.Heard
		if q.Input.Twice {
			m.Again = raw(output.Again)
		}
	}
	return write(out, m)
}

// parent is the cluster as a child sees it.
type parent struct {
	ctx     context.Context
	out     io.Writer
	replies <-chan reply
}

func (p *parent) ask(m message) (reply, error) {
	if err := write(p.out, m); err != nil {
		return reply{}, err
	}
	select {
	case r := <-p.replies:
		if r.Failed {
			return r, errors.New("it could not be looked up")
		}
		return r, nil
	case <-p.ctx.Done():
		return reply{}, context.Cause(p.ctx)
	}
}

// Namespaced implements Cluster.
func (p *parent) Namespaced(apiVersion, kind string) (bool, error) {
	r, err := p.ask(message{Version: apiVersion, Kind: kind})
	return r.Namespaced, err
}

// Find implements Cluster.
func (p *parent) Find(apiVersion, kind, namespace, name string) (map[string]any, error) {
	r, err := p.ask(message{Find: true, Version: apiVersion, Kind: kind, Namespace: namespace, Name: name})
	if err != nil || len(r.Object) == 0 {
		return nil, err
	}
	var found map[string]any
	// As the client of a cluster reads it: whole numbers are int64.
	err = utiljson.Unmarshal(r.Object, &found)
	return found, err
}

// write writes a value with its length before it.
func write(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint64(nil, uint64(len(text))), text...))
	return err
}

// read reads what write has written.
func read(r io.Reader, most uint64, v any) error {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint64(head[:])
	if n > most {
		return apart.ErrAnswer
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(v)
}
