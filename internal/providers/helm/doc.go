// Package helm is the provider of Helm releases; only what lies in its
// directory imports helm.sh/helm/v3.
//
// What becomes of a release follows from the state it is found in, by one pure
// function (state.go). A chart is rendered once for each change of what goes
// in; plan, objects and Helm's record hold the same bytes (render.go,
// journal.go).
//
// The SDK keeps what it is good at: hooks, history, storage and the lock that
// lies in it, so that `helm history`, `helm rollback` and `helm upgrade` of
// the command line go on working. Its client-side patch is never used: the SDK
// is given a kube client whose Create and Update are server-side applies under
// forged's own field manager (client.go), and which tells hooks from objects
// of the release (hooks.go). One writer then owns each field once, removed
// fields go, and the ownership digest of package kubernetes sees every foreign
// edit.
//
// Between changes of its inputs a release is a set of ordinary objects: a
// drifted object is put back by one server-side apply of that object from the
// stored manifest, without a new revision (heal.go).
package helm
