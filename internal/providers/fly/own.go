package fly

import (
	"context"
	"errors"
	"strconv"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// identity tells an app from another one that had its name before.
func identity(a api.App) string {
	if a.NumericID != 0 {
		return strconv.FormatInt(a.NumericID, 10)
	}
	return a.ID
}

// lookup is the answer to whose an app is.
type lookup struct {
	app     *api.App // nil: there is none that is the organization's
	foreign bool     // the name is taken in another one
}

// lookup looks for an app. GraphQL would say at once that there is none, but not
// whether the token does not cover it, or somebody else has it: that is no proof.
func (o *Org) lookup(ctx context.Context, name string) (lookup, error) {
	return Read(ctx, o, Topic{App: name, Section: SectionApp}, func(ctx context.Context) (lookup, error) {
		app, err := o.Client().App(ctx, name)
		switch api.KindOf(err) {
		case api.NotFound, api.Gone:
			return lookup{}, nil
		case api.Denied:
			// Somebody else's, or one that the token does not cover: both are
			// said, since Fly does not say which.
			return lookup{foreign: true}, nil
		}
		if err != nil {
			return lookup{}, Classify("read", "app "+name, err)
		}
		if app.Organization.Slug != "" && !o.is(app.Organization.Slug) {
			return lookup{foreign: true}, nil
		}
		return lookup{app: &app}, nil
	})
}

// lacks tells that an app was seen not to be there, and nothing says that it has
// come since. Fly thinks for seconds about each question that concerns an app
// which is missing (measured by users of the API), so what would be in it need
// not be asked for. It costs no request; false: that is not known.
func (o *Org) lacks(app string) bool {
	found, ok := held[lookup](o, Topic{App: app, Section: SectionApp})
	return ok && found.app == nil && !found.foreign
}

// another tells whether somebody has made another app of the name of one that the
// inventory lists: what it has is not forged's to take away.
func (i *Inventory) another(ctx context.Context, app string) (bool, error) {
	listed := i.identityOf(app)
	if listed == "" {
		return false, nil
	}
	i.org.Touch(Topic{App: app, Section: SectionApp})
	found, err := i.org.lookup(ctx, app)
	return err == nil && found.app != nil && identity(*found.app) != listed, err
}

// identityOf is the number of an app as the inventory lists it; empty: it does
// not.
func (i *Inventory) identityOf(app string) string {
	record, _ := i.Record(forge.ID{Environment: i.key.environment, Kind: forge.KindFlyApp, Name: app})
	for _, e := range record.Entries {
		if e.Kind == entryApp && e.Name == app {
			return e.Identity
		}
	}
	return ""
}

// admits is nil if an app is the one that the inventory lists, by the number that
// Fly gave it. Another one may have its name: somebody has deleted ours and made
// theirs, which gets nothing of ours until it is adopted. heals: nothing has
// looked at the app before, since what heals waits for nothing; so it is asked
// for anew.
func (i *Inventory) admits(ctx context.Context, app string, heals bool) error {
	refused := func(why error, hint string) error {
		return &reconcile.Error{Kind: reconcile.Unavailable, Op: "apply", Object: "app " + app, Err: why, Hint: hint}
	}
	if _, listed := i.Record(forge.ID{Environment: i.key.environment, Kind: forge.KindFlyApp, Name: app}); !listed {
		return refused(errors.New("it is not in the inventory, so it is not touched"), "it goes on when forged looks after the app")
	}
	number := i.identityOf(app)
	if number == "" {
		return refused(errors.New("it was not seen to be made, so it is not touched"), "it goes on when the app is there")
	}
	if heals {
		i.org.Touch(Topic{App: app, Section: SectionApp})
	}
	found, err := i.org.lookup(ctx, app)
	switch {
	case err != nil:
		return err
	case found.app == nil:
		return refused(errors.New("it is not there any more"), "it goes on when the app is there")
	case identity(*found.app) != number:
		return refused(errors.New("it is another one than forged made: somebody has made it anew, so it is not touched"), "see what is planned for the app itself")
	}
	return nil
}
