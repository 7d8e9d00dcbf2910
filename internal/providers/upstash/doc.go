// Package upstash provides databases of Upstash for Redis, which Fly sells and
// connects to the private network of an organization.
package upstash
