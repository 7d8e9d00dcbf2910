package kubernetes

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
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

// A namespace of somebody else's is looked at in every round: nothing tells when
// it goes. One of ours is watched over.
func TestFollowsNamespaces(t *testing.T) {
	b := newBed(t)
	p := NewNamespaces(b.clusters).(*Namespaces)
	theirs := forge.Resource{ID: forge.ID{Environment: "prod", Kind: forge.KindNamespace, Name: b.Namespace}, Target: b.Target(), Spec: forge.NamespaceSpec{Name: b.Namespace, Create: true}}
	if _, steps := plan(t, p, reconcile.Request{Resource: theirs}); len(steps) != 0 {
		t.Fatalf("planned %v", steps)
	}
	if p.Follows(theirs) {
		t.Error("nobody tells when it goes, and it is called followed")
	}
	ours := theirs
	ours.ID.Name, ours.Spec = b.Namespace+"-own", forge.NamespaceSpec{Name: b.Namespace + "-own", Create: true}
	do(t, p, reconcile.Request{Resource: ours}, reconcile.ActionCreate, reconcile.ReasonAbsent)
	if !p.Follows(ours) {
		t.Error("ours is not followed")
	}
	if err := b.Client.CoreV1().Namespaces().Delete(t.Context(), b.Namespace+"-own", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
