package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/sandboxtest"
)

// kubelets are what the sandbox lacks: they have logs, and their Jobs end as
// the test says. Everything else goes to the API server.
type kubelets struct {
	next http.RoundTripper
	log  string

	mu   sync.Mutex
	life string // of the pods of Jobs that are made: sandbox.forged.dev/pod
}

func (k *kubelets) live(how string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.life = how
}

func (k *kubelets) RoundTrip(r *http.Request) (*http.Response, error) {
	switch k.mu.Lock(); {
	case r.Method == http.MethodGet && path.Base(r.URL.Path) == "log":
		k.mu.Unlock()
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}},
			Body: io.NopCloser(strings.NewReader(k.log)), Request: r, ProtoMajor: 1, ProtoMinor: 1,
		}, nil
	case r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/jobs/") && k.life != "":
		life := k.life
		k.mu.Unlock()
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		var job map[string]any
		if err := json.Unmarshal(raw, &job); err != nil {
			return nil, err
		}
		if err := unstructured.SetNestedField(job, life, "spec", "template", "metadata", "annotations", "sandbox.forged.dev/pod"); err != nil {
			return nil, err
		}
		if raw, err = json.Marshal(job); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		return k.next.RoundTrip(r)
	}
	k.mu.Unlock()
	return k.next.RoundTrip(r)
}

// TestJobScripts runs testdata/jobs/*.txtar against the real program and a real
// control plane.
func TestJobScripts(t *testing.T) {
	cluster := sandboxtest.Cluster(t)
	k := &kubelets{log: "running upgrade 41 -> 42\npsql: password " + canaries[0] + " is wrong\nKeyError: 'revision'\n"}
	direct := cluster.Config.WrapTransport
	cluster.Config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		if direct != nil {
			next = direct(next)
		}
		k.next = next
		return k
	}
	proxy := faultproxy.New(t, cluster.Config)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/jobs",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("KUBECONFIG", proxy.Kubeconfig())
			e.Setenv("INSTANCE", cluster.Instance)
			e.Setenv("PAYMENT_API_KEY", canaries[0])
			return expandAll(e.WorkDir, strings.NewReplacer("$CONTEXT", faultproxy.Context, "$NAMESPACE", cluster.Namespace))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "port": cmdPort, "await": cmdAwait, "silent": cmdSilent,
			// life HOW is what becomes of the pods of Jobs from now on.
			"life": func(_ *testscript.TestScript, _ bool, args []string) { k.live(strings.Join(args, "")) },
			// made FILE writes which version of everything is in the cluster.
			"made": func(ts *testscript.TestScript, _ bool, args []string) {
				text, err := made(cluster)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
			},
			"changed": cmdChanged,
			// retry deletes the Jobs that have failed, as a person does.
			"retry": func(ts *testscript.TestScript, _ bool, _ []string) {
				jobs := cluster.Client.BatchV1().Jobs(cluster.Namespace)
				list, err := jobs.List(context.Background(), metav1.ListOptions{})
				ts.Check(err)
				for _, j := range list.Items {
					if j.Status.Failed > 0 {
						now := metav1.DeletePropagationBackground
						ts.Check(jobs.Delete(context.Background(), j.Name, metav1.DeleteOptions{PropagationPolicy: &now}))
					}
				}
			},
		},
	})
}

// cmdChanged is changed BEFORE AFTER [NAME...]: these lines differ between two
// files of made, and no others.
func cmdChanged(ts *testscript.TestScript, _ bool, args []string) {
	before, after := strings.Split(ts.ReadFile(args[0]), "\n"), strings.Split(ts.ReadFile(args[1]), "\n")
	var got []string
	for _, line := range slices.Concat(before, after) {
		name, _, _ := strings.Cut(line, " ")
		if slices.Contains(before, line) != slices.Contains(after, line) && !slices.Contains(got, name) {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if strings.Join(got, " ") != strings.Join(args[2:], " ") {
		ts.Fatalf("changed: %v, want %v\n%s\n%s", got, args[2:], before, after)
	}
}

// made are the pod templates and Jobs of the namespace, one on a line: a change
// of a line is a restart, or a run.
func made(cluster *sandboxtest.Env) (string, error) {
	ctx := context.Background()
	var lines []string
	deployments, err := cluster.Client.AppsV1().Deployments(cluster.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, d := range deployments.Items {
		template, err := json.Marshal(d.Spec.Template)
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("deployment/%s %x", d.Name, sha256.Sum256(template)))
	}
	sets, err := cluster.Client.AppsV1().StatefulSets(cluster.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, s := range sets.Items {
		template, err := json.Marshal(s.Spec.Template)
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("statefulset/%s %x", s.Name, sha256.Sum256(template)))
	}
	jobs, err := cluster.Client.BatchV1().Jobs(cluster.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, j := range jobs.Items {
		lines = append(lines, fmt.Sprintf("job/%s %s %s", j.Labels["forged.dev/job"], j.UID, j.Spec.Template.Spec.Containers[0].Image))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}
