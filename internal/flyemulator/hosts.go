package flyemulator

// host is a computer of Fly's.
type host struct {
	ID     string
	Region string
	Status string // ok, unknown, unreachable
	Full   bool   // takes nothing more
}

// regionState is what was said about a region.
type regionState struct {
	Room   *int // for so many more machines; nil: as many as one likes
	Silent bool // the listings of organizations miss it
}

func (e *Emulator) foundHosts() {}
