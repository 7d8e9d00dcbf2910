package kubernetes

import "forged.dev/forged/internal/forge"

// Left is a place where something of an environment was left when forge.cue
// moved it elsewhere.
type Left struct {
	Target     forge.Target `json:"target"`
	Namespace  string       `json:"namespace"`
	ClusterUID string       `json:"clusterUID"`
}
