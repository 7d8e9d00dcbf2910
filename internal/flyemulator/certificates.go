package flyemulator

// certificate is one of an app, by its host name.
type certificate struct{}

// dnsTable is what the world's name servers say.
type dnsTable map[string][]string

func (e *Emulator) certificateRoutes() []route { return nil }

func (e *Emulator) certificateEvents() map[string]func(event) { return nil }
