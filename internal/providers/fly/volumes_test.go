package fly_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// disks are the volumes of the app that are not deleted, by id.
func (r *rig) disks() []api.Volume {
	r.t.Helper()
	time.Sleep(2 * time.Second) // until a listing shows what is new
	list, err := r.Somebody.Volumes(r.t.Context(), flytest.App)
	r.must(err)
	list = slices.DeleteFunc(list, api.Volume.Deleted)
	slices.SortFunc(list, func(a, b api.Volume) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// want are how large the volumes are.
func (r *rig) wantDisks(sizes ...int) []api.Volume {
	r.t.Helper()
	list := r.disks()
	var got []int
	for _, v := range list {
		got = append(got, v.SizeGB)
	}
	slices.Sort(got)
	if !slices.Equal(got, sizes) {
		r.t.Errorf("volumes of %v GB, want %v", got, sizes)
	}
	return list
}

// attach makes a machine of a volume.
func (r *rig) attach(v api.Volume) {
	r.t.Helper()
	_, err := r.Somebody.CreateMachine(r.t.Context(), flytest.App, api.CreateMachine{
		Region: v.Region, Config: api.MachineConfig{Image: flytest.Image, Mounts: []api.Mount{{Volume: v.ID, Path: "/data"}}},
	})
	r.must(err)
	time.Sleep(time.Minute)
}

func adopting(q *reconcile.Request) { q.Policy.Adopt = forge.AdoptIfUnowned }

func destroying(q *reconcile.Request) { q.Policy.DestroyData = "with-token" }

func TestVolumesAreMadeApartAndGrow(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewVolumes(r.forged())
		r.must(r.apply(t.Context(), p, ask(r.volumes(2, 3))))
		made := r.wantDisks(3, 3)
		if made[0].Zone == made[1].Zone || !made[0].Encrypted || made[0].Region != "fra" || made[0].SnapshotRetention != 5 {
			t.Errorf("made %+v", made)
		}
		if n := r.count("volumes.create", flytest.App); n != 2 {
			t.Errorf("%d requests to make 2", n)
		}
		ids := r.observe(p, ask(r.volumes(2, 3))).Outputs[fly.OutputVolumes].Value
		if ids != made[0].ID+","+made[1].ID {
			t.Errorf("output %q of %s and %s", ids, made[0].ID, made[1].ID)
		}
		r.must(r.apply(t.Context(), p, ask(r.volumes(2, 20))))
		if grown := r.wantDisks(20, 20); grown[0].ID != made[0].ID || grown[1].ID != made[1].ID {
			t.Errorf("others than before: %+v", grown)
		}
	})
}

func TestWhatAVolumeCannotDoIsRefused(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewVolumes(r.forged())
		r.must(r.apply(t.Context(), p, ask(r.volumes(1, 20))))
		moved := r.volumes(1, 20)
		spec := moved.Spec.(forge.FlyVolumeSpec)
		spec.Region = "ams"
		moved.Spec = spec
		for what, want := range map[string]struct {
			r    forge.Resource
			text string
		}{
			"shrink": {r.volumes(1, 5), "it has 20 GB and cannot shrink to 5; write size: \"20Gi\", or make a volume of another name and copy the data"},
			"move":   {moved, "it is in fra and cannot move to ams"},
		} {
			steps := r.planned(p, ask(want.r))
			if len(steps) != 1 || !strings.Contains(steps[0].Blocked, want.text) {
				t.Errorf("%s:\n%s", what, words(steps))
			}
		}
		r.wantDisks(20)

		// One that Fly or a person has made larger is left so, and told.
		_, _, err := r.Somebody.ExtendVolume(t.Context(), flytest.App, r.disks()[0].ID, 30)
		r.must(err)
		p = fly.NewVolumes(r.forged())
		if steps := r.planned(p, ask(r.volumes(1, 20))); len(steps) > 0 {
			t.Errorf("planned:\n%s", words(steps))
		}
		if o := r.observe(p, ask(r.volumes(1, 20))); len(o.Notices) != 1 || o.Notices[0].Code != "larger" {
			t.Errorf("notices %+v", o.Notices)
		}
	})
}

