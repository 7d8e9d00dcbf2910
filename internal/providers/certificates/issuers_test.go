package certificates

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestIssuerBecomesReady(t *testing.T) {
	r := newRig(t)
	r.install("cert-manager")
	defer r.controller(componentDoing, "")()
	spec := issuerSpec(r.Namespace, "Issuer", "letsencrypt")
	spec.Server = "staging"
	req := r.request(forge.KindIssuer, spec)
	r.converge(req)
	raw, err := json.Marshal(r.get(issuersGVR, r.Namespace, "letsencrypt").Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"acme":{"email":"ops@acme.test","privateKeySecretRef":{"name":"letsencrypt-account"},"server":"https://acme-staging-v02.api.letsencrypt.org/directory","solvers":[{"http01":{"ingress":{"ingressClassName":"nginx"}}}]}}`; string(raw) != want {
		t.Errorf("spec %s", raw)
	}
	r.status(issuersGVR, r.Namespace, "letsencrypt", map[string]any{"conditions": conditions([4]string{"Ready", "False", "ErrRegisterACMEAccount", "invalid contact domain"})})
	r.awaitHealth(req, reconcile.Progressing, "ErrRegisterACMEAccount: invalid contact domain")
	r.status(issuersGVR, r.Namespace, "letsencrypt", map[string]any{"conditions": conditions([4]string{"Ready", "True", "ACMEAccountRegistered", "done"})})
	r.awaitHealth(req, reconcile.Ready, "")

	// A person turns it to the wrong server: it is put back.
	patch := `{"spec":{"acme":{"server":"https://acme.example"}}}`
	if _, err := r.in(issuersGVR, r.Namespace).Patch(t.Context(), "letsencrypt", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	r.await(req, "an edit", func(_ reconcile.Observed, steps []reconcile.Step, err error) bool {
		return len(steps) == 1 && !steps[0].Rollout()
	})
	r.converge(req)

	req.Remove = true
	r.converge(req)
	if r.get(issuersGVR, r.Namespace, "letsencrypt") != nil {
		t.Error("it is still there")
	}
}

// An issuer of the whole cluster may be that of several environments, and of
// people who never heard of forged.
func TestClusterIssuerIsShared(t *testing.T) {
	r := newRig(t)
	r.install("cert-manager")
	defer r.controller(componentDoing, "")()
	name := r.Instance
	defer func() {
		_ = r.in(clusterGVR, "").Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
	}()
	first := r.request(forge.KindIssuer, issuerSpec(r.Namespace, "ClusterIssuer", name))
	second := first
	second.Resource.ID.Environment = "staging"
	r.converge(first)
	made := r.get(clusterGVR, "", name)

	// The other environment asks for the same: nothing is to be done.
	if o, steps := r.plan(second); len(steps) > 0 || !o.Exists {
		t.Errorf("steps %v, %+v", steps, o.Health)
	}
	// It asks for another one under the name: neither wins.
	other := issuerSpec(r.Namespace, "ClusterIssuer", name)
	other.Email = "else@acme.test"
	second.Resource.Spec = other
	if err := r.try(second); reconcile.KindOf(err) != reconcile.Conflict || !strings.Contains(err.Error(), "belongs to prod/issuer/app") {
		t.Errorf("error %v", err)
	}

	// It stays when the environment that made it goes: others may need it.
	first.Remove = true
	o, steps := r.plan(first)
	if len(steps) != 1 || steps[0].Deletes != 0 {
		t.Fatalf("steps %v, %+v", steps, o)
	}
	r.converge(first)
	now := r.get(clusterGVR, "", name)
	if now == nil || now.GetUID() != made.GetUID() || now.GetLabels()["forged.dev/instance"] != "" {
		t.Errorf("after the removal: %v", now)
	}

	// One that a person has made as it is asked for is left alone.
	second.Resource.Spec = issuerSpec(r.Namespace, "ClusterIssuer", name)
	r.requests()
	if _, steps := r.plan(second); len(steps) > 0 {
		t.Errorf("steps %v", steps)
	}
}

func TestIssuerThatMustBeThere(t *testing.T) {
	r := newRig(t)
	r.install("cert-manager")
	defer r.controller(componentDoing, "")()
	spec := issuerSpec(r.Namespace, "Issuer", "company-ca")
	spec.Create = false
	req := r.request(forge.KindIssuer, spec)
	r.awaitHealth(req, reconcile.Failed, "Issuer "+r.Namespace+"/company-ca does not exist, and forge.cue says not to make it")
	r.make(issuersGVR, map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": meta(r.Namespace, "company-ca"),
		"spec": map[string]any{"selfSigned": map[string]any{}}, "status": map[string]any{"conditions": conditions([4]string{"Ready", "True", "IsReady", ""})},
	})
	r.awaitHealth(req, reconcile.Ready, "")
}
