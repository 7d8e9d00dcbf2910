package entries

import (
	"context"
	"errors"
	"fmt"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// UnknownError says that something is made of a value that nobody can tell.
type UnknownError struct{ Slot Slot }

func (e *UnknownError) Error() string {
	return "nobody can tell the value of " + e.Slot.Key + " of " + e.Slot.Object
}

// Piece is what one part of a joined entry comes to.
type Piece struct {
	Slot Slot         // of the entry that it is the value of; zero: of none
	Text secret.Value // as it is joined; zero: there is nothing in it, or nobody can tell
	Open bool         // nobody can tell
}

// Pieces are what an entry is joined from, part by part.
func (l *Reading) Pieces(ctx context.Context, object string, e forge.SecretEntry) ([]Piece, error) {
	pieces := make([]Piece, 0, len(e.Join))
	for _, part := range e.Join {
		piece := Piece{Slot: Slot{part.Secret, part.Key}}
		v, err := l.part(ctx, Slot{object, e.Key}, part)
		var unknown *UnknownError
		switch {
		case errors.As(err, &unknown):
			piece.Open = true
			pieces = append(pieces, piece)
			continue
		case err != nil:
			return nil, err
		}
		if part.Field != "" {
			if v, err = secret.Field(v, part.Field); err != nil {
				return nil, l.Invalid(Slot{object, e.Key}, fmt.Errorf("%s %w", l.describe(part), err))
			}
		}
		if part.URLEscape {
			v = secret.New(appendEscaped(nil, v.Reveal()))
		}
		piece.Text = v
		pieces = append(pieces, piece)
	}
	return pieces, nil
}

// Join puts a text together. It is an UnknownError if nobody can tell all of it.
func (l *Reading) Join(ctx context.Context, object string, e forge.SecretEntry) (secret.Value, error) {
	pieces, err := l.Pieces(ctx, object, e)
	if err != nil {
		return secret.Value{}, err
	}
	var b []byte
	for _, piece := range pieces {
		if piece.Open {
			return secret.Value{}, &UnknownError{piece.Slot}
		}
		b = append(b, piece.Text.Reveal()...)
	}
	if len(b) == 0 {
		return secret.Value{}, l.Invalid(Slot{object, e.Key}, errors.New("it is joined from nothing"))
	}
	return secret.New(b), nil
}

// part is the value of one part, before anything is taken out of it.
func (l *Reading) part(ctx context.Context, slot Slot, part forge.SecretPart) (secret.Value, error) {
	switch {
	case part.Secret != "":
		from := Slot{part.Secret, part.Key}
		v, ok := l.values[from]
		if !ok {
			return v, l.Invalid(slot, fmt.Errorf("it is joined from key %s of %s, which is not a reference of this resource", part.Key, l.places.Object(part.Secret)))
		}
		if v.IsZero() {
			return v, &UnknownError{from}
		}
		return v, nil
	case part.Ref != nil && part.Ref.Generate != nil:
		return secret.Value{}, l.Invalid(slot, errors.New("a part of it is to be generated and has no place of its own"))
	case part.Ref != nil:
		return l.resolve(ctx, slot, *part.Ref, false)
	case part.Output != "":
		out, ok := l.request.Inputs[part.From][part.Output]
		if !ok {
			return secret.Value{}, reconcile.WaitingFor(part.From, part.Output)
		}
		if out.Secret.IsZero() {
			return secret.New([]byte(out.Value)), nil
		}
		return out.Secret, nil
	}
	return secret.New([]byte(part.Literal)), nil
}

// describe names the source of a part for people.
func (l *Reading) describe(part forge.SecretPart) string {
	switch {
	case part.Secret != "":
		return "key " + part.Key + " of " + l.places.Object(part.Secret)
	case part.Ref != nil:
		return l.pass.Describe(*part.Ref)
	case part.Output != "":
		return "output " + part.Output + " of " + part.From.String()
	}
	return "a literal"
}

// appendEscaped percent-encodes all but the unreserved characters of RFC 3986.
// The functions of net/url leave more alone than is safe in a password.
func appendEscaped(b, raw []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range raw {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
