package main

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/sandboxtest"
)

// shownToken is how the plan shows the token of a step that destroys data.
var shownToken = regexp.MustCompile(`forged approve ([0-9a-f]{12})`)

// TestDataScripts runs testdata/data/*.txtar against the real program and a
// real control plane.
func TestDataScripts(t *testing.T) {
	t.Parallel()
	cluster := sandboxtest.Cluster(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/data",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("KUBECONFIG", cluster.Kubeconfig)
			e.Setenv("INSTANCE", cluster.Instance)
			return expandAll(e.WorkDir, strings.NewReplacer("$CONTEXT", cluster.Context, "$NAMESPACE", cluster.Namespace))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "port": cmdPort, "await": cmdAwait,
			// token NAME takes the token out of what was printed last.
			"token": func(ts *testscript.TestScript, _ bool, args []string) {
				text := strings.Join(strings.Fields(ts.ReadFile("stdout")), " ")
				found := shownToken.FindStringSubmatch(text)
				if found == nil {
					ts.Fatalf("no token is shown")
				}
				ts.Setenv(args[0], found[1])
			},
			// claims NAME... wants these claims in the cluster, and no others.
			"claims": func(ts *testscript.TestScript, _ bool, args []string) {
				list, err := cluster.Client.CoreV1().PersistentVolumeClaims(cluster.Namespace).List(context.Background(), metav1.ListOptions{})
				ts.Check(err)
				var names []string
				for _, claim := range list.Items {
					if claim.DeletionTimestamp == nil {
						names = append(names, claim.Name)
					}
				}
				if strings.Join(names, " ") != strings.Join(args, " ") {
					ts.Fatalf("claims %q, want %q", names, args)
				}
			},
		},
	})
}
