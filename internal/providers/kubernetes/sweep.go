package kubernetes

// sweep ends watches that nobody needs any more, and forgets what was noted of
// objects that are nobody's: a process lives for months, and kinds and Jobs come
// and go. What is still wanted of it is found out again. It is called now and
// then; what was used since the last time is left for the next.
func (c *Cluster) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, w := range c.watches {
		if !w.used && !c.watchServes(w) {
			c.endWatch(key, w)
		}
		w.used = false
	}
	for ref, own := range c.own {
		switch {
		case own.inFlight > 0 || c.index[ref] != nil:
			own.old = false
		case own.old:
			delete(c.own, ref)
		default:
			own.old = true
		}
	}
	for ref := range c.lenses {
		if c.index[ref] == nil && c.own[ref] == nil {
			delete(c.lenses, ref)
		}
	}
	for ref := range c.completed {
		if c.index[ref] == nil {
			delete(c.completed, ref)
		}
	}
	for ref := range c.verdicts {
		if c.index[ref] == nil {
			delete(c.verdicts, ref)
		}
	}
}

// watchServes tells whether anything in a watch is owned. The caller holds c.mu.
func (c *Cluster) watchServes(w *watch) bool {
	for ref := range c.index {
		if w.shows(ref) {
			return true
		}
	}
	return false
}
