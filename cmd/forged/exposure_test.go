package main

import (
	"context"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/sandboxtest"
)

// TestExposureScripts runs testdata/exposure/*.txtar: what a person sees of
// certificates and names. Ways that need the controllers of others are tested
// where a test can play them, beside the provider.
func TestExposureScripts(t *testing.T) {
	cluster := sandboxtest.Cluster(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/exposure",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("KUBECONFIG", cluster.Kubeconfig)
			e.Setenv("INSTANCE", cluster.Instance)
			return expandAll(e.WorkDir, strings.NewReplacer("$CONTEXT", cluster.Context, "$NAMESPACE", cluster.Namespace))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "port": cmdPort, "await": cmdAwait, "fetch": cmdFetch,
			// remove SECRET deletes it as a person would.
			"remove": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(cluster.Client.CoreV1().Secrets(cluster.Namespace).Delete(context.Background(), args[0], metav1.DeleteOptions{}))
			},
		},
	})
}
