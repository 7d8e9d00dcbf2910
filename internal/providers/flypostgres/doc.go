// Package flypostgres provides PostgreSQL on Fly: clusters of Managed Postgres,
// and those that run as an app of Fly's postgres-flex.
package flypostgres
