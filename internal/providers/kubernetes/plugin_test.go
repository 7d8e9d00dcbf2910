package kubernetes

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// A credential plugin that never answers holds up nobody but its own cluster,
// and not for longer than the caller waits.
func TestCredentialPluginThatHangs(t *testing.T) {
	env := sandboxtest.Cluster(t)
	path := kubeconfig(t, env.Kubeconfig, func(c *clientcmdapi.Config) {
		c.AuthInfos["hangs"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", Command: "sleep", Args: []string{"6"},
			InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		}}
		c.Contexts["hangs"] = &clientcmdapi.Context{Cluster: env.Context, AuthInfo: "hangs"}
	})
	cs := newClusters(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := cs.Cluster(ctx, forge.Target{Kubeconfig: path, Context: "hangs"})
		ended <- err
	}()
	if _, err := cs.Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: env.Context}); err != nil {
		t.Errorf("another cluster: %v", err)
	}
	select {
	case err := <-ended:
		wantError(t, err, reconcile.Unavailable, "credential plugin sleep")
	case <-time.After(4 * time.Second):
		t.Error("it waits for the plugin, and the caller has given up")
	}
}

// One that answers lets everything through, watches as well.
func TestCredentialPlugin(t *testing.T) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	answer := filepath.Join(t.TempDir(), "answer")
	path := kubeconfig(t, env.Kubeconfig, func(c *clientcmdapi.Config) {
		user := c.AuthInfos[c.Contexts[env.Context].AuthInfo]
		text := mustJSON(t, map[string]any{
			"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
			"status": map[string]any{
				"clientCertificateData": string(user.ClientCertificateData), "clientKeyData": string(user.ClientKeyData), "token": user.Token,
			},
		})
		if err := os.WriteFile(answer, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c.AuthInfos["plugin"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", Command: "cat", Args: []string{answer},
			InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		}}
		c.Contexts["plugin"] = &clientcmdapi.Context{Cluster: env.Context, AuthInfo: "plugin"}
	})
	c, err := newClusters(t).Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: "plugin"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Live(t.Context(), namespaceRef(env.Namespace)); err != nil || !s.Exists {
		t.Errorf("%+v, %v", s, err)
	}
}
