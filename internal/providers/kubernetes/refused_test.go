package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// servant is a ServiceAccount that forged acts as.
type servant struct {
	*vault
	kubeconfig string
	tokenFile  string
}

// hire makes a ServiceAccount with some rights in all of the cluster, and a
// provider that has no others.
func hire(t *testing.T, rules ...rbacv1.PolicyRule) *servant {
	t.Helper()
	v := newVault(t)
	v.clusters.Close()
	ctx, name := t.Context(), v.Namespace
	if _, err := v.Client.CoreV1().ServiceAccounts(v.Namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "forged"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	roles, bindings := v.Client.RbacV1().ClusterRoles(), v.Client.RbacV1().ClusterRoleBindings()
	if _, err := roles.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "forged", Namespace: v.Namespace}},
	}
	if _, err := bindings.Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		_ = bindings.Delete(ctx, name, metav1.DeleteOptions{})
		_ = roles.Delete(ctx, name, metav1.DeleteOptions{})
	})
	s := &servant{vault: v, tokenFile: filepath.Join(t.TempDir(), "token"), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	s.renew()
	config, err := clientcmd.LoadFromFile(v.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Contexts[v.Context].AuthInfo = "forged"
	config.AuthInfos = map[string]*clientcmdapi.AuthInfo{"forged": {TokenFile: s.tokenFile}}
	if err := clientcmd.WriteToFile(*config, s.kubeconfig); err != nil {
		t.Fatal(err)
	}
	v.start()
	return s
}

// renew writes a token that is not the one of before.
func (s *servant) renew() {
	s.t.Helper()
	seconds := int64(3600)
	token, err := s.Client.CoreV1().ServiceAccounts(s.Namespace).CreateToken(s.t.Context(), "forged",
		&authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.tokenFile, []byte(token.Status.Token), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *servant) request(objects ...forge.SecretObject) reconcile.Request {
	r := s.vault.request(objects...)
	r.Resource.Target.Kubeconfig = s.kubeconfig
	return r
}

// rightsWith are those that Secrets need, with some verbs on them.
func rightsWith(verbs ...string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: append([]string{"get", "list", "watch"}, verbs...)},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "create", "update", "patch", "delete"}},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}},
	}
}

// eventually looks and applies until ok, as the engine does after its delays.
func (v *vault) eventually(r reconcile.Request, what string, ok func(err error) bool) {
	v.t.Helper()
	deadline := time.Now().Add(patience)
	var err error
	for {
		if err = v.attempt(r); ok(err) {
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("%s: not within %s; last %v", what, patience, err)
		}
	}
}

func (v *vault) attempt(r reconcile.Request) error {
	o, err := v.Observe(v.t.Context(), r)
	if err != nil {
		return err
	}
	steps, err := v.Plan(v.t.Context(), r, o)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if _, err := v.Apply(v.t.Context(), r, s); err != nil {
			return err
		}
	}
	return nil
}

func kindIs(kind reconcile.ErrorKind) func(error) bool {
	return func(err error) bool { return err != nil && reconcile.KindOf(err) == kind }
}

func none(err error) bool { return err == nil }

// Rights that are taken away while forged runs are named, nothing else is
// attempted in their place, and when they come back it goes on by itself.
func TestRightsAreRevokedWhileRunning(t *testing.T) {
	s := hire(t, rightsWith("create", "patch", "delete")...)
	r := s.request()
	s.eventually(r, "made", none)
	before := s.live("app").ResourceVersion

	set := func(verbs ...string) {
		t.Helper()
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}, Rules: rightsWith(verbs...)}
		if _, err := s.Client.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	set()
	s.env["TOKEN"] = canary + "2"
	var denied error
	s.eventually(r, "denied", func(err error) bool { denied = err; return kindIs(reconcile.Denied)(err) })
	wantError(t, denied, reconcile.Denied, "Secret "+s.Namespace+"/app", `cannot patch resource "secrets"`, "grant the permission")
	s.secretFree(denied)
	if s.live("app").ResourceVersion != before {
		t.Error("it was changed")
	}
	if o, err := s.Observe(t.Context(), r); err != nil || !o.Exists {
		t.Errorf("what may be read is not: %+v, %v", o, err)
	}
	set("create", "patch", "delete")
	s.eventually(r, "allowed again", none)
	if s.value("app", "TOKEN") != canary+"2" {
		t.Error("not applied")
	}
}

// expired answers 401 to one token, as an API server does when it has run out.
type expired struct {
	mu    sync.Mutex
	token string
}

func (x *expired) expire(token string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.token = token
}

func (x *expired) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		x.mu.Lock()
		old := x.token != "" && r.Header.Get("Authorization") == "Bearer "+x.token
		x.mu.Unlock()
		if old {
			r.Header.Set("Authorization", "Bearer nonsense")
		}
		return next.RoundTrip(r)
	})
}

