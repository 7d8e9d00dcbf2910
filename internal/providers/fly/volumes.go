package fly

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Kinds of entries of volumes.
const (
	entryVolume  = "volume"
	entryRemoved = "removed" // forged deleted it; Fly may show it for a while
)

// asked and the id of a volume are where the size is kept that forged asked
// for: Fly may have made it larger by itself.
const asked = "asked/"

// OutputVolumes is the output of a fly-volume that names its volumes, in order,
// separated by commas.
const OutputVolumes = "volumes"

// Codes of notices about volumes.
const (
	noticeHost    = "host"    // nobody knows how the machine is that it lies on
	noticeKept    = "kept"    // nobody asks for it any more, and it is not deleted
	noticeDeleted = "deleted" // somebody has deleted it
	noticeLarger  = "larger"  // it is larger than forge.cue says
	noticePlain   = "plain"   // it is not encrypted
)

// NewVolumes makes the provider of kind "fly-volume": the disks of one group of
// machines in one region, which bear one name and are told apart by their ids.
// They can grow. None is ever made twice, and none is deleted that was not
// asked for and confirmed, or that a machine uses.
func NewVolumes(a *Accounts) reconcile.Provider {
	p := &inside{look: lookAtVolumes, place: func(r reconcile.Request) (string, bool) {
		spec, ok := r.Resource.Spec.(forge.FlyVolumeSpec)
		return spec.App, ok
	}}
	p.begin(a, forge.KindFlyVolume, SectionVolumes)
	return p
}

// volumes are those of one group.
type volumes struct {
	within
	spec  forge.FlyVolumeSpec
	noApp bool
	own   []api.Volume // recorded, and there; those that are kept longest first
	free  []api.Volume // of this name in this region, and not recorded; likewise
	lost  []lostVolume // recorded, and not there any more
}

// lostVolume is one that somebody has deleted.
type lostVolume struct {
	id    string
	state string // as far as Fly still tells
}

func lookAtVolumes(ctx context.Context, w within) (sight, error) {
	all, err := listed(ctx, w, func(ctx context.Context) ([]api.Volume, error) { return w.client.Volumes(ctx, w.app) })
	if err != nil {
		return nil, err
	}
	s := &volumes{within: w, spec: w.Request.Resource.Spec.(forge.FlyVolumeSpec), noApp: all.noApp}
	recorded := w.elsewhere(entryVolume)
	for _, e := range w.Record.Entries {
		recorded[e.Identity] = e.Kind
	}
	listed := map[string]bool{}
	for _, v := range all.items {
		listed[v.ID] = true
		w.shown(v.ID)
		switch {
		case recorded[v.ID] == entryRemoved, recorded[v.ID] == entryElsewhere:
		case recorded[v.ID] == entryVolume && v.Deleted():
			s.lost = append(s.lost, lostVolume{v.ID, v.State})
		case recorded[v.ID] == entryVolume:
			s.own = append(s.own, v)
		case v.Name == s.spec.Name && v.Region == s.spec.Region && !v.Deleted():
			s.free = append(s.free, v)
		}
	}
	for _, e := range w.Record.Entries {
		if e.Kind != entryVolume || listed[e.Identity] {
			continue
		}
		if err := s.missing(ctx, e); err != nil {
			return nil, err
		}
	}
	if w.Request.Remove { // what an interrupted action has made goes, too
		s.own = append(s.own, s.claimed()...)
		s.free = nil
	}
	slices.SortFunc(s.own, longestKept)
	slices.SortFunc(s.free, longestKept)
	return s, nil
}

// missing looks for a volume of ours that the listing does not show: that alone
// does not say that it is gone.
func (s *volumes) missing(ctx context.Context, e Entry) error {
	if s.noApp {
		s.lost = append(s.lost, lostVolume{id: e.Identity})
		return nil
	}
	type one struct{ volume *api.Volume }
	topic := Topic{App: s.app, Section: SectionVolumes + "/" + Section(e.Identity)} // no listing tells of it
	if s.Fresh {
		s.Org.Touch(topic)
	}
	held, err := Read(ctx, s.Org, topic, func(ctx context.Context) (one, error) {
		v, err := s.client.Volume(ctx, s.app, e.Identity)
		switch api.KindOf(err) {
		case "":
			return one{&v}, err
		case api.NotFound, api.Gone:
			return one{}, nil
		}
		return one{}, Classify("read", "volume "+e.Identity, err)
	})
	switch {
	case err != nil:
		return err
	case held.volume != nil && !held.volume.Deleted():
		s.own = append(s.own, *held.volume)
	case held.volume != nil:
		s.lost = append(s.lost, lostVolume{e.Identity, held.volume.State})
	case s.young(e.Identity):
		s.own = append(s.own, api.Volume{ID: e.Identity, Name: e.Name, Region: s.spec.Region, SizeGB: s.asked(e.Identity), State: "creating"})
	default:
		s.lost = append(s.lost, lostVolume{id: e.Identity})
	}
	return nil
}

