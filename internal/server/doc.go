// Package server shows what forged does: metrics, health, status and reload
// over one HTTP server, which listens on loopback unless told otherwise.
package server
