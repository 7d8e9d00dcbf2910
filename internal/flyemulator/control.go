package flyemulator

func (e *Emulator) controlRoutes() []route { return nil }
