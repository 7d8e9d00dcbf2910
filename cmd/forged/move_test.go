package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// cmdCluster is a namespace of a cluster for a script:
//
//	cluster up            $CONTEXT of $KUBECONFIG, and $NAMESPACE in it, which is not there yet
//	cluster fill FILE...  writes $NAME, $CONTEXT and $NAMESPACE into files
//	cluster holds         what runs in the namespace, and what holds data
func cmdCluster(ts *testscript.TestScript, neg bool, args []string) {
	at := ts.Value(clusterValue{}).(*clusterPlace)
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: cluster up, cluster fill FILE..., or cluster holds")
	case args[0] == "up":
		at.Env = sandboxtest.Cluster(at.t)
		ts.Setenv("KUBECONFIG", at.Kubeconfig)
		ts.Setenv("CONTEXT", at.Context)
		ts.Setenv("NAMESPACE", at.Namespace)
	case args[0] == "fill":
		for _, file := range args[1:] {
			text := strings.NewReplacer("$NAMESPACE", at.Namespace, "$CONTEXT", at.Context, "$NAME", ts.Getenv("NAME")).Replace(ts.ReadFile(file))
			ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
		}
	case args[0] == "holds":
		all, err := at.holds(context.Background())
		ts.Check(err)
		_, err = ts.Stdout().Write([]byte(strings.Join(all, "\n") + "\n"))
		ts.Check(err)
	default:
		ts.Fatalf("unknown: cluster %s", strings.Join(args, " "))
	}
}

// clusterPlace is where a script keeps its namespace.
type clusterPlace struct {
	t testing.TB
	*sandboxtest.Env
}

type clusterValue struct{}

// holds lists what runs in the namespace, and what holds data, with what tells
// one from another of its name.
func (p *clusterPlace) holds(ctx context.Context) (all []string, err error) {
	deployments, err := p.Client.AppsV1().Deployments(p.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, o := range deployments.Items {
		all = append(all, "Deployment "+o.Name+" "+string(o.UID))
	}
	sets, err := p.Client.AppsV1().StatefulSets(p.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, o := range sets.Items {
		all = append(all, "StatefulSet "+o.Name+" "+string(o.UID))
	}
	claims, err := p.Client.CoreV1().PersistentVolumeClaims(p.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, o := range claims.Items {
		all = append(all, "PersistentVolumeClaim "+o.Name+" "+string(o.UID))
	}
	secrets, err := p.Client.CoreV1().Secrets(p.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, o := range secrets.Items {
		if !strings.HasPrefix(o.Name, "sh.helm.") {
			all = append(all, "Secret "+o.Name+" "+string(o.UID))
		}
	}
	slices.Sort(all)
	return all, nil
}

// What stands where an environment was before is told by its place, with what to
// do; that nothing is there any more is told as well.
func TestPlanOfWhatWasLeft(t *testing.T) {
	old := reconcile.Place{Cluster: "old", Namespace: "shop"}
	left := func(kind, name string) reconcile.Item {
		return reconcile.Item{ID: forge.ID{Environment: "prod", Kind: kind, Name: name}.LeftIn("shop", "old"), Left: &old, Remove: true, Exists: true}
	}
	kept, gone, lost := left("release", "app"), left("release", "app"), left("namespace", "shop")
	kept.Kept = "policy.prune is none"
	// The old context leads to the cluster where the environment is now.
	here := reconcile.Place{Cluster: "new", Namespace: "shop"}
	moved := reconcile.Item{ID: forge.ID{Environment: "prod", Kind: "release", Name: "app"}.LeftIn("shop", ""), Left: &here, Remove: true, Exists: true}
	stays := moved
	stays.Kept = kept.Kept
	gone.Steps = []reconcile.Step{{ID: gone.ID, Action: reconcile.ActionDelete, Deletes: 1, Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted}}}
	lost.Health.Status, lost.Error = reconcile.Unknown, &reconcile.ErrorStatus{Text: "connect to old: no answer"}
	for name, tt := range map[string]struct {
		env  reconcile.EnvironmentPlan
		want []string
		not  string
	}{
		"kept": {
			reconcile.EnvironmentPlan{Items: []reconcile.Item{kept}},
			[]string{"\nleft in namespace shop of old, where prod was before; data stays there", "\n  release/app  kept: policy.prune is none\n", `policy.prune: "owned" removes it, but for its data; without platform.movedFrom it is left alone for good`, "Nothing to change."},
			"@@",
		},
		"removed": {
			reconcile.EnvironmentPlan{Items: []reconcile.Item{gone}},
			[]string{"\n  release/app\n    - delete prod/release/app: unwanted\n", "it goes after all that is asked for in prod is ready", "Plan: 1 to delete."},
			"@@",
		},
		"lost": {
			reconcile.EnvironmentPlan{Items: []reconcile.Item{lost}},
			[]string{"\n  namespace/shop\n    error: connect to old: no answer\n", "nothing goes that cannot be read", "Could not look at 1 of 1 resource."},
			"@@",
		},
		"kept in the same cluster": {
			reconcile.EnvironmentPlan{Items: []reconcile.Item{stays}},
			[]string{"\nleft in namespace shop of new, where prod was before", `policy.prune: "owned" removes it, but for its data`, "Nothing to change."},
			"movedFrom",
		},
		"removed in the same cluster": {
			reconcile.EnvironmentPlan{Items: []reconcile.Item{moved}},
			[]string{"\nleft in namespace shop of new, where prod was before", "it goes after all that is asked for in prod is ready"},
			"movedFrom",
		},
		"nothing":       {reconcile.EnvironmentPlan{}, []string{"nothing of prod is in namespace shop of old: if it was there, platform.movedFrom can be taken"}, "left in"},
		"not known":     {reconcile.EnvironmentPlan{Error: &reconcile.ErrorStatus{Text: "list: no answer"}}, []string{"error: list: no answer"}, "shop of old"},
		"not looked at": {reconcile.EnvironmentPlan{Mode: forge.ModePaused}, []string{"not looked at"}, "shop of old"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			tt.env.Name, tt.env.Former = "prod", []reconcile.Place{old}
			if err := showPlan(newPrinter(&out), &reconcile.Plan{Environments: []reconcile.EnvironmentPlan{tt.env}}); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), strings.Join(strings.Fields(want), " ")) {
					t.Errorf("want %q in:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), tt.not) {
				t.Errorf("%q in:\n%s", tt.not, out.String())
			}
		})
	}
}
