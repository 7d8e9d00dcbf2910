package flyemulator

import "context"

// Guest is what really runs in machines, where a test needs more than a
// Program.
type Guest interface {
	// Exec runs a command in a machine. false: it is answered as the Program
	// says.
	Exec(ctx context.Context, app, machine string, command []string, stdin string) (GuestAnswer, bool)
	// Check is what a check of a machine says. false: it is as the Program says.
	// It is called while the emulator waits.
	Check(machine, check string) (output string, passing, ok bool)
}

// GuestAnswer is what a command in a machine answers.
type GuestAnswer struct {
	Stdout, Stderr string
	Code           int
}

// execGuest gives the lock up: what is real takes its time.
func (c *call) execGuest(machine string, command []string, stdin string) (GuestAnswer, bool) {
	guest, app := c.e.o.Guest, c.appName()
	if guest == nil {
		return GuestAnswer{}, false
	}
	c.e.mu.Unlock()
	defer c.e.mu.Lock()
	return guest.Exec(c.r.Context(), app, machine, command, stdin)
}
