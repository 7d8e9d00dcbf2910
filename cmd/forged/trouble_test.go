package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
)

const app = `forge: "v1"
app: {name: "shop", image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}}
`

// small is an environment without services, in the home's namespace.
const small = `environments: prod: {
	platform: {kind: "kubernetes", context: "proxied", namespace: "$NAMESPACE"}
	services: {postgres: mode: "off", redis: mode: "off"}
	policy: {mode: "apply", interval: "10s"}
}
`

func TestUnknownContext(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("forge.cue", app+small+`environments: typo: {
	platform: {kind: "kubernetes", context: "prodd"}
	policy: mode: "apply"
}
`)
	d := h.run()
	s := d.await("one unknown, the other ready", func(s server.Snapshot) bool {
		return environment(s, "prod").State == reconcile.StateReady && environment(s, "typo").State == reconcile.StateUnknown
	})
	r := resource(s, "typo/namespace/shop-typo")
	if r == nil || r.Error == nil || r.Error.Kind != reconcile.Invalid ||
		!strings.Contains(r.Message, "prodd") || !strings.Contains(r.Message, "known contexts: "+faultproxy.Context) {
		t.Errorf("what is said of it: %+v", r)
	}
	// Written down once by who tries again by itself.
	poll(t, "the search for what is owned", func() bool { return strings.Contains(d.log.String(), "could not list what is owned") }, d.log.String)
	if out, _, code := h.command("plan", "--instance", h.Instance); code != 1 || !strings.Contains(out, "known contexts") {
		t.Errorf("plan: exit code %d\n%s", code, out)
	}
	d.stop()
}

func TestUnreachableCluster(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("forge.cue", app+small)
	mend := h.proxy.CutAfter(0)
	d := h.run()
	s := d.await("unknown while nothing answers", func(s server.Snapshot) bool {
		r := resource(s, "prod/namespace/"+h.Namespace)
		return r != nil && r.State == reconcile.StateUnknown && !r.NextRetry.IsZero()
	})
	if r := resource(s, "prod/namespace/"+h.Namespace); r.Error.Kind != reconcile.Unavailable {
		t.Errorf("kind %s: %s", r.Error.Kind, r.Error.Text)
	}
	if n := h.proxy.Requests(); len(n) > 0 {
		t.Fatalf("the line is not dead: %v", n)
	}
	mend()
	d.await("recovery", ready(1))

	// It goes away while everything is in order, and is changed meanwhile.
	before := len(h.mutations())
	mend = h.proxy.CutAfter(0)
	d.await("unknown again", func(s server.Snapshot) bool { return state(s, "prod/release/app") == reconcile.StateUnknown })
	h.edit("Deployment", "shop", `{"spec":{"replicas":7}}`)
	mend()
	d.await("recovery, and what was changed meanwhile is healed", func(s server.Snapshot) bool {
		r := resource(s, "prod/release/app")
		return ready(1)(s) && r.LastAction != nil && r.LastAction.Action == reconcile.ActionHeal
	})
	n := slices.DeleteFunc(h.mutations()[before:], func(r faultproxy.Request) bool { return bookkeeping(r.Path) })
	if len(n) == 0 || len(n) > 2 {
		t.Errorf("to heal one field it took %v", n)
	}
	if got, err := h.Client.AppsV1().Deployments(h.Namespace).Get(t.Context(), "shop", metav1.GetOptions{}); err != nil || *got.Spec.Replicas != 1 {
		t.Errorf("replicas are not healed: %v", err)
	}
	d.stop()
}

// powerless is a way to the cluster with a token that may do nothing but what
// the rules say.
func (h *home) powerless(rules ...rbacv1.PolicyRule) powerless {
	h.t.Helper()
	t, ctx := h.t, h.t.Context()
	accounts := h.Client.CoreV1().ServiceAccounts("default")
	name := h.Instance
	_, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roles, bindings := h.Client.RbacV1().ClusterRoles(), h.Client.RbacV1().ClusterRoleBindings()
	meta := metav1.ObjectMeta{Name: "test-" + name}
	if _, err := roles.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = bindings.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx = cleanupContext(t)
	t.Cleanup(func() {
		for what, err := range map[string]error{
			"account": accounts.Delete(ctx, name, metav1.DeleteOptions{}),
			"binding": bindings.Delete(ctx, meta.Name, metav1.DeleteOptions{}),
			"role":    roles.Delete(ctx, meta.Name, metav1.DeleteOptions{}),
		} {
			if err != nil {
				t.Errorf("delete %s: %v", what, err)
			}
		}
	})
	token, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(h.Config)
	cfg.BearerToken = token.Status.Token
	return powerless{faultproxy.New(t, cfg), cfg.BearerToken}
}

