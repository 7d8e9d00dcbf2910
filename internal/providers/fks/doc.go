// Package fks provides clusters of Fly Kubernetes: the cluster itself, which is
// an add-on of an organization on Fly, the way into it, and the form of what is
// to run there.
//
// The kubeconfig that Fly gives out has flyctl make a token every hour. That is
// done here, by the same request; neither the token nor the kubeconfig is ever
// written to a file.
package fks