// longestKept orders volumes: those that a machine uses, then by id.
func longestKept(a, b api.Volume) int {
	used := func(v api.Volume) int {
		if v.AttachedMachine == "" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(used(a), used(b)), strings.Compare(a.ID, b.ID))
}

// claimed are the free ones that can only be what an interrupted action has
// made.
func (s *volumes) claimed() []api.Volume {
	return slices.DeleteFunc(slices.Clone(s.free), func(v api.Volume) bool { return !s.claims(entryVolume, v.CreatedAt.Time) })
}

// asked is the size that forged has asked for; 0: none.
func (s *volumes) asked(id string) int {
	n, err := strconv.Atoi(s.Record.Data[asked+id])
	if err != nil {
		return 0
	}
	return n
}

func (s *volumes) place() string { return s.spec.Name + " of app " + s.app + " in " + s.spec.Region }

func volumeObject(v api.Volume) string { return "volume " + v.Name + " " + v.ID }

// observed implements sight.
func (s *volumes) observed() reconcile.Observed {
	o := reconcile.Observed{
		Exists: len(s.own) > 0, Objects: len(s.own), Outputs: reconcile.Outputs{}, Health: reconcile.Health{Status: reconcile.Ready},
	}
	if s.Request.Remove {
		o.Exists = s.Recorded
	}
	ids := make([]string, 0, len(s.own))
	for i, v := range s.own {
		ids = append(ids, v.ID)
		s.remark(&o, i, v)
		switch v.State {
		case "", "created", "hydrating", "extending": // a machine may use it
		default:
			o.Health = reconcile.Health{Status: reconcile.Progressing, Message: volumeObject(v) + " is " + v.State}
		}
	}
	o.Outputs[OutputVolumes] = reconcile.Output{Value: strings.Join(ids[:min(len(ids), s.spec.Count)], ",")}
	if n := len(s.own); n < s.spec.Count && !s.Request.Remove {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: fmt.Sprintf("%d of %d volumes %s are there", n, s.spec.Count, s.place())}
	}
	for _, l := range s.lost {
		text := "it was deleted"
		if l.state != "" && l.state != "destroyed" {
			text = "it is being deleted (" + l.state + ")"
		}
		notice(&o, noticeDeleted, "volume "+l.id, text+" and not by forged; its data can be had for some days: fly volumes snapshots list "+l.id)
	}
	return o
}

// remark tells what a person should know of a volume.
func (s *volumes) remark(o *reconcile.Observed, i int, v api.Volume) {
	object := volumeObject(v)
	switch v.HostStatus {
	case "", "ok":
	default:
		notice(o, noticeHost, object, "the host it lies on is "+v.HostStatus+"; its data is there and nowhere else, so nothing is put in its place")
	}
	if a := s.asked(v.ID); v.SizeGB > s.spec.SizeGB && a <= s.spec.SizeGB && !s.Request.Remove {
		notice(o, noticeLarger, object, fmt.Sprintf("it has %d GB and forge.cue asks for %d; a volume cannot shrink", v.SizeGB, s.spec.SizeGB))
	}
	if v.State == "created" && !v.Encrypted {
		notice(o, noticePlain, object, "it is not encrypted, and cannot be any more; make one of another name and copy the data")
	}
	if i < s.spec.Count || s.Request.Remove {
		return
	}
	switch {
	case v.AttachedMachine != "":
		notice(o, noticeKept, object, "forge.cue asks for fewer; machine "+v.AttachedMachine+" uses it, so it is kept")
	case s.Request.Policy.DestroyData != destroyWithToken:
		notice(o, noticeKept, object, `forge.cue asks for fewer; it is kept, and costs, since policy.destroyData is "never"`)
	}
}

// destroyWithToken is the value of policy.destroyData with which data may be
// destroyed.
const destroyWithToken = "with-token"

func notice(o *reconcile.Observed, code, object, message string) {
	o.Notices = append(o.Notices, reconcile.Notice{Code: code, Object: object, Message: message})
}
