package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/sandboxtest"
)

// canaries are the secrets of the cluster scripts: by variable, by file, and a
// second one that the file is changed to. They hold what other encodings change.
var canaries = []string{"canary+by/variable=1 %&", "canary+by/file=2 %&", "canary+by/file=3 %&"}

// TestClusterScripts runs testdata/cluster/*.txtar against the real program and
// a real control plane.
func TestClusterScripts(t *testing.T) {
	cluster := sandboxtest.Cluster(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/cluster",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("KUBECONFIG", cluster.Kubeconfig)
			e.Setenv("INSTANCE", cluster.Instance)
			e.Setenv("PAYMENT_API_KEY", canaries[0])
			return expandAll(e.WorkDir, strings.NewReplacer(
				"$CONTEXT", cluster.Context, "$NAMESPACE", cluster.Namespace,
				"$CANARY_2", canaries[1], "$CANARY_3", canaries[2]))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "port": cmdPort, "await": cmdAwait, "fetch": cmdFetch, "silent": cmdSilent,
			// edit CONFIGMAP KEY VALUE changes a ConfigMap as a person would.
			"edit": func(ts *testscript.TestScript, _ bool, args []string) {
				patch := fmt.Appendf(nil, `{"data":{%q:%q}}`, args[1], args[2])
				_, err := cluster.Client.CoreV1().ConfigMaps(cluster.Namespace).Patch(context.Background(), args[0],
					types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "a-person"})
				ts.Check(err)
			},
			// stored SECRET KEY VALUE wants a value in the cluster.
			"stored": func(ts *testscript.TestScript, _ bool, args []string) {
				s, err := cluster.Client.CoreV1().Secrets(cluster.Namespace).Get(context.Background(), args[0], metav1.GetOptions{})
				ts.Check(err)
				if string(s.Data[args[1]]) != args[2] {
					ts.Fatalf("key %s of secret %s is something else", args[1], args[0])
				}
			},
		},
	})
}

// expandAll replaces variables in the files of a script.
func expandAll(dir string, r *strings.Replacer) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(r.Replace(string(b))), 0o600)
	})
}

// cmdFetch writes what a URL answers into a file: fetch FILE URL
func cmdFetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fetch FILE URL")
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, args[1], nil)
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), body, 0o600))
}

// cmdSilent wants no secret in files, in any encoding: silent FILE...
func cmdSilent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: silent FILE...")
	}
	for _, name := range args {
		text := ts.ReadFile(name)
		if text == "" {
			ts.Fatalf("%s is empty: nothing was looked at", name)
		}
		for _, c := range canaries {
			for encoding, encoded := range map[string]string{
				"plain": c, "base64": base64.StdEncoding.EncodeToString([]byte(c)),
				"query": url.QueryEscape(c), "path": url.PathEscape(c), "quoted": fmt.Sprintf("%q", c),
			} {
				if strings.Contains(text, encoded) {
					ts.Fatalf("%s holds a secret (%s)", name, encoding)
				}
			}
		}
	}
}
