package fly

import (
	"context"
	"errors"
	"maps"
	"time"

	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// AddOnPlace is where an add-on stands.
type AddOnPlace string

// Places of an add-on.
const (
	AddOnAbsent  AddOnPlace = "absent"  // there is none, and none is known of
	AddOnGone    AddOnPlace = "gone"    // the one that is known of is not there any more
	AddOnForeign AddOnPlace = "foreign" // it is there, and forged did not make it
	AddOnBegun   AddOnPlace = "begun"   // it is there, and was asked for by an action that was cut
	AddOnKnown   AddOnPlace = "known"   // it is there, and in the inventory
	AddOnUsed    AddOnPlace = "used"    // it is there, somebody else's, and forge.cue says to use it
)

// dataAsked is the key of when Fly was asked for an add-on last, without an
// answer since.
const dataAsked = "asked"

// addOnClaim so long after it was asked for, what appears under its name is
// somebody else's: by then the request has come to its end. What was made so long
// before is not ours either; the clocks of Fly and of here do not differ so much.
const addOnClaim = 10 * time.Minute

// AddOn is an add-on of an organization as a resource: it is found by its name,
// and asked for once.
type AddOn struct {
	Look
	Section Section // of the listings that tell of it
	Type    string  // api.AddOnRedis
	Entry   string  // kind of its one entry in the inventory, whose identity is empty until it was seen to be there
	Name    string
	Object  string // "redis shop"
	All     string // "the Redis databases"
	Taken   string // what to do when somebody else has the name

	Live  api.AddOn // the other one of its name if the one in the inventory is gone
	There bool      // Live is
}

func (a *AddOn) topic() Topic { return Topic{Section: a.Section} }

// Touch has the add-ons read anew.
func (a *AddOn) Touch() { a.Org.Touch(a.topic()) }

// Find looks for it among all add-ons of its type, which it returns.
func (a *AddOn) Find(ctx context.Context) ([]api.AddOn, error) {
	a.Accounts.Follow(a.ID(), a.Account, a.topic())
	if a.Fresh {
		a.Touch()
	}
	all, err := a.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		switch e := a.Noted(); {
		case e != nil && e.Identity == one.ID:
			a.Live, a.There = one, true
		case one.Name == a.Name && !a.There:
			a.Live, a.There = one, true
		}
	}
	return all, nil
}

func (a *AddOn) list(ctx context.Context) ([]api.AddOn, error) {
	all, err := Read(ctx, a.Org, a.topic(), func(ctx context.Context) ([]api.AddOn, error) {
		return a.Org.Client().AddOns(ctx, a.Org.Slug(), a.Type)
	})
	return all, Classify("list", a.All+" of organization "+a.Org.Slug(), err)
}

// Noted is its entry in the inventory; nil: it has none.
func (a *AddOn) Noted() *Entry {
	for i, e := range a.Record.Entries {
		if e.Kind == a.Entry {
			return &a.Record.Entries[i]
		}
	}
	return nil
}

// Claims tells whether it was made when forged had asked for it, by an action
// that was not seen to end.
func (a *AddOn) Claims() bool {
	asked, err := time.Parse(time.RFC3339, a.Record.Data[dataAsked])
	made := a.Live.CreatedAt
	return err == nil && made.After(asked.Add(-addOnClaim)) && made.Before(asked.Add(addOnClaim))
}

// Standing tells where it stands. create says that forge.cue has forged make it;
// mine, that one that is noted without an identity is the one asked for.
func (a *AddOn) Standing(create, mine bool) AddOnPlace {
	entry := a.Noted()
	switch {
	case entry != nil && entry.Identity != "":
		if a.There && a.Live.ID == entry.Identity {
			return AddOnKnown
		}
		return AddOnGone
	case !a.There:
		return AddOnAbsent
	case entry != nil && mine:
		return AddOnBegun
	case create && !a.Request.Remove:
		return AddOnForeign
	}
	return AddOnUsed
}

// Next is the record as it is to be written.
func (a *AddOn) Next() Record {
	r := a.Record
	r.Needs, r.Data = a.Request.Resource.Needs, maps.Clone(r.Data)
	if r.Data == nil {
		r.Data = map[string]string{}
	}
	return r
}

// Note has a record say which add-on it is, and that nothing is asked for.
func (a *AddOn) Note(r *Record, one api.AddOn) {
	r.Entries = []Entry{{Kind: a.Entry, Name: one.Name, Identity: one.ID}}
	delete(r.Data, dataAsked)
}

// Make asks for it, once: it is written down before that, and looked for when an
// answer was lost. nil: it was not made.
func (a *AddOn) Make(ctx context.Context, r Record, ask api.CreateAddOn) (*api.AddOn, error) {
	const op = "create"
	begun, err := time.Parse(time.RFC3339, r.Data[dataAsked])
	if e := a.Noted(); err == nil && e != nil && e.Identity == "" {
		if found, err := a.lookFor(ctx, begun.Add(Unseen)); err != nil || found != nil {
			return found, err
		}
	}
	org, err := a.Org.Client().Organization(ctx, a.Org.Slug())
	if err != nil {
		return nil, Classify(op, a.Object, err)
	}
	r.Data[dataAsked] = time.Now().UTC().Format(time.RFC3339)
	r.Entries = []Entry{{Kind: a.Entry, Name: a.Name}}
	if err := a.Inventory.Begin(ctx, r); err != nil {
		return nil, err
	}
	ask.Type, ask.OrgID, ask.Name = a.Type, org.ID, a.Name
	made, err := a.Org.Client().CreateAddOn(ctx, ask)
	a.Touch()
	switch api.KindOf(err) {
	case "":
		if err != nil {
			return nil, Classify(op, a.Object, err)
		}
		return &made, nil
	case api.Ambiguous:
		found, again := a.lookFor(ctx, time.Now().Add(Unseen))
		if again == nil && found == nil {
			again = Classify(op, a.Object, err)
		}
		return found, again
	case api.Taken:
		err = &reconcile.Error{Kind: reconcile.Conflict, Op: op, Object: a.Object, Err: err, Hint: a.Taken}
	default:
		err = Classify(op, a.Object, err)
	}
	// Fly has made nothing: nobody need look for it, and what appears under its
	// name is not ours.
	delete(r.Data, dataAsked)
	r.Entries = nil
	return nil, errors.Join(err, a.Inventory.Commit(ctx, r))
}

// lookFor looks for it by its name until a time; nil: there is none.
func (a *AddOn) lookFor(ctx context.Context, until time.Time) (*api.AddOn, error) {
	found, _, err := LookFor(ctx, until, func(ctx context.Context) (*api.AddOn, bool, error) {
		a.Touch()
		all, err := a.list(ctx)
		for _, one := range all {
			if one.Name == a.Name {
				return &one, true, nil
			}
		}
		return nil, false, err
	})
	return found, Classify("look for", a.Object, err)
}
