package flyemulator

// addOn is an extension: Upstash Redis, Fly Kubernetes.
type addOn struct{}

func (e *Emulator) addOnEvents() map[string]func(event) { return nil }
