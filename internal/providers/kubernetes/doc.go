// Package kubernetes speaks to clusters. It holds one connection, one set of
// watches and one inventory per environment for each cluster, writes only by
// server-side apply under a field manager of its own, and knows drift by one
// comparison: a digest of the fields the API server says are ours.
//
// The digest is made of what the API server returned and compared with what
// it returns later. Values as sent and values as stored are never compared, so
// defaulting, quantity forms and mutating webhooks cannot look like drift.
//
// Two providers live here because they are plain objects: namespaces and
// Secrets. Releases are built on this package elsewhere.
package kubernetes
