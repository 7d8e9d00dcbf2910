package render

// OnStart has f called with each process that is started.
func (ch *Child) OnStart(f func(pid int)) { ch.spawned = f }

// KillIdle ends the processes that wait, as the system may.
func (ch *Child) KillIdle() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, r := range ch.idle {
		r.Kill()
	}
}
