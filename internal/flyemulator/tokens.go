package flyemulator

func (e *Emulator) tokenRoutes() []route { return nil }
