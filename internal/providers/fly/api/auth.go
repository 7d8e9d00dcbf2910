package api

import (
	"errors"
	"slices"
	"strings"

	"forged.dev/forged/internal/secret"
)

// service is one of Fly's.
type service int

const (
	machines service = iota
	graphQL
	ui
	prometheus
	services int = iota
)

// tokenPieces takes a token apart: Fly's are lists, and what is printed carries
// the scheme of the header.
func tokenPieces(token secret.Value) ([]string, error) {
	text := strings.TrimSpace(string(token.Reveal()))
	scheme, rest, _ := strings.Cut(text, " ")
	if strings.EqualFold(scheme, "FlyV1") || strings.EqualFold(scheme, "Bearer") {
		text = rest
	}
	var pieces []string
	for piece := range strings.SplitSeq(text, ",") {
		piece = strings.TrimSpace(piece)
		if piece == "" {
			continue
		}
		for _, r := range piece {
			if r <= ' ' || r > '~' {
				return nil, errors.New("the token for Fly holds a character that no token has: give what `fly tokens create` prints, in one line")
			}
		}
		pieces = append(pieces, piece)
	}
	if len(pieces) == 0 {
		return nil, errors.New("the token for Fly is empty: give what `fly tokens create org` prints")
	}
	return pieces, nil
}

// isMacaroon tells a macaroon from the token of a person.
func isMacaroon(piece string) bool {
	return strings.HasPrefix(piece, "fm1r_") || strings.HasPrefix(piece, "fm1a_") || strings.HasPrefix(piece, "fm2_")
}

// authorization is the header that a service wants (flyctl's source; the
// documents name Bearer only, which one token may use everywhere).
func authorization(s service, pieces []string) string {
	ours := slices.Clone(pieces)
	if s == ui {
		return "Bearer " + strings.Join(ours, ",")
	}
	if !slices.ContainsFunc(ours, isMacaroon) {
		return "Bearer " + ours[0]
	}
	if s != graphQL { // which takes both kinds
		ours = slices.DeleteFunc(ours, func(p string) bool { return !isMacaroon(p) })
	}
	return "FlyV1 " + strings.Join(ours, ",")
}
