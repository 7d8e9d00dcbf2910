package kubernetes

import (
	"testing"

	"forged.dev/forged/internal/forge"
)

// What is not connected, or does not answer, may have changed without a word.
func TestFollows(t *testing.T) {
	b, line := through(t)
	target := b.Target()
	if NewClusters(Options{}).Follows(target) {
		t.Error("a target that nobody has connected to is followed")
	}
	obj := b.configMap("c", `{a: "1"}`)
	b.own(releaseID("a"), obj)
	b.still(releaseID("a"), "at first")
	if !b.clusters.Follows(target) {
		t.Error("a target with all its watches is not followed")
	}
	back := line.away()
	if _, err := b.c.Get(t.Context(), RefOf(obj)); err == nil {
		t.Error("it answers")
	}
	if b.clusters.Follows(target) {
		t.Error("a target that does not answer is followed")
	}
	back()
	b.await("it to be followed again", func() bool {
		_, err := b.c.Get(t.Context(), RefOf(obj))
		return err == nil && b.clusters.Follows(target)
	})
}

// A value that can change without a word is asked for in every round.
func TestFollowsSecrets(t *testing.T) {
	b := newBed(t)
	p := &Secrets{clusters: b.clusters}
	for _, c := range []struct {
		name string
		ref  forge.SecretRef
		want bool
	}{
		{"generated", forge.SecretRef{Generate: &forge.Generate{}}, true},
		{"a variable", forge.SecretRef{Env: "TOKEN"}, true},
		{"a Secret, which is watched", forge.SecretRef{Kubernetes: &forge.KubernetesRef{Name: "s", Key: "k"}}, true},
		{"a file", forge.SecretRef{File: "token.txt"}, false},
		{"an encrypted file", forge.SecretRef{SOPS: &forge.SOPSRef{File: "secrets.yaml", Key: "a"}}, false},
		{"a vault", forge.SecretRef{OP: "op://vault/item/field"}, false},
		{"a command", forge.SecretRef{Exec: []string{"pass", "token"}}, false},
	} {
		for part, e := range map[string]forge.SecretEntry{
			"itself": {Key: "k", Ref: &c.ref}, "in a text": {Key: "k", Join: []forge.SecretPart{{Literal: "x"}, {Ref: &c.ref}}},
		} {
			r := forge.Resource{Target: b.Target(), Spec: forge.SecretsSpec{Secrets: []forge.SecretObject{{Name: "s", Entries: []forge.SecretEntry{e}}}}}
			if got := p.Follows(r); got != c.want {
				t.Errorf("%s, %s: %t", c.name, part, got)
			}
		}
	}
}
