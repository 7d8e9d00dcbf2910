package fly_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// A certificate in a file is renewed by somebody who tells nobody: it is looked
// at in every round.
func TestCertificateInAFileIsNotFollowed(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		p := fly.NewCertificates(a, nil).(reconcile.Follower)
		inFile := r.certificate("", "")
		spec := inFile.Spec.(forge.FlyCertificateSpec)
		spec.Chain, spec.Key = forge.SecretRef{File: "chain.pem"}, forge.SecretRef{File: "key.pem"}
		inFile.Spec = spec
		fetched := r.certificate("", "")
		fetched.Spec = forge.FlyCertificateSpec{Account: r.Account(), App: flytest.App, Hostname: host}
		_, err := a.Open(t.Context(), r.Account())
		r.must(err)
		a.Follow(inFile.ID, r.Account(), fly.Topic{App: flytest.App, Section: fly.SectionCertificates})
		time.Sleep(5 * time.Minute)
		if !p.Follows(fetched) || p.Follows(inFile) {
			t.Errorf("fetched %t, in a file %t", p.Follows(fetched), p.Follows(inFile))
		}
	})
}
