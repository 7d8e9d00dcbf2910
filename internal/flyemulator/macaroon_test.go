package flyemulator

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// unpacked reads MessagePack, as far as macaroons need it.
func unpacked(t *testing.T, b *bytes.Buffer) any {
	t.Helper()
	kind, err := b.ReadByte()
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case kind == 0xc4, kind == 0xd9:
		n, err := b.ReadByte()
		if err != nil || b.Len() < int(n) {
			t.Fatalf("%d bytes are missing: %v", n, err)
		}
		return string(b.Next(int(n)))
	case kind == 0xc2, kind == 0xc3:
		return kind == 0xc3
	case kind >= 0x90 && kind <= 0x9f:
		list := []any{}
		for range kind - 0x90 {
			list = append(list, unpacked(t, b))
		}
		return list
	}
	t.Fatalf("%#x is unknown", kind)
	return nil
}

func TestLimitedTokensAreMacaroons(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.graphOK(`mutation($o:ID!){createLimitedAccessToken(input:{name:"t",organizationId:$o,profile:"deploy_organization"}){limitedAccessToken{tokenHeader}}}`, "o", w.orgID("acme"))
		header, _ := v.at("data.createLimitedAccessToken.limitedAccessToken.tokenHeader").(string)
		seen := map[string]bool{}
		for i, token := range strings.Split(strings.TrimPrefix(header, "FlyV1 "), ",") {
			text, ok := strings.CutPrefix(token, "fm2_")
			raw, err := base64.StdEncoding.DecodeString(text)
			if err != nil || !ok {
				w.Fatalf("%q: %v", token, err)
			}
			b := bytes.NewBuffer(raw)
			all, _ := unpacked(w.T, b).([]any)
			if len(all) != 4 || b.Len() != 0 {
				w.Fatalf("a macaroon is four things: %v", all)
			}
			nonce, _ := all[0].([]any)
			if len(nonce) != 3 || len(nonce[0].(string)) != 16 || len(nonce[1].(string)) != 16 || nonce[2] != false {
				w.Errorf("the nonce is %v", nonce)
			}
			if want := []string{givesRight, provesUser}[i]; all[1] != want {
				w.Errorf("the location is %v, want %s", all[1], want)
			}
			if caveats, _ := all[2].([]any); len(caveats) != 0 || len(all[3].(string)) != 32 {
				w.Errorf("caveats %v, signature %q", all[2], all[3])
			}
			seen[token] = true
		}
		if len(seen) != 2 {
			w.Errorf("%d macaroons", len(seen))
		}
	})
}

func TestDefaultTokenIsAMacaroon(t *testing.T) {
	want := macaroon(givesRight, []byte("emulator of Fly 01"), []byte("nothing's secret"), []byte("nobody ever checks this signatur"))
	if DefaultToken != want {
		t.Errorf("DefaultToken is %s, want %s", DefaultToken, want)
	}
}
