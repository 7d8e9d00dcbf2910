// Package sights looks at objects that somebody else writes and that resources
// depend on: whoever needs one is told when it changes. Nothing is polled for,
// and what nobody looks at any more is not watched any more.
package sights
