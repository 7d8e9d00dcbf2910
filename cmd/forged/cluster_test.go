package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/sandboxtest"
)

// canaries are the secrets of the cluster scripts: by variable, by file, a
// second one that the file is changed to, a password that goes into a URL, and
// one that a person writes. They hold what other encodings change.
var canaries = []string{
	"canary+by/variable=1 %&", "canary+by/file=2 %&", "canary+by/file=3 %&", "canary+in/url=4 %&", "canary+by/hand=5 %&",
}

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
			e.Setenv("REDIS_PASSWORD", canaries[3])
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
			// leak SECRET KEY writes a canary into a Secret as a person would.
			"leak": func(ts *testscript.TestScript, _ bool, args []string) {
				patch := fmt.Appendf(nil, `{"stringData":{%q:%q}}`, args[1], canaries[4])
				_, err := cluster.Client.CoreV1().Secrets(cluster.Namespace).Patch(context.Background(), args[0],
					types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "a-person"})
				ts.Check(err)
			},
			// books FILE writes everything forged keeps in the cluster but Secrets.
			"books": func(ts *testscript.TestScript, _ bool, args []string) {
				text, err := books(cluster)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
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
			for encoding, encoded := range encodings(c) {
				if strings.Contains(text, encoded) {
					ts.Fatalf("%s holds a secret (%s)", name, encoding)
				}
			}
		}
	}
}

// encodings are the forms in which a secret might get out, each of which is
// also found as a part of something longer.
func encodings(c string) map[string]string {
	quoted, err := json.Marshal(c)
	if err != nil {
		panic(err) // a string
	}
	all := map[string]string{
		"plain": c, "beginning": c[:strings.Index(c, " ")], "query": url.QueryEscape(c), "path": url.PathEscape(c),
		"quoted": strings.Trim(fmt.Sprintf("%q", c), `"`), "json": strings.Trim(string(quoted), `"`),
		"hex": hex.EncodeToString([]byte(c)),
	}
	for shift := range 3 {
		// What stands before it moves it against the groups of three bytes.
		for name, coding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := coding.EncodeToString(append(make([]byte, shift), c...))
			all[fmt.Sprintf("%s, %d", name, shift)] = text[4 : len(text)-4]
		}
	}
	return all
}

// TestEncodings: the search for secrets finds them.
func TestEncodings(t *testing.T) {
	c := canaries[0]
	for name, text := range map[string]string{
		"plain": "a " + c, "base64": base64.StdEncoding.EncodeToString([]byte("redis://:" + c + "@host")),
		"shifted": base64.StdEncoding.EncodeToString([]byte("x" + c)), "url": "redis://:" + url.QueryEscape(c) + "@host",
	} {
		found := false
		for _, e := range encodings(c) {
			found = found || strings.Contains(text, e)
		}
		if !found {
			t.Errorf("%s: not found in %s", name, text)
		}
	}
}

// books are what forged and Helm keep in the namespace, unpacked: release
// records, the inventory, events, and all objects but the Secrets that are
// there to hold secrets.
func books(cluster *sandboxtest.Env) (string, error) {
	ctx := context.Background()
	var b strings.Builder
	records, err := cluster.Client.CoreV1().Secrets(cluster.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		return "", err
	}
	if len(records.Items) == 0 {
		return "", errors.New("there are no Helm records to look at")
	}
	for _, s := range records.Items {
		packed, err := base64.StdEncoding.DecodeString(string(s.Data["release"]))
		if err != nil {
			return "", err
		}
		text, err := gunzip(packed)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "== %s %v %v\n%s\n", s.Name, s.Labels, s.Annotations, text)
	}
	maps, err := cluster.Client.CoreV1().ConfigMaps(cluster.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	inventories := 0
	for _, m := range maps.Items {
		for key, packed := range m.BinaryData {
			text, err := gunzip(packed)
			if err != nil {
				return "", err
			}
			inventories++
			fmt.Fprintf(&b, "== %s %s\n%s\n", m.Name, key, text)
		}
	}
	if inventories == 0 {
		return "", errors.New("there is no inventory to look at")
	}
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		return "", err
	}
	for _, gvr := range append(slices.Clone(kept),
		schema.GroupVersionResource{Version: "v1", Resource: "events"}, schema.GroupVersionResource{Version: "v1", Resource: "pods"},
		schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}) {
		if gvr.Resource == "secrets" {
			continue
		}
		list, err := client.Resource(gvr).Namespace(cluster.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		text, err := json.Marshal(list)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "== %s\n%s\n", gvr.Resource, text)
	}
	// Of the Secrets, all but their data: annotations have held secrets before.
	secrets, err := cluster.Client.CoreV1().Secrets(cluster.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, s := range secrets.Items {
		text, err := json.Marshal(s.ObjectMeta)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "== secret\n%s\n", text)
	}
	return b.String(), nil
}

func gunzip(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
