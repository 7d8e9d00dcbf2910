package helm

import "testing"

func TestFollows(t *testing.T) {
	r := newRig(t)
	if r.p.Follows(r.request().Resource) {
		t.Error("a release that nobody has looked at is followed")
	}
	r.converge()
	if !r.p.Follows(r.request().Resource) {
		t.Error("a release with all its watches is not followed")
	}
}