// A token that has run out is that target's trouble alone, and the new one is
// taken as soon as it is in the file.
func TestExpiredToken(t *testing.T) {
	s := hire(t, rightsWith("create", "patch", "delete")...)
	x := &expired{}
	s.clusters.Close()
	s.clusters = NewClusters(Options{Instance: s.Instance})
	s.clusters.wrap = x.wrap
	t.Cleanup(s.clusters.Close)
	s.Provider = NewSecrets(s.clusters, &secret.Resolver{LookupEnv: func(name string) (string, bool) {
		value, ok := s.env[name]
		return value, ok
	}})
	r := s.request()
	s.eventually(r, "made", none)
	token, err := os.ReadFile(s.tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	x.expire(string(token))
	s.env["TOKEN"] = canary + "2"
	var denied error
	s.eventually(r, "not accepted", func(err error) bool { denied = err; return kindIs(reconcile.Denied)(err) })
	wantError(t, denied, reconcile.Denied, "credentials of this context")
	if strings.Contains(fmt.Sprint(denied), string(token)) {
		t.Error("the token is in the error")
	}
	// Another target with credentials of its own goes on.
	if c, err := s.clusters.Cluster(t.Context(), s.Target()); err != nil {
		t.Error(err)
	} else if _, err := c.Get(t.Context(), secretRef(s.Namespace, "app")); err != nil {
		t.Error(err)
	}
	s.renew()
	s.eventually(r, "accepted again", none)
	if s.value("app", "TOKEN") != canary+"2" {
		t.Error("not applied")
	}
}

// A namespace whose quota is used up says so, and what is there stays.
func TestQuotaIsUsedUp(t *testing.T) {
	v := newVault(t)
	first := v.request(forge.SecretObject{Name: "db", Entries: []forge.SecretEntry{makeUp("password")}})
	v.converge(first)
	quotas := v.Client.CoreV1().ResourceQuotas(v.Namespace)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few"}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{"count/secrets": mustQuantity(t, "2")},
	}}
	if _, err := quotas.Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * patience)
	for used := ""; used != "2"; {
		live, err := quotas.Get(t.Context(), "few", metav1.GetOptions{})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the quota counts %q, %v", used, err)
		}
		n := live.Status.Used["count/secrets"]
		used = n.String()
	}
	password := v.value("db", "password")
	err := v.attempt(v.request())
	wantError(t, err, reconcile.Denied, "exceeded quota: few", "raise it, or make room")
	v.secretFree(err)
	if v.value("db", "password") != password {
		t.Error("what was there was changed")
	}
	if err := quotas.Delete(t.Context(), "few", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	v.eventually(v.request(), "there is room", none)
}

// A policy of the cluster that rejects an object is named, for a Secret too, of
// which nothing else that the policy says is repeated.
func TestPolicyRejects(t *testing.T) {
	b := newBed(t)
	name := "reject." + b.Instance + ".example.com"
	expression := "!has(object.data) || !('forbidden' in object.data)"
	policies, bindings := b.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies(), b.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	fail := admissionv1.Fail
	scoped := &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": b.Namespace}}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: &fail,
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: scoped,
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{"CREATE", "UPDATE"},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps", "secrets"}},
			}}},
		},
		Validations: []admissionv1.Validation{{Expression: expression, MessageExpression: "'this is not allowed: ' + string(object.data['forbidden'])"}},
	}}
	if _, err := policies.Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
	}}
	if _, err := bindings.Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = bindings.Delete(ctx, name, metav1.DeleteOptions{})
		_ = policies.Delete(ctx, name, metav1.DeleteOptions{})
	})
	id := releaseID("a")
	allowed := b.own(id, b.configMap("allowed", `{x: "1"}`))[0]
	attempt := func(text string) error {
		obj := b.manifest(text)
		b.c.Stamp(obj, id)
		_, err := b.c.Apply(t.Context(), obj)
		return err
	}
	config := `{apiVersion: v1, kind: ConfigMap, metadata: {name: rejected}, data: {forbidden: "x"}}`
	deadline := time.Now().Add(2 * patience) // a policy is in force within moments
	var err error
	for n := 0; err == nil; n++ {
		if time.Now().After(deadline) {
			t.Fatal("the policy is not in force")
		}
		err = attempt(strings.Replace(config, "rejected", fmt.Sprintf("early-%d", n), 1))
	}
	wantError(t, attempt(config), reconcile.Invalid, "ConfigMap "+b.Namespace+"/rejected", name, "this is not allowed", "a policy of the cluster rejects it")
	err = attempt(`{apiVersion: v1, kind: Secret, metadata: {name: rejected}, data: {forbidden: czNjcjN0}}`)
	wantError(t, err, reconcile.Invalid, "Secret "+b.Namespace+"/rejected", name, "a policy of the cluster rejects it")
	if strings.Contains(err.Error(), "czNjcjN0") || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("the policy's words quote the secret: %v", err)
	}
	if d := b.drifted(id); len(d) != 0 || b.get(allowed.Ref) == nil {
		t.Errorf("something else was touched: %v", d)
	}
}

// An object that is too large is a mistake which no retry mends.
func TestObjectTooLarge(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	for _, size := range []int{1<<20 + 1, 4 << 20} {
		obj := b.manifest(`{apiVersion: v1, kind: ConfigMap, metadata: {name: large}, data: {x: "` + strings.Repeat("x", size) + `"}}`)
		b.c.Stamp(obj, id)
		_, err := b.c.Apply(t.Context(), obj)
		if reconcile.KindOf(err) != reconcile.Invalid || err == nil || len(err.Error()) > 1000 {
			t.Errorf("%d bytes: %s, %.300v", size, reconcile.KindOf(err), err)
		}
	}
	for _, s := range []metav1.Status{
		{Code: 500, Message: "etcdserver: request is too large"},
		{Code: 500, Message: "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2097 vs. 2048)"},
		{Code: 413, Reason: metav1.StatusReasonRequestEntityTooLarge, Message: "limit is 3145728"},
	} {
		e := &reconcile.Error{}
		classifyStatus(e, Ref{}, s)
		if e.Kind != reconcile.Invalid || !strings.Contains(e.Hint, "divide it") {
			t.Errorf("%s: %s, %s", s.Message, e.Kind, e.Hint)
		}
	}
}
