package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
