package render

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"forged.dev/forged/internal/apart"
)

// Bounds of what the two processes say to each other, in bytes.
const (
	mostQuestion = 1 << 30
	mostAnswer   = 4 * mostText // all texts, twice, in base64
)

// Child renders in processes of its own. Close it.
type Child struct {
	args   []string // by which this binary calls Serve
	bounds apart.Bounds
	slots  chan struct{}

	spawned func(pid int) // for tests

	mu   sync.Mutex
	idle []*resting
}

// resting is a process that waits for another chart.
type resting struct {
	*apart.Session

	end *time.Timer
}

const (
	// sideBySide is how many charts are rendered at a time: each may take as
	// much memory as it is let.
	sideBySide = 2
	// rest is how long a process waits for another chart. To start one takes
	// longer than to render most charts, and an environment has many; a process
	// that is never used again would hold its memory for nothing.
	rest = 2 * time.Second
	// quick is what a chart takes that leaves nothing behind worth a thought.
	quick = time.Second
)

// NewChild makes a Child.
func NewChild(b apart.Bounds, args ...string) *Child {
	return &Child{args: args, bounds: b.Effective(), slots: make(chan struct{}, sideBySide)}
}

// Bounds are what a rendering may cost.
func (ch *Child) Bounds() apart.Bounds { return ch.bounds }

// Close ends the processes that wait.
func (ch *Child) Close() {
	ch.mu.Lock()
	idle := ch.idle
	ch.idle = nil
	ch.mu.Unlock()
	for _, r := range idle {
		if r.end.Stop() {
			r.Close()
		}
	}
}

// take is a process that waits; nil: none does.
func (ch *Child) take() *apart.Session {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for len(ch.idle) > 0 {
		r := ch.idle[len(ch.idle)-1]
		ch.idle = ch.idle[:len(ch.idle)-1]
		if r.end.Stop() {
			return r.Session
		}
	}
	return nil
}

// put has a process wait.
func (ch *Child) put(s *apart.Session) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	r := &resting{Session: s}
	r.end = time.AfterFunc(rest, func() {
		ch.mu.Lock()
		ch.idle = slices.DeleteFunc(ch.idle, func(o *resting) bool { return o == r })
		ch.mu.Unlock()
		s.Close()
	})
	ch.idle = append(ch.idle, r)
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
	q := question{Input: in, Values: values, Bounds: ch.bounds}
	if s := ch.take(); s != nil {
		out, err := ch.ask(ctx, s, q, c)
		if _, ended := errors.AsType[*apart.EndError](err); !ended {
			return out, err
		}
		// The system may have ended it while it waited.
	}
	if ctx.Err() != nil {
		return Output{}, context.Cause(ctx)
	}
	s, err := apart.Process{Args: ch.args, Bounds: ch.bounds, Started: ch.spawned}.Open()
	if err != nil {
		return Output{}, err
	}
	return ch.ask(ctx, s, q, c)
}

// ask has a child render, and keeps it where nothing speaks against it.
func (ch *Child) ask(ctx context.Context, s *apart.Session, q question, c Cluster) (Output, error) {
	began := time.Now()
	var last message
	var failed error // of c
	err := s.Talk(ctx, func(w io.Writer, r io.Reader) error {
		if err := write(w, q); err != nil {
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
	if err != nil {
		return Output{}, err
	}
	if last.TooSlow || last.TooLarge || time.Since(began) > quick {
		s.Close()
	} else {
		ch.put(s)
	}
	switch {
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

// errGone is what a child ends with that nobody waits for.
var errGone = errors.New("the process that asked is gone")

// Serve is the child's side: it answers the questions on in, one after the
// other, on out. The end of in means that nobody waits for an answer. The caller
// ends the process when Serve returns.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	apart.Volunteer()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Somebody always reads, so that the end of the parent is noticed.
	heard := make(chan json.RawMessage)
	go func() {
		for {
			var text json.RawMessage
			if err := read(in, mostQuestion, &text); err != nil {
				cancel(fmt.Errorf("%w: %w", errGone, err))
				return
			}
			select {
			case heard <- text:
			case <-ctx.Done():
				return
			}
		}
	}()
	p := &parent{ctx: ctx, out: out, heard: heard}
	for answered := 0; ; answered++ {
		text, err := p.hear()
		switch {
		case err != nil && answered > 0:
			return nil // there is nothing left to render
		case err != nil:
			return fmt.Errorf("%w: %w", errNotForPeople, err)
		}
		var q question
		if err = decode(text, &q); err == nil {
			err = apart.Unpack(q.Values, &q.Input.Values)
		}
		if err != nil || len(q.Input.Files) == 0 {
			return fmt.Errorf("%w: it is no question", errNotForPeople)
		}
		m := answerOf(ctx, q, p)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := write(out, m); err != nil || m.TooSlow || m.TooLarge {
			return err // what was begun may still go on
		}
	}
}

// answerOf renders within bounds.
func answerOf(ctx context.Context, q question, p *parent) message {
	undo := apart.Confine(q.Bounds)
	defer undo()
	var output Output
	var failed error
	err := apart.Here(ctx, q.Bounds, func(context.Context) {
		defer func() {
			// Nobody above would stop a panic of a library.
			if what := recover(); what != nil {
				failed = fmt.Errorf("its templates made a library panic: %v", what)
			}
		}()
		output, failed = Here(q.Input, p)
	})
	m := message{Done: true}
	switch {
	case err != nil:
		m.TooSlow, m.TooLarge = errors.Is(err, apart.ErrTime), errors.Is(err, apart.ErrMemory)
	case failed != nil:
		m.Error = failed.Error()
	default:
		m.Texts, m.Heard = raw(output.Texts), output.Heard
		if q.Input.Twice {
			m.Again = raw(output.Again)
		}
	}
	return m
}

// parent is who asks, and the cluster as a child sees it.
type parent struct {
	ctx   context.Context // of the child
	out   io.Writer
	heard <-chan json.RawMessage
}

// hear is what the parent says next.
func (p *parent) hear() (json.RawMessage, error) {
	select {
	case text := <-p.heard:
		return text, nil
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
}

func (p *parent) ask(m message) (r reply, err error) {
	if err := write(p.out, m); err != nil {
		return r, err
	}
	text, err := p.hear()
	if err == nil {
		err = decode(text, &r)
	}
	if err == nil && r.Failed {
		err = errors.New("it could not be looked up")
	}
	return r, err
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
	return decode(text, v)
}

// decode keeps numbers as they are written.
func decode(text []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(v)
}
