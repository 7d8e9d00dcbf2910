package flyemulator

func (e *Emulator) prometheusRoutes() []route { return nil }
