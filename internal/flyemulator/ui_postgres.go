package flyemulator

func (e *Emulator) uiPostgresRoutes() []route { return nil }