// powerless is a line to the cluster and the token that is used on it.
type powerless struct {
	*faultproxy.Proxy
	token string
}

func TestTokenWithoutRights(t *testing.T) {
	t.Parallel()
	everything := []string{"get", "list", "watch"}
	for _, tt := range []struct {
		name     string
		rules    []rbacv1.PolicyRule
		resource string // that says it
		state    reconcile.State
		says     []string
		tries    bool // changing requests reach the server, and are refused
	}{
		{
			name: "none", resource: "locked/namespace/$NAMESPACE", state: reconcile.StateUnknown,
			says: []string{"kube-system", "get", "namespaces"},
		},
		{
			name: "read only", resource: "locked/namespace/$NAMESPACE", state: reconcile.StateFailed,
			rules: []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: everything}},
			says:  []string{"patch", "namespaces", "$NAMESPACE"}, tries: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			good, locked := newHome(t), newHome(t)
			narrow := locked.powerless(tt.rules...)
			good.write("forge.cue", app+small+strings.NewReplacer(
				"prod:", "locked:", "$NAMESPACE", locked.Namespace,
				`context:`, fmt.Sprintf("kubeconfig: %q, context:", narrow.Kubeconfig()),
			).Replace(small))
			d := good.run()
			id := strings.ReplaceAll(tt.resource, "$NAMESPACE", locked.Namespace)
			s := d.await("one denied, the other ready", func(s server.Snapshot) bool {
				return environment(s, "prod").State == reconcile.StateReady && state(s, id) == tt.state
			})
			r := resource(s, id)
			if r.Error == nil || r.Error.Kind != reconcile.Denied {
				t.Fatalf("not denied: %+v", r)
			}
			for _, want := range tt.says {
				if want = strings.ReplaceAll(want, "$NAMESPACE", locked.Namespace); !strings.Contains(r.Error.Text, want) {
					t.Errorf("%q is not said: %s", want, r.Error.Text)
				}
			}
			for _, r := range narrow.Requests() {
				if r.Mutates() && !tt.tries {
					t.Errorf("%s was tried", r)
				}
			}
			if _, err := good.Client.CoreV1().Namespaces().Get(t.Context(), locked.Namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("namespace %s: %v", locked.Namespace, err)
			}
			d.stop()
			if strings.Contains(d.log.String(), narrow.token) {
				t.Error("the token is in the log")
			}
		})
	}
}

func TestInvalidReload(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("forge.cue", app+small)
	d := h.run()
	d.await("ready", ready(1))
	before := len(h.mutations())
	h.write("forge.cue", app+strings.Replace(small, `mode: "apply"`, `mode: "aply", replicas: 3`, 1))
	s := d.await("the refusal", func(s server.Snapshot) bool { return !s.Config.OK })
	if s.Generation != 1 || s.State != reconcile.StateReady || len(s.Config.Problems) != 2 {
		t.Errorf("generation %d, %s, problems %v", s.Generation, s.State, s.Config.Problems)
	}
	for _, p := range s.Config.Problems {
		if p.Line != 6 || p.Column == 0 || !strings.HasPrefix(p.Path, "environments.prod.policy.") {
			t.Errorf("no position: %+v", p)
		}
	}
	metric := func(want string) {
		t.Helper()
		if m, err := d.get("/metrics"); err != nil || !strings.Contains(m, "\nforged_config_last_reload_successful "+want+"\n") {
			t.Errorf("metric is not %s: %v", want, err)
		}
	}
	metric("0")
	for _, want := range []string{"position=forge.cue:6:", "the last good configuration stays in force", "aply"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	// What is in force is still held up.
	h.edit("Deployment", "shop", `{"spec":{"replicas":7}}`)
	d.await("a heal under the last good configuration", func(s server.Snapshot) bool {
		r := resource(s, "prod/release/app")
		return r.State == reconcile.StateReady && r.LastAction != nil && r.LastAction.Action == reconcile.ActionHeal
	})
	for _, m := range h.mutations()[before:] {
		if !strings.Contains(m.Path, "/deployments/") && !bookkeeping(m.Path) {
			t.Errorf("an invalid forge.cue led to %s", m)
		}
	}
	if err := os.Remove(filepath.Join(h.dir, "forge.cue")); err != nil {
		t.Fatal(err)
	}
	d.await("that it is gone", func(s server.Snapshot) bool { return !s.Config.OK && strings.Contains(s.Config.Error, "no such file") })
	metric("0")
	h.write("forge.cue", app+small+"// mended\n")
	d.await("the mended one", func(s server.Snapshot) bool { return s.Config.OK && s.State == reconcile.StateReady })
	metric("1")
	d.stop()
}
