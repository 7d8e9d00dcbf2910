package flyemulator

// policy is a network policy of an app.
type policy struct{}

func (e *Emulator) policyRoutes() []route { return nil }
