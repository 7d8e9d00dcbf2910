package forge

import (
	"encoding/json"
	"testing"
)

// What a record holds is read back, also where nothing is named.
func TestIDsAreReadBack(t *testing.T) {
	for _, want := range []ID{{}, {"prod", KindFlyApp, "shop"}, {"prod", KindDNS, "a/b"}} {
		b, err := json.Marshal(FlyCertificateSpec{AppFrom: Input{From: want}})
		if err != nil {
			t.Fatal(err)
		}
		got := FlyCertificateSpec{AppFrom: Input{From: ID{"x", "y", "z"}}}
		if err := json.Unmarshal(b, &got); err != nil || got.AppFrom.From != want {
			t.Errorf("%v became %v, %v", want, got.AppFrom.From, err)
		}
	}
	for _, text := range []string{"", "prod", "prod/x", "//x", "prod//x", "prod/x/"} {
		if err := new(ID).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is an id", text)
		}
	}
}
