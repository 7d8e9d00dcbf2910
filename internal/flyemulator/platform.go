package flyemulator

func (e *Emulator) platformRoutes() []route { return nil }
