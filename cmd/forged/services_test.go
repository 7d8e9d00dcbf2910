package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"forged.dev/forged/internal/sandboxtest"
)

// TestServicesScripts runs testdata/services/*.txtar against the real program
// and a real control plane.
func TestServicesScripts(t *testing.T) {
	cluster := sandboxtest.Cluster(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/services",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("KUBECONFIG", cluster.Kubeconfig)
			e.Setenv("INSTANCE", cluster.Instance)
			return expandAll(e.WorkDir, strings.NewReplacer("$CONTEXT", cluster.Context, "$NAMESPACE", cluster.Namespace))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "changed": cmdChanged,
			// made FILE writes which version of everything is in the cluster.
			"made": func(ts *testscript.TestScript, _ bool, args []string) {
				text, err := made(cluster)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
			},
		},
	})
}
