package flyemulator

// postgresCluster is one of Managed Postgres.
type postgresCluster struct{}

func (e *Emulator) postgresRoutes() []route { return nil }

func (e *Emulator) postgresEvents() map[string]func(event) { return nil }
