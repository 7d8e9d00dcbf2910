// Package chartsource loads charts of the user: from a directory or an archive
// of this machine, from an OCI registry, or from a chart repository. It is the
// only place where forged talks to any of them.
//
// A version or a constraint is looked up when it is asked for first, and again
// when the time for it has come; in between the answer stays what it was, so
// that nothing rolls out because somebody else has published something. What
// was loaded is kept in memory, by content, and in a directory if there is one
// that can be written. When a source does not answer, what was loaded from it
// last goes on being used, and says so.
//
// Everything that comes from outside is bounded: answers, archives, what they
// unpack to, and the time all of it takes. Charts are checked against a digest:
// that of the manifest in a registry, that of the archive in a repository.
// There are no keyrings in the language, so provenance files are not read: a
// digest in forge.cue says more, since it allows one archive and no other.
package chartsource
