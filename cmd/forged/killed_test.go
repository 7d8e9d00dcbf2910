package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/faultproxy"
)

const killedOne = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.1"}
	env: {LOG_LEVEL: "INFO", GOES: "away"}
	secrets: SESSION: generate: {}
}
environments: prod: {
	platform: {kind: "kubernetes", context: "proxied", namespace: "$NAMESPACE"}
	services: {postgres: storage: "1Gi", redis: storage: "1Gi"}
	workers: {mail: args: ["mail"], goes: args: ["away"]}
	scaling: {min: 1, max: 2, cpuTarget: 80}
	policy: {mode: "apply", prune: "owned", maxDelete: 10}
}
`

// killedTwo changes each release, postgres by who may connect, adds a secret,
// and lets objects go.
const killedTwo = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}
	env: {LOG_LEVEL: "DEBUG", COMES: "new"}
	secrets: {SESSION: generate: {}, EXTRA: generate: {}}
}
environments: prod: {
	platform: {kind: "kubernetes", context: "proxied", namespace: "$NAMESPACE"}
	services: {postgres: storage: "1Gi", redis: {storage: "1Gi", maxMemory: "64mb"}}
	workers: mail: args: ["mail", "--fast"]
	policy: {mode: "apply", prune: "owned", maxDelete: 10}
}
`

var everyKill = flag.Bool("every-kill", false, "kill at every mutation, not at some of them")

// rest waits until nothing is left to be done. What goes with an upgrade may
// show only afterwards what it has left to be held: the replicas of an
// autoscaler.
func (h *home) rest(d *daemonProcess) {
	h.t.Helper()
	poll(h.t, "a rest", func() bool {
		_, _, code := h.command("plan", "--instance", h.Instance)
		return code == 0
	}, d.log.String)
}

// TestKilledProcess kills the real daemon with SIGKILL while it installs and
// while it upgrades a whole environment, at moments spread over all it does,
// and starts it again: it must come to the same end as one that was left in
// peace, without anybody's help.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	peaceful := newHome(t)
	peaceful.write("forge.cue", killedOne)
	d := peaceful.run()
	d.await("an undisturbed install", ready(1))
	installs := peaceful.proxy.Mutations()
	one := peaceful.live()
	peaceful.write("forge.cue", killedTwo)
	d.await("an undisturbed upgrade", ready(2))
	upgrades := peaceful.proxy.Mutations() - installs
	peaceful.rest(d)
	two := peaceful.live()
	peaceful.proveReleases()
	d.stop()
	if one == two || installs < 30 || upgrades < 20 {
		t.Fatalf("an install takes %d mutations, an upgrade %d: is anything counted?", installs, upgrades)
	}
	t.Logf("an install takes %d mutations, an upgrade %d; %d and %d bytes of objects are compared", installs, upgrades, len(one), len(two))

	for _, trial := range []struct {
		name          string
		mutations     int
		points        int
		before, after string
		want          string
	}{
		{"install", installs, 10, "", killedOne, one},
		{"upgrade", upgrades, 8, killedOne, killedTwo, two},
	} {
		// From the first to the last but a few: their number varies a little with
		// who is faster.
		last := trial.mutations - 4
		if *everyKill {
			trial.points = last
		}
		for i := range trial.points {
			n := 1 + i*(last-1)/(trial.points-1)
			t.Run(fmt.Sprintf("%s/%d", trial.name, n), func(t *testing.T) {
				t.Parallel()
				h := newHome(t)
				killed := make(chan struct{})
				var d *daemonProcess
				started := make(chan struct{})
				end := sync.OnceFunc(func() {
					d.kill()
					close(killed)
				})
				kill := func() {
					<-started
					end()
				}
				generation := 1
				if trial.before == "" {
					h.proxy.OnMutation(n, kill)
					h.write("forge.cue", trial.after)
					d = h.run()
				} else {
					h.write("forge.cue", trial.before)
					d = h.run()
					d.await("what was there before", ready(1))
					h.proxy.OnMutation(n, kill)
					h.write("forge.cue", trial.after)
					generation = 2
				}
				close(started)
				poll(t, "the kill", func() bool {
					select {
					case <-killed:
						return true
					default:
					}
					// What is written down a moment later may not be counted here:
					// then the end is the moment.
					if s, err := d.status(); err == nil && ready(generation)(s) {
						end()
					}
					return false
				}, d.log.String)

				again := h.run()
				again.await("convergence after the kill", ready(1))
				h.rest(again)
				h.proveReleases()
				if diff := cmp.Diff(trial.want, h.live()); diff != "" {
					t.Errorf("not as after an undisturbed run (-want +got):\n%s", diff)
				}
				before := len(h.mutations())
				if out, stderr, code := h.command("plan", "--instance", h.Instance); code != 0 {
					t.Errorf("plan: exit code %d\n%s%s", code, out, stderr)
				}
				rest := slices.DeleteFunc(h.mutations()[before:], func(r faultproxy.Request) bool { return bookkeeping(r.Path) })
				if len(rest) > 0 {
					t.Errorf("it is not at rest: %v", rest)
				}
				again.stop()
			})
		}
	}
}

