package compile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
)

// Where an environment was before is nothing that it asks for.
func TestFormer(t *testing.T) {
	env := forge.Environment{Name: "prod", Platform: forge.Platform{Kind: forge.PlatformFKS}}
	if got := compile.Former(env); got != nil {
		t.Errorf("moved from nowhere: %+v", got)
	}
	env.Platform.MovedFrom = &forge.Former{Context: "old", Kubeconfig: "k", Impersonate: "me", Namespace: "shop"}
	want := []forge.Resource{{
		ID:     forge.ID{Environment: "prod", Kind: forge.KindNamespace, Name: "shop@@shop@old"},
		Target: forge.Target{Context: "old", Kubeconfig: "k", Impersonate: "me"},
		Spec:   forge.FormerSpec{Namespace: "shop"},
	}}
	if diff := cmp.Diff(want, compile.Former(env)); diff != "" {
		t.Errorf("former place (-want +got):\n%s", diff)
	}
	for _, before := range matrix(t) {
		if !before.Platform.OnKubernetes() {
			continue
		}
		after := before
		after.Platform.MovedFrom = env.Platform.MovedFrom
		asked, err := compile.Environment(before)
		if err != nil {
			t.Fatal(err)
		}
		moved, err := compile.Environment(after)
		if diff := cmp.Diff(asked, moved); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	}
}
