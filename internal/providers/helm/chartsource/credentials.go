package chartsource

import (
	"context"
	"fmt"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

type credentials struct{ username, password secret.Value }

func (c credentials) isZero() bool { return c.username.IsZero() && c.password.IsZero() }

// credentials reads the username and the password.
func (s *Source) credentials(ctx context.Context, r Request) (credentials, error) {
	var user credentials
	for _, part := range []struct {
		name string
		ref  forge.SecretRef
		to   *secret.Value
	}{{"username", r.Username, &user.username}, {"password", r.Password, &user.password}} {
		if part.ref.IsZero() {
			continue
		}
		if r.Secret == nil {
			return user, invalid(r.ChartSource, fmt.Errorf("its %s cannot be read here", part.name), "")
		}
		v, err := r.Secret(ctx, part.ref)
		if err != nil {
			if reconcile.KindOf(err) == reconcile.Internal {
				kind := reconcile.Invalid
				if secret.MayPass(err) || secret.Unread(err) {
					kind = reconcile.Unavailable
				}
				err = &reconcile.Error{Kind: kind, Op: "load chart", Object: describe(r.ChartSource), Err: fmt.Errorf("its %s: %w", part.name, err)}
			}
			return user, err
		}
		*part.to = v
	}
	return user, nil
}

// describe names a source for people; nothing secret is in it.
func describe(c forge.ChartSource) string {
	switch c.Kind {
	case kindOCI:
		return c.URL
	case kindRepository:
		return c.Name + " of " + strings.TrimSuffix(c.URL, "/")
	}
	return c.Path
}

func invalid(c forge.ChartSource, err error, hint string) error {
	return &reconcile.Error{Kind: reconcile.Invalid, Op: "load chart", Object: describe(c), Err: err, Hint: hint}
}

func unavailable(c forge.ChartSource, err error) error {
	return &reconcile.Error{Kind: reconcile.Unavailable, Op: "load chart", Object: describe(c), Err: err, Hint: "forged tries again by itself"}
}
