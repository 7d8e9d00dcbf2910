package flyemulator

import "time"

// secrets are those of an app.
type secrets struct {
	Version int
}

func (e *Emulator) secretRoutes() []route { return nil }

// seenSecrets are the values that a machine of the app that starts at a time
// gets, and their version: writes are seen Times.SecretsSeen after they were
// made.
func (e *Emulator) seenSecrets(a *app, at time.Time) (values map[string]string, version int) {
	return nil, 0
}
