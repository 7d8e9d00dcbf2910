package fly

// Recheck has everything that is followed read again, the inventories included,
// because somebody has asked for that. It waits for nothing.
func (a *Accounts) Recheck() {
	a.mu.Lock()
	var orgs []*Org
	for _, slot := range a.orgs {
		if slot.org != nil {
			orgs = append(orgs, slot.org)
		}
	}
	a.mu.Unlock()
	for _, o := range orgs {
		topics := a.followed(o.key)
		o.Touch(topics...)
		for _, inv := range o.openInventories() {
			inv.doubt()
		}
		changed := make(map[Topic]bool, len(topics))
		for _, t := range topics {
			changed[t] = true
		}
		a.tell(o.key, changed, true)
	}
}