// Fewer are asked for: what is over stays, unless it may be destroyed. One that
// a machine uses stays in any case.
func TestVolumesThatAreOver(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewVolumes(r.forged())
		r.must(r.apply(t.Context(), p, ask(r.volumes(3, 3))))
		all := r.wantDisks(3, 3, 3)
		r.attach(all[2])
		p = fly.NewVolumes(r.forged())
		if steps := r.planned(p, ask(r.volumes(1, 3))); len(steps) > 0 {
			t.Errorf("without permission:\n%s", words(steps))
		}
		if o := r.observe(p, ask(r.volumes(1, 3))); len(o.Notices) != 2 || o.Notices[0].Code != "kept" || o.Outputs[fly.OutputVolumes].Value != all[2].ID {
			t.Errorf("%+v", o)
		}
		q := ask(r.volumes(1, 3), destroying)
		steps := r.planned(p, q)
		if len(steps) != 2 {
			t.Fatalf("planned:\n%s", words(steps))
		}
		for i, s := range steps {
			want := fmt.Sprintf("volume data %s (3 GB, fra)", all[i].ID)
			if !s.Late || s.Deletes != 1 || !slices.Equal(s.Destroys, []string{want}) {
				t.Errorf("step %+v", s)
			}
		}
		r.must(r.apply(t.Context(), p, q))
		if left := r.wantDisks(3); left[0].ID != all[2].ID {
			t.Errorf("the one in use is gone")
		}
		steps = r.planned(p, ask(r.volumes(0, 3), destroying))
		if len(steps) > 0 {
			t.Errorf("one in use:\n%s", words(steps))
		}
		steps = r.planned(p, ask(r.volumes(1, 3), removing))
		if len(steps) != 1 || !strings.Contains(steps[0].Blocked, "uses it") {
			t.Errorf("removal of one in use:\n%s", words(steps))
		}
	})
}

func TestVolumesOfOthers(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		for _, region := range []string{"fra", "ams"} {
			_, err := r.Somebody.CreateVolume(t.Context(), flytest.App, api.CreateVolume{Name: "data", Region: region, SizeGB: 3})
			r.must(err)
		}
		time.Sleep(time.Hour)
		p := fly.NewVolumes(r.forged())
		steps := r.planned(p, ask(r.volumes(1, 3)))
		if len(steps) != 1 || !strings.Contains(steps[0].Blocked, `set policy.adopt to "if-unowned"`) {
			t.Fatalf("planned:\n%s", words(steps))
		}
		r.must(r.apply(t.Context(), p, ask(r.volumes(1, 3), adopting)))
		r.wantDisks(3, 3)
		if steps := r.planned(p, ask(r.volumes(1, 3))); len(steps) > 0 {
			t.Errorf("once it is taken over:\n%s", words(steps))
		}
	})
}

// Whatever becomes of a request to make one, there are never more than were
// asked for.
func TestVolumesAreNotMadeTwice(t *testing.T) {
	for name, fault := range map[string]flyemulator.Fault{
		"the answer is lost":  {Drop: flyemulator.DropAfter},
		"an error after it":   {Status: 502, Commit: true},
		"timed out after it":  {Status: 408, Commit: true},
		"nothing was done":    {Drop: flyemulator.DropBefore},
		"an error before it":  {Status: 503},
		"a slow answer":       {Delay: flyemulator.Duration(29 * time.Second)},
		"no room":             {Status: 422, Text: "could not find a candidate host", Word: "insufficient_capacity"},
		"too many requests":   {Status: 429, Text: "rate limit exceeded"},
		"the second one only": {Drop: flyemulator.DropAfter, Skip: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
				fault.Action, fault.App, fault.Count = "volumes.create", flytest.App, 1
				r.Fault(fault)
				p, q := fly.NewVolumes(r.forged()), ask(r.volumes(3, 3))
				for range 4 {
					if err := r.apply(t.Context(), p, q); err == nil {
						break
					}
				}
				r.wantDisks(3, 3, 3)
				if steps := r.planned(p, q); len(steps) > 0 {
					t.Errorf("still planned:\n%s", words(steps))
				}
			})
		})
	}
}

