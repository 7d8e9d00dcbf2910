package fly_test

import (
	"log/slog"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
)

// One listing that fails for long says nothing of what it tells of, although the
// others go on: that is looked at by itself. It is told once, and so is its end.
func TestOneListingThatFails(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		var log journal
		a := r.forged(func(o *fly.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		w := r.watch(a, forge.KindFlySecrets)
		org, err := a.Open(t.Context(), r.Account())
		r.must(err)
		r.MakeApp("one")
		r.MakeMachine("one", nil)
		secrets := &thing{id: numbered(1), topic: fly.Topic{App: "one", Section: fly.SectionSecrets}}
		machines := &thing{id: numbered(2), topic: fly.Topic{App: "one", Section: fly.SectionMachines}}
		for _, th := range []*thing{secrets, machines} {
			a.Follow(th.id, r.Account(), th.topic)
		}
		for range 20 {
			time.Sleep(time.Minute)
			r.read(org, secrets)
			r.read(org, machines)
		}
		if !a.Follows(secrets.id) || !a.Follows(machines.id) {
			t.Fatal("not followed")
		}
		w.take()
		mend := r.Fault(flyemulator.Fault{Body: "Digest", Status: 500, Text: "boom"})
		time.Sleep(10 * time.Minute)
		if a.Follows(secrets.id) {
			t.Error("followed by a listing that fails")
		}
		if w.take()[secrets.id] == 0 {
			t.Error("nobody is told that it is not followed any more")
		}
		if !a.Follows(machines.id) {
			t.Error("what is listed is not followed any more, since something else is not listed")
		}
		r.set("one", "A", "b")
		before := secrets.reads
		r.read(org, secrets)
		if secrets.reads == before {
			t.Error("what was read before the listing failed is taken for what is there")
		}
		time.Sleep(20 * time.Minute)
		if n := log.count("cannot be listed"); n != 1 {
			t.Errorf("told %d times", n)
		}
		mend()
		time.Sleep(10 * time.Minute)
		if !a.Follows(secrets.id) || w.take()[secrets.id] == 0 || log.count("can be listed again") != 1 {
			t.Errorf("it does not go on: %d", log.count("can be listed again"))
		}
	})
}

// What nobody has followed for a while is read anew: no listing has told of it.
func TestNotFollowedIsReadAnew(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		org, err := a.Open(t.Context(), r.Account())
		r.must(err)
		r.MakeApp("one")
		th := &thing{id: numbered(1), topic: fly.Topic{App: "one", Section: fly.SectionSecrets}}
		other := &thing{id: numbered(2), topic: fly.Topic{App: flytest.Bystander, Section: fly.SectionIPs}}
		for _, th := range []*thing{th, other} {
			a.Follow(th.id, r.Account(), th.topic)
		}
		for range 20 {
			time.Sleep(time.Minute)
			r.read(org, th)
		}
		a.Follow(th.id, r.Account()) // no more
		time.Sleep(5 * time.Minute)
		r.set("one", "A", "b")
		time.Sleep(5 * time.Minute)
		before := th.reads
		r.read(org, th)
		if th.reads == before {
			t.Error("what was read when it was followed is taken for what is there")
		}
	})
}
