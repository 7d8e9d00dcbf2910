package flyemulator

// ip is an address of an app.
type ip struct{}

func (e *Emulator) ipRoutes() []route { return nil }
