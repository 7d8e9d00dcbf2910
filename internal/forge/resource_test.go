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

// What was left bears the place in its name, and is found by the name it had.
func TestHomeOfWhatWasLeft(t *testing.T) {
	app := ID{"prod", KindRelease, "app@us"}
	for _, at := range []struct{ namespace, cluster, name string }{
		{"shop", "", "app@us@@shop"}, {"shop", "old", "app@us@@shop@old"}, {"shop", "arn:aws:eks:us-east-1:1:cluster/a@b", "app@us@@shop@arn:aws:eks:us-east-1:1:cluster/a@b"},
	} {
		left := app.LeftIn(at.namespace, at.cluster)
		if left.Name != at.name {
			t.Errorf("%s, want %s", left.Name, at.name)
		}
		if home, namespace, cluster, ok := left.Home(); home != app || namespace != at.namespace || cluster != at.cluster || !ok {
			t.Errorf("%s is of %s, left in %q of %q, %t", left, home, namespace, cluster, ok)
		}
	}
	if home, namespace, cluster, ok := app.Home(); home != app || namespace != "" || cluster != "" || ok {
		t.Errorf("%s was left in %q of %q, %t", home, namespace, cluster, ok)
	}
}
