// Package fly speaks to organizations on Fly. It holds one client and one
// poller for each, and one inventory for each environment there, which is kept
// on Fly itself and bears the lease that says which forged acts.
//
// Fly has no watches. One listing of all machines of the organization and one
// more request of a rota, every tick, tell what has changed; only what has is
// read by itself. What a digest of a listing says is compared with what the
// same listing said before, and never with anything else.
package fly
