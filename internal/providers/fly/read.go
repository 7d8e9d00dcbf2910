package fly

import (
	"context"
	"reflect"
	"time"
)

// topic is what is known of a Topic.
type topic struct {
	turn chan struct{} // lock around reads
	held map[reflect.Type]reading

	// Guarded by Org.mu:
	moves   int    // how often it was seen or said to have changed
	print   string // of the listing; meaningful if covered
	covered bool   // a listing tells when it changes
	again   bool   // it has changed: the next listing has it read once more
}

// reading is a value that was read.
type reading struct {
	value any
	at    time.Time // when reading began
	moves int       // of the topic, then
}

// topic finds or begins one. The caller holds mu.
func (o *Org) topic(t Topic) *topic {
	p := o.topics[t]
	if p == nil {
		p = &topic{turn: make(chan struct{}, 1), held: map[reflect.Type]reading{}}
		o.topics[t] = p
	}
	return p
}

// Read returns what read returned last, as long as nothing says that it has
// changed since; reads of a topic wait for each other. There is one value for
// each topic and type. What is read as absent is to be a value, too: an error
// is not kept. The value is shared: nobody changes it.
func Read[T any](ctx context.Context, o *Org, t Topic, read func(context.Context) (T, error)) (T, error) {
	o.mu.Lock()
	p := o.topic(t)
	o.mu.Unlock()
	var zero T
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return zero, Classify("read", t.String(), ctx.Err())
	}
	kind := reflect.TypeFor[T]()
	o.mu.Lock()
	had, fresh := o.current(p, kind)
	begun := reading{at: time.Now(), moves: p.moves}
	o.mu.Unlock()
	if fresh {
		return had.value.(T), nil
	}
	value, err := read(ctx)
	if err != nil {
		return zero, err
	}
	begun.value = value
	o.mu.Lock()
	p.held[kind] = begun
	o.mu.Unlock()
	return value, nil
}

// current is what was read of a topic, if nothing says that it has changed
// since. The caller holds mu.
func (o *Org) current(p *topic, kind reflect.Type) (reading, bool) {
	had, ok := p.held[kind]
	return had, ok && had.moves == p.moves && (p.covered || time.Since(had.at) < o.accounts.tick)
}

// held is what Read would return without asking; false: it would ask.
func held[T any](o *Org, t Topic) (value T, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	had, ok := o.current(o.topic(t), reflect.TypeFor[T]())
	if ok {
		value = had.value.(T)
	}
	return value, ok
}

// Touch says that a topic may have changed, by a write of ours for example:
// what was read of it is read again when it is asked for.
func (o *Org) Touch(topics ...Topic) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range topics {
		o.topic(t).moves++
	}
}
