// Package helm is the provider of Helm releases, and the only importer of
// helm.sh/helm/v3.
//
// The SDK keeps what it is good at: rendering, history, storage and the lock
// that lies in it, so that `helm history`, `helm rollback` and `helm upgrade`
// of the command line go on working. Its client-side patch is never used: the
// SDK is given a kube client whose Create and Update are server-side applies
// under forged's own field manager (client.go). One writer then owns each
// field once, removed fields go, and the ownership digest of package
// kubernetes sees every foreign edit.
//
// Between changes of its inputs a release is a set of ordinary objects: a
// drifted object is put back by one server-side apply of that object from the
// stored manifest, without a new revision.
package helm
