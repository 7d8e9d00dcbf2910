package flyemulator

import "encoding/base64"

// Where macaroons say that they are from: what gives a right, and what proves
// that somebody has logged in.
const (
	givesRight = "https://api.fly.io/v1"
	provesUser = "https://api.fly.io/aaa/v1"
)

// macaroon is a token in the form in which Fly gives them out, as the source
// of its package macaroon has it: MessagePack, in base64. Clients look into
// tokens, and flyctl throws those away that it cannot read. The emulator's
// have no caveats, and nobody checks the signature.
func macaroon(location string, kid, random, signature []byte) string {
	b := []byte{0x94}   // a list of four:
	b = append(b, 0x93) // the nonce, which is a list of three,
	b = bin(b, kid)     // who signed,
	b = bin(b, random)  //
	b = append(b, 0xc2) // and that it is no proof of another's;
	b = append(b, 0xd9) // the location,
	b = append(b, byte(len(location)))
	b = append(b, location...)
	b = append(b, 0x90) // no caveats,
	b = bin(b, signature)
	return "fm2_" + base64.StdEncoding.EncodeToString(b)
}

// bin adds bytes, at most 255.
func bin(to, what []byte) []byte {
	to = append(to, 0xc4, byte(len(what)))
	return append(to, what...)
}

// newMacaroon is one that there was not before.
func (e *Emulator) newMacaroon(location string) string {
	return macaroon(location, e.digest("kid")[:16], e.digest("nonce")[:16], e.digest("signature"))
}