// bookkeeping: baselines of healed objects are written down a moment later, and
// a lease is renewed from time to time.
func bookkeeping(path string) bool {
	return strings.Contains(path, "/configmaps/forged-inventory-") || strings.Contains(path, "/leases/")
}

// kept are the kinds of objects that are compared: all that a person would
// call their own. What controllers make of them, such as pods, follows.
var kept = []schema.GroupVersionResource{
	{Version: "v1", Resource: "configmaps"},
	{Version: "v1", Resource: "secrets"},
	{Version: "v1", Resource: "services"},
	{Version: "v1", Resource: "serviceaccounts"},
	{Version: "v1", Resource: "persistentvolumeclaims"},
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Group: "apps", Version: "v1", Resource: "statefulsets"},
	{Group: "apps", Version: "v1", Resource: "daemonsets"},
	{Group: "batch", Version: "v1", Resource: "jobs"},
	{Group: "batch", Version: "v1", Resource: "cronjobs"},
	{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
	{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
}

// live is everything in the namespace, normalised: without what the server
// gives each object of its own, and without what is random in it.
func (h *home) live() string {
	h.t.Helper()
	client, err := dynamic.NewForConfig(h.Config)
	if err != nil {
		h.t.Fatal(err)
	}
	all := map[string]any{}
	for _, gvr := range kept {
		list, err := client.Resource(gvr).Namespace(h.Namespace).List(h.t.Context(), metav1.ListOptions{})
		if err != nil {
			h.t.Fatal(err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			name := o.GetName()
			if strings.HasPrefix(name, "sh.helm.release.") || strings.HasPrefix(name, "forged-inventory-") || name == "kube-root-ca.crt" {
				continue // proveReleases looks at these
			}
			h.normalise(o)
			all[gvr.Resource+"/"+name] = o.Object
		}
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		h.t.Fatal(err)
	}
	return random.ReplaceAllString(strings.NewReplacer(h.Namespace, "NAMESPACE", h.Instance, "INSTANCE").Replace(string(b)), `$1"RANDOM"`)
}

// random are values that differ from one install to the next: checksums of
// generated secrets.
var random = regexp.MustCompile(`("checksum\.forged\.dev/secret\.[^"]*": )"[0-9a-f]+"`)

func (h *home) normalise(o *unstructured.Unstructured) {
	drop := func(fields ...string) { unstructured.RemoveNestedField(o.Object, fields...) }
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "ownerReferences"} {
		drop("metadata", field)
	}
	drop("status")
	drop("metadata", "annotations", "deployment.kubernetes.io/revision")
	switch o.GetKind() {
	case "Secret":
		if data, ok := o.Object["data"].(map[string]any); ok {
			for k, v := range data {
				if s, ok := v.(string); !ok || s == "" {
					h.t.Errorf("Secret %s: key %s is empty", o.GetName(), k)
				}
				data[k] = "RANDOM"
			}
		}
	case "Service":
		drop("spec", "clusterIP")
		drop("spec", "clusterIPs")
	case "PersistentVolumeClaim":
		drop("spec", "volumeName")
		o.SetAnnotations(nil)
	}
	// Who owns which field matters, when does not. Controllers come and go, and
	// what they say of the status is their own.
	owners := map[string]any{}
	for _, f := range o.GetManagedFields() {
		if f.Subresource == "status" {
			continue
		}
		if strings.HasPrefix(f.Manager, "forged") || strings.HasPrefix(f.Manager, "helm") {
			key := f.Manager + " " + string(f.Operation) + " " + f.Subresource
			if owners[key] != nil {
				h.t.Errorf("%s %s: %s is listed twice", o.GetKind(), o.GetName(), key)
			}
			owners[key] = fieldsOf(f)
		}
	}
	o.SetManagedFields(nil)
	o.Object["owners"] = owners
}

func fieldsOf(f metav1.ManagedFieldsEntry) any {
	var v any
	if f.FieldsV1 == nil || json.Unmarshal(f.FieldsV1.GetRawBytes(), &v) != nil {
		return nil
	}
	return v
}

// proveReleases looks at the books: Helm's newest revision of each release is
// deployed and forged's, no revision is under way, and the inventory lists
// what lives and nothing that is pending.
func (h *home) proveReleases() {
	h.t.Helper()
	records, err := h.Client.CoreV1().Secrets(h.Namespace).List(h.t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		h.t.Fatal(err)
	}
	type revision struct {
		version      int
		status, ours string
	}
	newest, deployed := map[string]revision{}, map[string]int{}
	for _, s := range records.Items {
		r := revision{status: s.Labels["status"], ours: s.Labels["forged.dev/rev"]}
		if _, err := fmt.Sscan(s.Labels["version"], &r.version); err != nil {
			h.t.Fatal(err)
		}
		name := s.Labels["name"]
		if strings.HasPrefix(r.status, "pending") || r.status == "uninstalling" {
			h.t.Errorf("release %s: revision %d is %s", name, r.version, r.status)
		}
		if r.status == "deployed" {
			deployed[name]++
		}
		if r.version > newest[name].version {
			newest[name] = r
		}
	}
	if names := slices.Sorted(maps.Keys(newest)); !slices.Equal(names, []string{"shop", "shop-postgres", "shop-redis"}) {
		h.t.Errorf("releases: %v", names)
	}
	for name, r := range newest {
		if r.status != "deployed" || !strings.HasPrefix(r.ours, fmt.Sprintf("%d.", r.version)) || deployed[name] != 1 {
			h.t.Errorf("release %s: revision %d is %s and marked %q; %d revisions are deployed", name, r.version, r.status, r.ours, deployed[name])
		}
	}
	h.proveInventory()
}

func (h *home) proveInventory() {
	h.t.Helper()
	cm, err := h.Client.CoreV1().ConfigMaps(h.Namespace).Get(h.t.Context(), "forged-inventory-prod", metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	for id, pending := range pendingRecords(h.t, cm.BinaryData["inventory.json.gz"]) {
		if pending {
			h.t.Errorf("inventory: %s is pending", id)
		}
	}
}

// pendingRecords says of each record of an inventory whether it is pending.
func pendingRecords(t *testing.T, packed []byte) map[string]bool {
	t.Helper()
	var doc struct {
		Records []struct {
			ID      any
			Pending bool
			Entries []any
		}
	}
	if err := json.Unmarshal(unpack(t, packed), &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, r := range doc.Records {
		out[fmt.Sprint(r.ID)] = r.Pending
	}
	if len(out) == 0 {
		t.Error("the inventory is empty")
	}
	return out
}

func unpack(t *testing.T, packed []byte) []byte {
	t.Helper()
	b, err := gunzip(packed)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
