// Package external looks after services that somebody else runs: PostgreSQL,
// Redis and Temporal outside of what forged makes.
//
// [Checks] asks them whether they answer and let the app in, and says what is
// wrong with them and what to do. It changes nothing, and asks rarely: the
// answer is kept, and asked for again after five minutes, or sooner while it
// is a bad one.
//
// [Roles] makes roles, databases and rights in a PostgreSQL, and keeps them. It
// never drops anything.
//
// A service's URL is a secret. What is told of it are host, port, role and
// database, never its password or what stands behind its question mark.
package external
