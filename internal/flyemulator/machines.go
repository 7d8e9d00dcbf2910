package flyemulator

// machine is one of an app.
type machine struct {
	ID string
}

func (e *Emulator) machineRoutes() []route { return nil }

func (e *Emulator) machineEvents() map[string]func(event) { return nil }
