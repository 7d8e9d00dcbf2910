package kubernetes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// A Secret that cannot be changed is not deleted to be made anew: pods would
// find none in between, and what was generated would be lost.
func TestSecretThatCannotChangeIsNotDeletedToUpdateIt(t *testing.T) {
	for name, c := range map[string]struct {
		edit string
		ask  func(*forge.SecretObject)
	}{
		"immutable":    {`{"immutable":true}`, func(*forge.SecretObject) {}},
		"another type": {`{}`, func(s *forge.SecretObject) { s.Type = "example.com/other" }},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t)
			ask := func(token string) reconcile.Request {
				v.env["TOKEN"] = canary + token
				app := forge.SecretObject{Name: "app", Entries: []forge.SecretEntry{{Key: "TOKEN", Ref: &forge.SecretRef{Env: "TOKEN"}}, makeUp("made")}}
				if token != "" {
					c.ask(&app)
				}
				return v.request(app)
			}
			do(t, v, ask(""), reconcile.ActionCreate, reconcile.ReasonAbsent)
			before := v.live("app")
			if _, err := v.Client.CoreV1().Secrets(v.Namespace).Patch(t.Context(), "app", merge, []byte(c.edit), metav1.PatchOptions{FieldManager: "person"}); err != nil {
				t.Fatal(err)
			}
			r := ask("2")
			var told []string
			for range 3 {
				o, err := v.Observe(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				steps, err := v.Plan(t.Context(), r, o)
				if err != nil {
					told = append(told, err.Error())
				}
				for _, s := range steps {
					if s.Blocked != "" {
						told = append(told, s.Blocked)
						continue
					}
					if _, err := v.Apply(t.Context(), r, s); err != nil {
						told = append(told, err.Error())
						if kind := reconcile.KindOf(err); kind != reconcile.Invalid && kind != reconcile.Stale {
							t.Errorf("an error of kind %s: %v", kind, err)
						}
					}
				}
			}
			said := strings.Join(told, "\n")
			if !strings.Contains(said, "/app") || !strings.Contains(said, "cannot change on an existing object") {
				t.Errorf("it does not say what is wrong: %q", said)
			}
			if strings.Contains(said, "kubectl") || !strings.Contains(said, "keep a copy") {
				t.Errorf("it advises to delete what was generated: %q", said)
			}
			v.secretFree(said)
			now := v.live("app")
			if now.UID != before.UID || now.Type != corev1.SecretTypeOpaque || string(now.Data["made"]) != string(before.Data["made"]) {
				t.Error("the Secret was made anew")
			}
			for _, request := range v.requests.writes() {
				if strings.HasPrefix(request, "DELETE") {
					t.Errorf("it sent %s", request)
				}
			}
		})
	}
}

// One Secret that cannot be changed keeps no other of the resource from being
// written.
func TestRefusedSecretHoldsUpNoOther(t *testing.T) {
	v := newVault(t)
	ask := func(token string) reconcile.Request {
		v.env["TOKEN"] = canary + token
		entries := []forge.SecretEntry{{Key: "TOKEN", Ref: &forge.SecretRef{Env: "TOKEN"}}}
		return v.request(forge.SecretObject{Name: "app", Entries: entries}, forge.SecretObject{Name: "worker", Entries: entries})
	}
	do(t, v, ask(""), reconcile.ActionCreate, reconcile.ReasonAbsent)
	if _, err := v.Client.CoreV1().Secrets(v.Namespace).Patch(t.Context(), "app", merge, []byte(`{"immutable":true}`), metav1.PatchOptions{FieldManager: "person"}); err != nil {
		t.Fatal(err)
	}
	r := ask("2")
	o, err := v.Observe(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := v.Plan(t.Context(), r, o)
	if err != nil || len(steps) == 0 {
		t.Fatalf("steps %v, err %v", steps, err)
	}
	for _, s := range steps {
		_, err = v.Apply(t.Context(), r, s)
	}
	if reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "/app") {
		t.Errorf("the error %v", err)
	}
	if got := string(v.live("worker").Data["TOKEN"]); got != canary+"2" {
		t.Error("the other Secret was not written")
	}
}
