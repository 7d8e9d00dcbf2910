package flyemulator

// console is what only GraphQL and the console's API know.
type console struct{}

// release is one of an app, as the console lists it.
type release struct{}

func (e *Emulator) uiRoutes() []route { return nil }
