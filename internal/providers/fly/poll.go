package fly

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"forged.dev/forged/internal/providers/fly/api"
)

// polled is what the listings said last.
type polled struct {
	machines map[string]api.OrgMachine // by id
	parts    map[string]*turn          // by name
	others   map[string]bool           // inventories that nobody reads, as far as they were told of
}

// turn is how a part of what is listed stands.
type turn struct {
	at     time.Time // when it was listed last
	failed int       // how often that has failed since it did not
}

// blindAfter so many listings that failed, what was read may have changed
// unseen.
const blindAfter = 3

// partMachines is the part that is listed every tick.
const partMachines = "machines"

func compareTopics(a, b Topic) int {
	return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Section, b.Section))
}

// poll looks at the organization every tick: it lists all machines, and one
// other part of what is followed, in turn. So a quiet tick costs two requests,
// however many apps there are.
func (o *Org) poll(ctx context.Context) {
	timer := time.NewTimer(jittered(o.accounts.tick))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		o.look(ctx)
		timer.Reset(jittered(o.accounts.tick))
	}
}

// jittered keeps those that began together from asking together.
func jittered(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}

// look is one tick.
func (o *Org) look(ctx context.Context) {
	topics := o.accounts.followed(o.key)
	o.abandon(topics)
	if len(topics) == 0 {
		for _, inv := range o.openInventories() {
			inv.doubt() // who looks again reads it again
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	o.run(ctx, part{name: partMachines, topics: of(topics, SectionMachines), list: o.listMachines})
	for _, p := range o.due(o.parts(topics)) {
		o.run(ctx, p)
	}
}

// abandon no longer counts on the listings for what nobody follows any more: no
// listing tells of it.
func (o *Org) abandon(followed []Topic) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for t, p := range o.topics {
		if _, ok := slices.BinarySearchFunc(followed, t, compareTopics); ok {
			continue
		}
		p.covered, p.again = false, false
		maps.DeleteFunc(p.held, func(_ reflect.Type, had reading) bool { return time.Since(had.at) >= o.accounts.tick })
		if len(p.held) == 0 && len(p.turn) == 0 {
			delete(o.topics, t)
		}
	}
}

// part is what one request tells of.
type part struct {
	name   string
	topics []Topic // that are followed
	list   func(context.Context, part) (prints, error)
}

// prints are what a listing says of topics: it is compared with what the same
// listing said before, and never with anything else. What it cannot tell of is
// left out.
type prints map[Topic]string

// of are the topics of some sections.
func of(topics []Topic, sections ...Section) []Topic {
	return slices.DeleteFunc(slices.Clone(topics), func(t Topic) bool { return !slices.Contains(sections, t.Section) })
}

// parts are what the rota goes through: all but the machines.
func (o *Org) parts(topics []Topic) []part {
	var all []part
	add := func(name string, topics []Topic, list func(context.Context, part) (prints, error)) {
		if len(topics) > 0 {
			all = append(all, part{name, topics, list})
		}
	}
	inApps := of(topics, SectionApp, SectionSecrets, SectionIPs, SectionCertificates)
	for n := range slices.Chunk(appsOf(inApps), api.SnapshotSize) {
		add("apps from "+n[0], slices.DeleteFunc(slices.Clone(inApps), func(t Topic) bool { return !slices.Contains(n, t.App) }), o.listApps)
	}
	add("volumes", of(topics, SectionVolumes), o.listVolumes)
	add("postgres", of(topics, SectionPostgres), o.listPostgres)
	add("addons", of(topics, SectionAddOns), o.listAddOns)
	add("clusters", of(topics, SectionClusters), o.listClusters)
	return all
}

// appsOf are the apps of topics, sorted.
func appsOf(topics []Topic) []string {
	apps := map[string]bool{}
	for _, t := range topics {
		apps[t.App] = true
	}
	return slices.Sorted(maps.Keys(apps))
}

// due are the parts whose turn it is: the one that has waited longest, and those
// that no listing has told of yet.
func (o *Org) due(parts []part) []part {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.polled.parts, func(name string, _ *turn) bool {
		return name != partMachines && !slices.ContainsFunc(parts, func(p part) bool { return p.name == name })
	})
	var due []part
	var oldest *part
	for i := range parts {
		p := &parts[i]
		ran := o.polled.parts[p.name]
		switch {
		case ran == nil:
			due = append(due, *p)
		case oldest == nil || ran.at.Before(o.polled.parts[oldest.name].at):
			oldest = p
		}
	}
	if len(due) == 0 && oldest != nil {
		due = append(due, *oldest)
	}
	return due
}

// run takes one listing, and has it known what has changed since the one before.
func (o *Org) run(ctx context.Context, p part) {
	var got prints
	_, err := o.accounts.Open(ctx, o.account) // a token that was refused is read anew
	if err == nil {
		got, err = p.list(ctx, p)
	}
	if o.accounts.ctx.Err() != nil {
		return
	}
	now := time.Now()
	everything := o.accounts.followed(o.key)
	moved := map[Topic]bool{}
	o.mu.Lock()
	if o.polled.parts == nil {
		o.polled.parts = map[string]*turn{}
	}
	listed := o.polled.parts[p.name]
	if listed == nil {
		listed = &turn{}
		o.polled.parts[p.name] = listed
	}
	was := listed.failed
	listed.at, listed.failed = now, 0
	if err != nil {
		listed.failed = was + 1
	}
	// Whatever the listing tells of is looked at when nothing is told of it any
	// more, which says why, and when that is over.
	lost, back := listed.failed == blindAfter, err == nil && was >= blindAfter
	for _, t := range p.topics {
		print, told := got[t]
		if o.compare(o.topic(t), print, told, err, now) {
			moved[t] = true
		}
	}
	if p.name == partMachines {
		p.topics = everything // when not even that is told, nothing is
	}
	if lost || back {
		for _, t := range p.topics {
			moved[t] = true
			o.topic(t).covered = o.topic(t).covered && !lost
		}
	}
	o.mu.Unlock()
	if lost {
		for _, inv := range o.openInventories() {
			inv.doubt()
		}
	}
	if err != nil && was == 0 {
		o.log.WarnContext(ctx, "what has changed on Fly cannot be listed", "part", p.name, "error", Classify("list", o.object(), err))
	} else if err == nil && was > 0 {
		o.log.InfoContext(ctx, "what has changed on Fly can be listed again", "part", p.name)
	}
	o.accounts.tell(o.key, moved, back)
}

// compare judges what a listing that ended now says of a topic. The caller holds
// mu.
func (o *Org) compare(t *topic, print string, told bool, err error, now time.Time) (moved bool) {
	switch {
	case err != nil:
		return false // it says nothing
	case !told:
		t.covered = false
		return false
	case !t.covered:
		// What was read before may have changed before the listing was taken.
		for _, had := range t.held {
			moved = moved || had.moves == t.moves && had.at.Before(now)
		}
		t.covered = true
	case t.print != print:
		// A listing may know of a change before who is asked next.
		moved, t.again = true, true
	case t.again:
		moved, t.again = true, false
	}
	t.print = print
	if moved {
		t.moves++
	}
	return moved
}

// printOf digests anything plain.
func printOf(of any) string {
	b, _ := json.Marshal(of) // plain data: it never fails
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
