package certificates

import (
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/reconcile"
)

// An issuer is made, and the process dies before that is written down: the next
// one must not take it for somebody else's, and its own note of it for what
// nobody wants any more. Deleting it would take it away from everybody who uses
// it.
func TestIssuerOfCutInstallIsNotDeleted(t *testing.T) {
	r := newRig(t)
	r.install("cert-manager")
	defer r.controller(componentDoing, "")()
	req := r.request(forge.KindIssuer, issuerSpec(r.Namespace, "Issuer", "letsencrypt"))
	r.converge(req)
	made := r.get(issuersGVR, r.Namespace, "letsencrypt")

	// What Begin had written down, and no more.
	l := r.observe(req).Detail.(*objects.Look)
	ref := l.Record.Entries[0].Ref
	announced := kubernetes.Record{ID: l.ID(), Pending: true, Entries: []kubernetes.Entry{{Ref: ref}}}
	if err := l.Inventory.Commit(t.Context(), announced); err != nil {
		t.Fatal(err)
	}
	r.restart()
	_, steps := r.plan(req)
	for _, s := range steps {
		if s.Action == reconcile.ActionDelete {
			t.Errorf("what is wanted is to be deleted: %s", s)
		}
	}
	r.converge(req)
	if live := r.get(issuersGVR, r.Namespace, "letsencrypt"); live == nil || live.GetUID() != made.GetUID() {
		t.Errorf("it was deleted, and perhaps made again: %v", live)
	}
	if o := r.observe(req); o.Detail.(*objects.Look).Record.Entries[0].Baseline.UID != string(made.GetUID()) {
		t.Errorf("it is not ours: %+v", o.Detail.(*objects.Look).Record)
	}
}
