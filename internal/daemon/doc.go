// Package daemon keeps forged alive and its configuration current: it watches
// the files the configuration is made of, loads them again when their content
// changes, keeps the last good configuration in force when they do not load,
// listens to signals and talks to the service manager.
//
// It knows neither the language nor the engine: a [Build] function turns bytes
// into a [Config], and a Config knows how to put itself in force.
package daemon
