package flyemulator

// listing is what an organization's listing said last.
type listing struct{}

func (e *Emulator) orgRoutes() []route { return nil }
