package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/server"
)

const downForge = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}
	env: LOG_LEVEL: "INFO"
	secrets: TOKEN: file: "token"
}
environments: {
	prod: {
		platform: {kind: "kubernetes", context: "proxied", namespace: "$NAMESPACE"}
		SERVICES
		policy: {mode: "apply", destroyData: "DESTROY"}
	}
	other: platform: {kind: "kubernetes", context: "proxied", namespace: "$NAMESPACE-2"}
}
`

func downFrom(services, destroy string) string {
	return strings.NewReplacer("SERVICES", services, "DESTROY", destroy).Replace(downForge)
}

// downClaims are those of the services of downForge.
var downClaims = []string{"data-shop-postgres-0", "data-shop-redis-0"}

// claimNames are those of the claims in the namespace of the home.
func (h *home) claimNames() (names []string) {
	h.t.Helper()
	for _, c := range h.claims() {
		names = append(names, c.Name)
	}
	return names
}

// forged runs a command about the environment prod, and wants its exit code.
func (h *home) forged(want int, args ...string) (stdout, stderr string) {
	h.t.Helper()
	stdout, stderr, code := h.command(append(args, "--instance", h.Instance, "-e", "prod")...)
	if code != want {
		h.t.Fatalf("forged %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, stdout, stderr)
	}
	return stdout, stderr
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
}

// Nobody is asked, a daemon is at work, one looks only: nothing is removed. Then
// all but the data goes, and the second time there is nothing to remove.
func TestDown(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("token", "canary")
	h.write("forge.cue", downFrom(`services: redis: {storage: "1Gi", password: file: "token"}`, "never"))
	out, _ := h.forged(0, "down", "--yes")
	wantText(t, out, "Nothing to remove.")
	h.forged(0, "apply", "--yes")
	before := len(h.mutations())

	out, errs, code := h.command("down", "--instance", h.Instance, "--yes")
	if code != 1 {
		t.Errorf("of two environments: exit code %d", code)
	}
	wantText(t, out+errs, "name it with -e; there are other, prod")
	_, errs = h.forged(1, "down")
	wantText(t, errs, "there is nobody to ask: add --yes")
	_, errs = h.forged(1, "down", "--yes", "--destroy-data")
	wantText(t, errs, `policy.destroyData of prod is "never"`)
	_, errs = h.forged(1, "down", "--yes", "--approve", "0123456789ab")
	wantText(t, errs, "--approve goes with --destroy-data")
	claim := "PersistentVolumeClaim " + h.Namespace + "/data-shop-redis-0"
	out, _ = h.forged(0, "down", "--dry-run")
	wantText(t, out, "delete release "+h.Namespace+"/shop-redis", claim+": it is kept",
		"kubectl --context proxied --namespace "+h.Namespace+" delete persistentvolumeclaim data-shop-redis-0")
	if n := len(h.mutations()) - before; n > 0 {
		t.Fatalf("%d requests have changed something", n)
	}

	d := h.run("-e", "prod")
	d.await("it has the lease", func(s server.Snapshot) bool {
		l := environment(s, "prod").Lease
		return ready(1)(s) && l != nil && l.Held
	})
	_, errs = h.forged(1, "down", "--yes")
	wantText(t, errs, "another forged acts on prod and would undo this: ", "process ", `set policy.mode of prod to "paused"`)
	d.stop()
	out, _ = h.forged(0, "plan")
	wantText(t, out, "Nothing to change.")

	out, errs = h.forged(0, "down", "--yes")
	wantText(t, out, "Removed 4 resources of prod.", claim+": it is kept", "Namespace "+h.Namespace+": it is not empty", "forge.cue still asks for prod")
	wantText(t, errs, "msg=delete", "resource=prod/release/app")
	if got := h.claimNames(); !slices.Equal(got, downClaims) {
		t.Errorf("claims: %v", got)
	}
	list, err := h.Client.AppsV1().Deployments(h.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("%d deployments are left, %v", len(list.Items), err)
	}
	if strings.Contains(out+errs, "canary") {
		t.Error("a secret is told")
	}
	before = len(h.mutations())
	out, _ = h.forged(0, "down", "--yes")
	wantText(t, out, "Nothing to remove.")
	if n := len(h.mutations()) - before; n > 0 {
		t.Errorf("%d requests have changed something", n)
	}

	// What stayed is taken up again.
	h.forged(0, "apply", "--yes")
	if got := h.claimNames(); !slices.Equal(got, downClaims) {
		t.Errorf("claims: %v", got)
	}
}

// With the tokens of its plan data goes too, and with it the namespace, in
// which nothing is left then.
func TestDownDestroysData(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("token", "canary")
	h.write("forge.cue", downFrom(`services: {redis: {storage: "1Gi", password: file: "token"}, postgres: password: file: "token"}`, "with-token"))
	h.forged(0, "apply", "--yes")

	_, errs := h.forged(2, "down", "--yes", "--destroy-data", "--approve", "0123456789ab")
	wantText(t, errs, "msg=delete")
	if got := h.claimNames(); !slices.Equal(got, downClaims) {
		t.Fatalf("claims without the right token: %v", got)
	}
	h.forged(2, "down", "--yes", "--destroy-data")
	out, _ := h.forged(0, "down", "--dry-run", "-o", "json")
	var shown struct {
		Stays []struct{ Object, Why, Remove string }
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var tokens []string
	for _, s := range shown.Stays {
		if _, token, ok := strings.Cut(s.Remove, "--approve "); ok && s.Why == "it holds data" {
			tokens = append(tokens, token)
		}
	}
	if len(tokens) != len(downClaims) {
		t.Fatalf("data that stays:\n%s", out)
	}
	out, _ = h.forged(0, "down", "--yes", "--destroy-data", "--approve", strings.Join(tokens, ","), "-o", "json")
	if !json.Valid([]byte(out)) {
		t.Errorf("no JSON:\n%s", out)
	}
	ns, err := h.Client.CoreV1().Namespaces().Get(t.Context(), h.Namespace, metav1.GetOptions{})
	if err == nil && ns.DeletionTimestamp == nil || err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("the namespace is not going: %v\n%s", err, out)
	}
	out, _ = h.forged(0, "down", "--yes")
	wantText(t, out, "Nothing to remove.")
}

// A namespace that forged has not made stays.
func TestDownLeavesTheNamespaceOfOthers(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.CreateNamespace(t)
	h.write("token", "canary")
	h.write("forge.cue", downFrom("", "never"))
	h.forged(0, "apply", "--yes")
	h.forged(0, "down", "--yes")
	ns, err := h.Client.CoreV1().Namespaces().Get(t.Context(), h.Namespace, metav1.GetOptions{})
	if err != nil || ns.DeletionTimestamp != nil {
		t.Errorf("the namespace is going: %v", err)
	}
	out, _ := h.forged(0, "down", "--yes")
	wantText(t, out, "Nothing to remove.")
}

// A release is put back to what it was, on a person's word and not while a
// daemon acts; forge.cue still asks for the other version, and that comes again.
func TestRollback(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("token", "canary")
	forge := downFrom("", "never")
	h.write("forge.cue", forge)
	h.forged(0, "apply", "--yes")
	h.write("forge.cue", strings.Replace(forge, "1.4.2", "1.4.3", 1))
	h.forged(0, "apply", "--yes")

	out, _ := h.forged(0, "history", "app")
	wantText(t, out, "deployed, runs forged app 0.1.0 ghcr.io/acme/shop-api:1.4.3", "superseded forged app 0.1.0 ghcr.io/acme/shop-api:1.4.2")
	_, errs := h.forged(1, "rollback")
	wantText(t, errs, "there is nobody to ask: add --yes")
	_, errs = h.forged(1, "rollback", "--yes", "--to", "2")
	wantText(t, errs, "revision 2 is what runs")
	_, errs = h.forged(1, "history", "none")
	wantText(t, errs, `prod has no release "none"; it has `)
	out, _ = h.forged(0, "rollback", "--dry-run")
	wantText(t, out, "ghcr.io/acme/shop-api:1.4.3 → ghcr.io/acme/shop-api:1.4.2")
	if got := h.image(); !strings.HasSuffix(got, "1.4.3") {
		t.Fatalf("the image is %s", got)
	}

	d := h.run("-e", "prod")
	d.await("it has the lease", func(s server.Snapshot) bool {
		l := environment(s, "prod").Lease
		return ready(1)(s) && l != nil && l.Held
	})
	_, errs = h.forged(1, "rollback", "--yes")
	wantText(t, errs, "another forged acts on prod and would undo this: ")
	out, _ = h.forged(0, "history", "--address", d.address())
	wantText(t, out, "The forged that runs has done nothing here yet.")
	d.stop()

	out, _ = h.forged(0, "rollback", "--yes")
	wantText(t, out, "prod/release/app is put back to what revision 1 was.", "forge.cue still asks for what it asked for")
	if got := h.image(); !strings.HasSuffix(got, "1.4.2") {
		t.Errorf("the image is %s", got)
	}
	out, _ = h.forged(2, "plan")
	wantText(t, out, "a person went back to revision 1", "Plan: 1 to update.")
	out, _ = h.forged(0, "logs")
	wantText(t, out, " app | ")
}