// A process that ends as soon as it has made one leaves nothing that the next one
// does not find, although no listing shows it at first.
func TestVolumesAfterACrash(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		p, q := fly.NewVolumes(a), ask(r.volumes(2, 3))
		steps := r.planned(p, q)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := p.Apply(ctx, q, steps[0])
			ended <- err
		}()
		for r.count("volumes.create", flytest.App) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		if err := <-ended; err == nil {
			t.Fatal("it was not cut")
		}
		a.Close()
		p = fly.NewVolumes(r.forged())
		r.Fault(flyemulator.Fault{Action: "volumes.list", App: flytest.App, Status: 200, Text: "[]", Count: 2})
		steps = r.planned(p, q)
		if len(steps) != 1 || steps[0].Action != reconcile.ActionRepair {
			t.Errorf("planned:\n%s", words(steps))
		}
		if _, err := p.Apply(t.Context(), q, steps[0]); reconcile.KindOf(err) != reconcile.Stale {
			t.Errorf("error %v", err)
		}
		r.must(r.apply(t.Context(), p, q))
		r.wantDisks(3, 3)
	})
}

// Data that lies on a host that is lost is nowhere else.
func TestVolumesOnALostHost(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p, q := fly.NewVolumes(r.forged()), ask(r.volumes(1, 3))
		r.must(r.apply(t.Context(), p, q))
		id := r.disks()[0].ID
		r.SetHost(flytest.App, id, "unreachable", false)
		defer r.SetHost(flytest.App, id, "ok", false) // the bystander lives there, too
		p = fly.NewVolumes(r.forged())
		if steps := r.planned(p, q); len(steps) > 0 {
			t.Errorf("planned:\n%s", words(steps))
		}
		if o := r.observe(p, q); len(o.Notices) != 1 || o.Notices[0].Code != "host" || !strings.Contains(o.Notices[0].Message, "unreachable") {
			t.Errorf("%+v", o.Notices)
		}
	})
}

// Fly holds a volume for a machine for up to a minute after that is gone.
func TestVolumesThatAreStillBound(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewVolumes(r.forged())
		r.must(r.apply(t.Context(), p, ask(r.volumes(1, 3))))
		r.attach(r.disks()[0])
		r.must(r.Somebody.DestroyMachine(t.Context(), flytest.App, r.disks()[0].AttachedMachine, ""))
		time.Sleep(2 * time.Second)
		p = fly.NewVolumes(r.forged())
		q := ask(r.volumes(1, 3), removing)
		if err := r.apply(t.Context(), p, q); reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "currently bound") {
			t.Errorf("error %v", err)
		}
		r.wantDisks(3)
		time.Sleep(2 * time.Minute)
		r.must(r.apply(t.Context(), p, q))
		r.wantDisks()
	})
}

func TestDeletedVolumesAreToldOf(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p, q := fly.NewVolumes(r.forged()), ask(r.volumes(1, 3))
		r.must(r.apply(t.Context(), p, q))
		id := r.disks()[0].ID
		r.must(r.Somebody.DeleteVolume(t.Context(), flytest.App, id))
		time.Sleep(10 * time.Minute)
		o := r.observe(p, q)
		if len(o.Notices) != 1 || o.Notices[0].Code != "deleted" || !strings.Contains(o.Notices[0].Message, "pending_destroy") {
			t.Errorf("%+v", o.Notices)
		}
		steps := r.planned(p, q)
		if len(steps) != 1 || steps[0].Rollout() || !strings.Contains(steps[0].Reason.Text, id+" is gone with its data; the new one is empty") {
			t.Errorf("planned:\n%s", words(steps))
		}
		r.must(r.apply(t.Context(), p, q))
		r.wantDisks(3)
	})
}

// Fly gives a volume another id when it moves the machine to another host: that
// is no loss, and no second one is made.
func TestVolumesOfAMachineThatWasMoved(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p, q := fly.NewVolumes(r.forged()), ask(r.volumes(1, 3))
		r.must(r.apply(t.Context(), p, q))
		before := r.disks()[0]
		r.attach(before)
		r.Migrate(flytest.App, r.disks()[0].AttachedMachine)
		time.Sleep(10 * time.Minute)
		after := r.disks()[0]
		if after.ID == before.ID {
			t.Fatal("it has the id that it had")
		}
		steps := r.planned(p, q)
		if len(steps) != 1 || steps[0].Rollout() || !strings.Contains(words(steps), "in the place of "+before.ID) {
			t.Errorf("planned:\n%s", words(steps))
		}
		r.must(r.apply(t.Context(), p, q))
		if r.wantDisks(3); r.observe(p, q).Outputs[fly.OutputVolumes].Value != after.ID {
			t.Error("another one is taken")
		}
		if n := r.count("volumes.create", flytest.App); n != 1 {
			t.Errorf("%d were made", n)
		}
	})
}
