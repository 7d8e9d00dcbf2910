package flyemulator

import "time"

// volume is a disk of an app. It lies on one host.
type volume struct {
	ID        string
	Name      string
	Region    string
	Host      string // id of the host; its zone is told, not its id
	State     string
	SizeGB    int
	Encrypted bool
	Created   time.Time
	Machine   string    // that it is attached to
	BoundTo   string    // machine that was destroyed, and holds it still
	BoundTill time.Time // with BoundTo
}

func (e *Emulator) volumeRoutes() []route { return nil }

func (e *Emulator) volumeEvents() map[string]func(event) { return nil }

// orgVolumeRow is a row of the listing of an organization's volumes.
func (e *Emulator) orgVolumeRow(a *app, v *volume) any { return nil }
