package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/servicetest"
)

// TestPlaceScripts runs testdata/places/*.txtar: environments in two clusters,
// and services that somebody else runs outside of them.
func TestPlaceScripts(t *testing.T) {
	cluster := sandboxtest.Cluster(t)
	second := sandboxtest.Second(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, name := range []string{"-x", "-i"} {
			if err := cluster.Client.CoreV1().Namespaces().Delete(ctx, cluster.Namespace+name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
	authority := servicetest.NewAuthority(t, "of the databases")
	cert, key := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}})
	postgres := servicetest.StartPostgres(t, servicetest.PostgresOptions{Cert: cert, Key: key})
	postgres.SQL(t, "CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD '"+canaries[1]+"'")
	redis := servicetest.StartRedis(t, servicetest.RedisOptions{Cert: cert, Key: key, Settings: []string{"--requirepass", canaries[3]}})

	clients := map[string]kubernetes.Interface{"us": cluster.Client, "eu": second.Client}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/places",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			escape := encodings(canaries[0])["path"]
			for name, value := range map[string]string{
				"KUBECONFIG": cluster.Kubeconfig, "INSTANCE": cluster.Instance, "CONTEXT": cluster.Context, "NAMESPACE": cluster.Namespace, "SECOND": second.Namespace,
				"SHOP_URL":     fmt.Sprintf("postgres://app:%s@localhost:%d/shop", strings.ReplaceAll(escape, "/", "%2F"), postgres.Port),
				"SHOP_ADMIN":   fmt.Sprintf("postgres://boss:%s@localhost:%d/postgres", strings.ReplaceAll(encodings(canaries[1])["path"], "/", "%2F"), postgres.Port),
				"SHOP_REDIS":   fmt.Sprintf("rediss://:%s@localhost:%d/0", strings.ReplaceAll(encodings(canaries[3])["path"], "/", "%2F"), redis.Port),
				"OTHER_REDIS":  fmt.Sprintf("rediss://:wrong@localhost:%d/0", redis.Port),
				"NOBODY_THERE": fmt.Sprintf("localhost:%d", servicetest.FreePort(t)),
			} {
				e.Setenv(name, value)
			}
			if err := os.WriteFile(e.WorkDir+"/ca.crt", []byte(authority.PEM), 0o600); err != nil {
				return err
			}
			if err := away(second, e.WorkDir); err != nil {
				return err
			}
			return expandAll(e.WorkDir, strings.NewReplacer("$CONTEXT", cluster.Context, "$NAMESPACE", cluster.Namespace, "$SECOND_CONTEXT", second.Context, "$SECOND", second.Namespace))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "silent": cmdSilent,
			// live CONTEXT NAMESPACE DEPLOYMENT REPLICAS IMAGE wants a Deployment to be so.
			"live": func(ts *testscript.TestScript, _ bool, args []string) {
				d, err := clients[args[0]].AppsV1().Deployments(args[1]).Get(context.Background(), args[2], metav1.GetOptions{})
				ts.Check(err)
				if got := fmt.Sprint(*d.Spec.Replicas, " ", d.Spec.Template.Spec.Containers[0].Image); got != args[3]+" "+args[4] {
					ts.Fatalf("it is %s", got)
				}
			},
			// edit CONTEXT NAMESPACE CONFIGMAP KEY VALUE changes one as a person would.
			"edit": func(ts *testscript.TestScript, _ bool, args []string) {
				patch := fmt.Appendf(nil, `{"data":{%q:%q}}`, args[3], args[4])
				_, err := clients[args[0]].CoreV1().ConfigMaps(args[1]).Patch(context.Background(), args[2],
					types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "a-person"})
				ts.Check(err)
			},
			// holds CONTEXT NAMESPACE CONFIGMAP KEY VALUE wants one to be so.
			"holds": func(ts *testscript.TestScript, _ bool, args []string) {
				m, err := clients[args[0]].CoreV1().ConfigMaps(args[1]).Get(context.Background(), args[2], metav1.GetOptions{})
				ts.Check(err)
				if m.Data[args[3]] != args[4] {
					ts.Fatalf("it is %s", m.Data[args[3]])
				}
			},
			// full CONTEXT NAMESPACE lets no more pods into a namespace.
			"full": func(ts *testscript.TestScript, neg bool, args []string) {
				quotas := clients[args[0]].CoreV1().ResourceQuotas(args[1])
				if neg {
					ts.Check(quotas.Delete(context.Background(), "full", metav1.DeleteOptions{}))
					return
				}
				_, err := quotas.Create(context.Background(), fullQuota(), metav1.CreateOptions{})
				ts.Check(err)
			},
		},
	})
	if log := postgres.Log(); strings.Contains(log, canaries[0]) {
		t.Error("a password is in the log of the database")
	}
}

// away writes two kubeconfigs: one that leads to a cluster, and one by which
// nobody answers there.
func away(cluster *sandboxtest.Env, dir string) error {
	config, err := clientcmd.LoadFromFile(cluster.Kubeconfig)
	if err != nil {
		return err
	}
	if err := clientcmd.WriteToFile(*config, dir+"/there"); err != nil {
		return err
	}
	config.Clusters[config.Contexts[cluster.Context].Cluster].Server = "https://127.0.0.1:1"
	return clientcmd.WriteToFile(*config, dir+"/away")
}

func fullQuota() *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "full"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: quantity.MustParse("0")}},
	}
}
