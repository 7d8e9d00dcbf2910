package flyemulator

func (e *Emulator) graphqlRoutes() []route { return nil }
