package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret/sopstest"
)

// TestSecretScripts runs testdata/secrets/*.txtar: secrets from everywhere,
// the real program, a real control plane, and files that SOPS has encrypted.
func TestSecretScripts(t *testing.T) {
	cluster := sandboxtest.Cluster(t)
	cluster.CreateNamespace(t)
	api := cluster.Client.CoreV1().Secrets(cluster.Namespace)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/secrets",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			identity, recipient := sopstest.Key(t)
			encrypted := func(name, password string) error {
				onlyPassword := func(m *sops.Metadata) { m.UnencryptedSuffix, m.EncryptedRegex = "", "^password$" }
				text := sopstest.Encrypt(t, name, "host: db\npassword: "+password+"\n", onlyPassword, recipient)
				return os.WriteFile(filepath.Join(e.WorkDir, name), text, 0o600)
			}
			if err := errors.Join(encrypted("partly.yaml", "s3cret"), encrypted("partly2.yaml", "s3cret-2")); err != nil {
				return err
			}
			e.Setenv("KUBECONFIG", cluster.Kubeconfig)
			e.Setenv("INSTANCE", cluster.Instance)
			e.Setenv("NAMESPACE", cluster.Namespace)
			e.Setenv("SOPS_AGE_KEY", identity)
			e.Setenv("PATH", e.WorkDir+"/bin"+string(os.PathListSeparator)+e.Getenv("PATH"))
			return expandAll(e.WorkDir, strings.NewReplacer("$CONTEXT", cluster.Context, "$NAMESPACE", cluster.Namespace))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "port": cmdPort, "await": cmdAwait,
			// give SECRET KEY VALUE makes a Secret hold just this.
			"give": func(ts *testscript.TestScript, _ bool, args []string) {
				s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Data: map[string][]byte{args[1]: []byte(args[2])}}
				_, err := api.Update(context.Background(), s, metav1.UpdateOptions{})
				if apierrors.IsNotFound(err) {
					_, err = api.Create(context.Background(), s, metav1.CreateOptions{})
				}
				ts.Check(err)
			},
			// stored SECRET KEY VALUE waits until a value is in the cluster.
			"stored": func(ts *testscript.TestScript, _ bool, args []string) {
				ctx, cancel := context.WithTimeout(context.Background(), awaitLimit)
				defer cancel()
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					s, err := api.Get(ctx, args[0], metav1.GetOptions{})
					if err == nil && string(s.Data[args[1]]) == args[2] {
						return
					}
					select {
					case <-tick.C:
					case <-ctx.Done():
						ts.Fatalf("key %s of secret %s is something else (%v)", args[1], args[0], err)
					}
				}
			},
			"runnable": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, name := range args {
					ts.Check(os.Chmod(ts.MkAbs(name), 0o700))
				}
			},
		},
	})
}
