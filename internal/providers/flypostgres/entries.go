package flypostgres

import (
	"maps"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
)

// somebody is the writer of what Fly does not say who wrote it.
const somebody = "somebody on Fly"

// madeEntry is the identity of what has none. It is empty until something was
// seen to be there.
const madeEntry = "made"

// verb is what a step does.
type verb string

const (
	doMake   verb = "make"
	doNote   verb = "note" // in the inventory
	doChange verb = "change"
	doDelete verb = "delete"
)

// task is what one step does; it travels in Step.Detail.
type task struct {
	kind string // of an entry
	name string
	do   verb
}

// place is where a database stands.
type place string

const (
	absent  place = "absent"  // there is none, and none is known of
	gone    place = "gone"    // the one that is known of is not there any more
	crowded place = "crowded" // several have its name
	foreign place = "foreign" // it is there, and forged did not make it
	begun   place = "begun"   // it is there, and was asked for by an action that was cut
	known   place = "known"   // it is there, and in the inventory
	used    place = "used"    // it is there, somebody else's, and forge.cue says to use it
)

// entryOf is an entry of a record; nil: there is none.
func entryOf(r fly.Record, kind, name string) *fly.Entry {
	for i, e := range r.Entries {
		if e.Kind == kind && e.Name == name {
			return &r.Entries[i]
		}
	}
	return nil
}

// madeIn tells whether something was made by forged, and was there.
func madeIn(r fly.Record, kind, name string) bool {
	e := entryOf(r, kind, name)
	return e != nil && e.Identity != ""
}

// set writes an entry into a record, in the place of the one of its name.
func set(r *fly.Record, e fly.Entry) {
	if old := entryOf(*r, e.Kind, e.Name); old != nil {
		*old = e
		return
	}
	r.Entries = append(r.Entries, e)
}

// enter notes that something is about to be made.
func enter(r *fly.Record, kind, name string) {
	if entryOf(*r, kind, name) == nil {
		r.Entries = append(r.Entries, fly.Entry{Kind: kind, Name: name})
	}
}

// unset takes an entry out of a record.
func unset(r *fly.Record, kind, name string) {
	r.Entries = slices.DeleteFunc(r.Entries, func(e fly.Entry) bool { return e.Kind == kind && e.Name == name })
}

// waits tells whether something was begun and not seen since.
func waits(r fly.Record) bool {
	return slices.ContainsFunc(r.Entries, func(e fly.Entry) bool { return e.Identity == "" })
}

// copied is a record that may be written to.
func copied(r fly.Record, needs []forge.ID) fly.Record {
	r.Needs, r.Entries, r.Data = needs, slices.Clone(r.Entries), maps.Clone(r.Data)
	if r.Data == nil {
		r.Data = map[string]string{}
	}
	return r
}

// usersOf are the users that are asked for, the app's first.
func usersOf(user string, further []forge.FlyPostgresUser) []string {
	users := []string{user}
	for _, f := range further {
		if !slices.Contains(users, f.Name) {
			users = append(users, f.Name)
		}
	}
	return users
}

// home is a database that is asked for, and whose it is.
type home struct{ database, owner string }

// homesOf are the databases that are asked for, the app's first.
func homesOf(database, user string, further []forge.FlyPostgresUser) []home {
	homes := []home{{database, user}}
	for _, f := range further {
		for _, d := range f.Databases {
			if !slices.ContainsFunc(homes, func(h home) bool { return h.database == d }) {
				homes = append(homes, home{d, f.Name})
			}
		}
	}
	return homes
}

// named are the names of databases.
func named(homes []home) []string {
	var all []string
	for _, h := range homes {
		all = append(all, h.database)
	}
	return all
}

// adopts tells whether a policy takes over what forged did not make.
func adopts(p forge.Policy) bool {
	return p.Adopt == forge.AdoptIfUnowned || p.Adopt == forge.AdoptForce
}
