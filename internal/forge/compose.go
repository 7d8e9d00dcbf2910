package forge

import "time"

// ComposeSecretsSpec asks for the secrets of a project of Docker Compose, as
// files below the directory of its data that nobody else can read.
//
// Outputs: the checksum of each object.
type ComposeSecretsSpec struct {
	Project string
	DataDir string // the project's own
	Secrets []SecretObject
}

// ComposeProjectSpec asks for a project of Docker Compose. Its services start
// in the order of their needs.
type ComposeProjectSpec struct {
	Project  string
	DataDir  string // the project's own
	Services []ComposeService
	Inputs   []Input // checksums of secrets by name, in Path
}

// ComposeService is one container.
type ComposeService struct {
	Process
	Name        string
	SecretNames []string // objects whose keys become variables
	Files       []ComposeFile
	Mounts      []ComposeMount
	Publish     *ComposePort
	Health      *ComposeHealth // nil: it is well as long as it runs
	Once        bool           // it runs to its end
	Needs       []string       // services that must be well, or at their end, before
	Resources   Resources
	Replicas    int // 0: one
	Drain       time.Duration
}

// ComposeFile is a file in the container: one key of a secret object, or what
// stands in a file beside forge.cue, or a text.
type ComposeFile struct {
	Path   string
	Secret string
	Key    string
	File   string
	Text   string
}

// ComposeMount is a directory below the directory of the data.
type ComposeMount struct{ Dir, Path string }

// ComposePort is a port of this machine.
type ComposePort struct {
	Bind string
	Port int
	To   int
}

// ComposeHealth is how Docker asks a container how it is: a command, or an
// HTTP path that forged asks through the published port.
type ComposeHealth struct {
	Exec     []string
	Path     string
	Port     int
	Startup  time.Duration
	Interval time.Duration
	Timeout  time.Duration
	Failures int
}

func (ComposeSecretsSpec) spec() {}
func (ComposeProjectSpec) spec() {}
