package kubernetes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// What each tool leaves on what it manages, and how it is named to people.
var foreignMarks = []struct {
	name, metadata, owner string
	forced                bool // policy.adopt "force" takes it over
}{
	{"nobody", `{}`, "", true},
	{"helm", `{labels: {app.kubernetes.io/managed-by: Helm}, annotations: {meta.helm.sh/release-name: shop, meta.helm.sh/release-namespace: old}}`, "Helm release old/shop", true},
	{"flux kustomization", `{labels: {kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: flux-system}}`, "Flux Kustomization flux-system/apps", true},
	{"flux release", `{labels: {helm.toolkit.fluxcd.io/name: shop, helm.toolkit.fluxcd.io/namespace: flux-system}, annotations: {meta.helm.sh/release-name: shop}}`, "Flux HelmRelease flux-system/shop", true},
	{"argo tracking", `{annotations: {argocd.argoproj.io/tracking-id: "store:/ConfigMap:shop/a"}}`, "Argo CD application store", true},
	{"argo label", `{labels: {argocd.argoproj.io/instance: store}}`, "Argo CD application store", true},
	{"kapp", `{labels: {kapp.k14s.io/app: "1700000000"}}`, "kapp app 1700000000", true},
	{"apply set", `{labels: {applyset.kubernetes.io/part-of: applyset-x-v1}}`, "kubectl's apply set applyset-x-v1", true},
	{"controller", `{ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: owner, uid: UID, controller: true}]}`, "ConfigMap owner", false},
}

func (b *bed) foreign(name, metadata string) Ref {
	b.t.Helper()
	obj := b.manifest(`{apiVersion: v1, kind: ConfigMap, metadata: ` + metadata + `, data: {theirs: "1", both: "2"}}`)
	obj.SetName(name)
	ref := RefOf(obj)
	mapping, err := b.c.Mapping(b.t.Context(), ref.GVK)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.c.resource(mapping, b.Namespace).Create(b.t.Context(), obj, metav1.CreateOptions{FieldManager: "somebody"}); err != nil {
		b.t.Fatal(err)
	}
	return ref
}

func (b *bed) admit(ref Ref, adopt string) Admission {
	b.t.Helper()
	a, err := b.c.Admit(b.t.Context(), Claim{Ref: ref, Owner: releaseID("shop"), Adopt: adopt})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// An object that another tool deploys, or that a person made, is not silently
// overwritten: who is named decides, and policy.adopt.
func TestAdoptionAsksWhoseItIs(t *testing.T) {
	b := newBed(t)
	absent := RefOf(b.configMap("absent", "{}"))
	for _, adopt := range []string{"", forge.AdoptMustMatch, forge.AdoptIfUnowned, forge.AdoptForce} {
		if a := b.admit(absent, adopt); a.Live != nil || a.Refused != "" || a.From != "" {
			t.Errorf("%s: nothing is there, and: %+v", adopt, a)
		}
	}
	owner := string(b.get(b.foreign("owner", "{}")).GetUID())
	for i, tt := range foreignMarks {
		ref := b.foreign(fmt.Sprintf("a%d", i), strings.ReplaceAll(tt.metadata, "UID", owner))
		for _, adopt := range []string{forge.AdoptMustMatch, forge.AdoptIfUnowned, forge.AdoptForce} {
			a := b.admit(ref, adopt)
			allowed := adopt == forge.AdoptForce && tt.forced || adopt == forge.AdoptIfUnowned && tt.owner == ""
			if (a.Refused == "") != allowed || allowed == (a.From == "") {
				t.Errorf("%s with %s: refused %q, from %q", tt.name, adopt, a.Refused, a.From)
			}
			if !allowed && (!strings.Contains(a.Refused, tt.owner) || a.Hint == "") {
				t.Errorf("%s with %s: %q does not name %s, or gives no way out: %q", tt.name, adopt, a.Refused, tt.owner, a.Hint)
			}
			err := a.Err("create")
			if (err == nil) != allowed || !allowed && reconcile.KindOf(err) != reconcile.Conflict {
				t.Errorf("%s with %s: %v", tt.name, adopt, err)
			}
			if !allowed {
				if err := b.c.TakeOver(t.Context(), a); err == nil && a.From != "" {
					t.Errorf("%s with %s was taken over", tt.name, adopt)
				}
			}
		}
	}
}

// What bears our mark is ours, but not what another environment has made.
func TestAdoptionOfOurOwn(t *testing.T) {
	b := newBed(t)
	mine := fmt.Sprintf(`{labels: {%s: %s}, annotations: {%s: prod/release/other}}`, LabelInstance, b.Instance, AnnotationOwner)
	if a := b.admit(b.foreign("mine", mine), ""); a.Refused != "" || a.From != "" {
		t.Errorf("ours: %+v", a)
	}
	handed := b.admit(b.foreign("handed", fmt.Sprintf(`{labels: {%s: %s}}`, LabelInstance, b.Instance)), "")
	if handed.Refused != "" || handed.From == "" {
		t.Errorf("handed over: %+v", handed)
	}
	elsewhere := fmt.Sprintf(`{labels: {%s: %s}, annotations: {%s: stage/release/shop}}`, LabelInstance, b.Instance, AnnotationOwner)
	ref := b.foreign("elsewhere", elsewhere)
	if a := b.admit(ref, forge.AdoptIfUnowned); !strings.Contains(a.Refused, "stage/release/shop") {
		t.Errorf("of another environment: %+v", a)
	}
	if a := b.admit(ref, forge.AdoptForce); a.Refused != "" {
		t.Errorf("of another environment, by force: %+v", a)
	}
	// Known by its uid: our label was taken off.
	ref = b.foreign("known", `{}`)
	a, err := b.c.Admit(t.Context(), Claim{Ref: ref, Owner: releaseID("shop"), UID: string(b.get(ref).GetUID())})
	if err != nil || a.Refused != "" {
		t.Errorf("known by its uid: %+v, %v", a, err)
	}
}

// Two forged on one cluster never take from each other, not by force either,
// for as long as the other one keeps an inventory.
func TestAdoptionFromAnotherForged(t *testing.T) {
	b := newBed(t)
	rival := NewClusters(Options{Instance: b.Instance + "r"})
	defer rival.Close()
	c, err := rival.Cluster(t.Context(), b.Target())
	if err != nil {
		t.Fatal(err)
	}
	inv, err := c.Inventory(t.Context(), "stage", b.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	id := forge.ID{Environment: "stage", Kind: forge.KindRelease, Name: "shop"}
	obj := b.configMap("theirs", `{a: "1", gone: "2"}`)
	ref := RefOf(obj)
	if err := inv.Begin(t.Context(), id, []Ref{ref}); err != nil {
		t.Fatal(err)
	}
	c.Stamp(obj, id)
	if _, err := c.Apply(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	for _, adopt := range []string{"", forge.AdoptIfUnowned, forge.AdoptForce} {
		if a := b.admit(ref, adopt); !strings.Contains(a.Refused, "another forged, "+b.Instance+"r") {
			t.Errorf("%s: %+v", adopt, a)
		}
	}
	if a := b.admit(ref, forge.AdoptForce); !strings.Contains(a.Refused, "namespace "+b.Namespace) {
		t.Errorf("where the other one is is not said: %s", a.Refused)
	}
	if err := inv.Drop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if a := b.admit(ref, forge.AdoptIfUnowned); a.Refused == "" {
		t.Error("taken over without force")
	}
	a := b.admit(ref, forge.AdoptForce)
	if a.Refused != "" || a.From == "" {
		t.Fatalf("the other one is gone: %+v", a)
	}
	if err := b.c.TakeOver(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	b.apply(releaseID("shop"), b.configMap("theirs", `{a: "1"}`))
	live := b.get(ref)
	if data := child(live.Object, "data"); len(data) != 1 || live.GetLabels()[LabelInstance] != b.Instance {
		t.Errorf("left over: %v, labels %v", data, live.GetLabels())
	}
}

// A manifest that another tool sent leaves nothing behind on an object that is
// taken over: no field, no mark, and not the copy that kubectl apply keeps, in
// which the values of a Secret stand.
func TestTakingOverLeavesNothingBehind(t *testing.T) {
	const copied = `{"apiVersion":"v1","kind":"Secret","data":{"password":"czNjcjN0"}}`
	for name, tt := range map[string]struct {
		manager, kind, metadata string
		patch                   types.PatchType
	}{
		"client-side apply": {"kubectl-client-side-apply", "Secret", `{annotations: {kubectl.kubernetes.io/last-applied-configuration: '` + copied + `'}}`, ""},
		"helm":              {"helm", "ConfigMap", `{labels: {app.kubernetes.io/managed-by: Helm}, annotations: {meta.helm.sh/release-name: s, meta.helm.sh/release-namespace: ns}}`, ""},
		"argo":              {"argocd-controller", "ConfigMap", `{labels: {app.kubernetes.io/instance: store}, annotations: {argocd.argoproj.io/tracking-id: "store:/ConfigMap:n/a"}}`, ""},
		"flux":              {"kustomize-controller", "ConfigMap", `{labels: {kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: f}}`, types.ApplyPatchType},
		"kapp":              {"kapp", "ConfigMap", `{labels: {kapp.k14s.io/app: "1", kapp.k14s.io/association: v1.x}, annotations: {kapp.k14s.io/identity: x}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			theirs := b.manifest(`{apiVersion: v1, kind: ` + tt.kind + `, metadata: ` + tt.metadata + `, data: {both: dHdv, gone: b25l}}`)
			theirs.SetName("a")
			ref := RefOf(theirs)
			mapping, err := b.c.Mapping(t.Context(), ref.GVK)
			if err != nil {
				t.Fatal(err)
			}
			api := b.c.resource(mapping, b.Namespace)
			if tt.patch != "" {
				b.edit(ref, tt.manager, tt.patch, string(mustJSON(t, theirs.Object)))
			} else if _, err := api.Create(t.Context(), theirs, metav1.CreateOptions{FieldManager: tt.manager}); err != nil {
				t.Fatal(err)
			}
			b.edit(ref, "somebody", merge, `{"data":{"added":"b25l"}}`)

			ours := b.manifest(`{apiVersion: v1, kind: ` + tt.kind + `, metadata: {name: a}, data: {both: dHdv}}`)
			stale := b.admit(ref, forge.AdoptForce)
			b.edit(ref, "somebody", merge, `{"data":{"added":"dHdv"}}`)
			if err := b.c.TakeOver(t.Context(), stale); reconcile.KindOf(err) != reconcile.Stale || err == nil {
				t.Errorf("taken over although it had changed: %v", err)
			}
			if err := b.c.TakeOver(t.Context(), b.admit(ref, forge.AdoptForce)); err != nil {
				t.Fatal(err)
			}
			b.apply(releaseID("shop"), ours)
			live := b.get(ref)
			if data := slices.Sorted(keysOf(child(live.Object, "data"))); !slices.Equal(data, []string{"added", "both"}) {
				t.Errorf("data %v, want what we send and what a person added", data)
			}
			text, _ := json.Marshal(live.Object)
			for _, mark := range []string{"last-applied", "meta.helm.sh", "argocd.argoproj.io", "fluxcd.io", "kapp.k14s.io", tt.manager + `"`} {
				if strings.Contains(string(text), mark) {
					t.Errorf("%s is left: %s", mark, text)
				}
			}
			again := b.admit(ref, "")
			if again.Refused != "" || again.From != "" {
				t.Errorf("taken over, and: %+v", again)
			}
		})
	}
}

func keysOf(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// What was kept is nobody's to others, and ours to take up again.
func TestKeptIsTakenUpAgainByWhoMadeIt(t *testing.T) {
	b := newBed(t)
	id := releaseID("shop")
	e := b.own(id, b.configMap("a", `{x: "1"}`))[0]
	e.Keep = true
	if got, err := b.inventory().Prune(t.Context(), id, e); err != nil || got != PrunedKept {
		t.Fatalf("%s, %v", got, err)
	}
	live := b.get(e.Ref)
	if live.GetLabels()[LabelInstance] != "" || live.GetAnnotations()[AnnotationOwner] != "" || entryOf(live.GetManagedFields(), b.c.manager) != nil {
		t.Errorf("our marks are left: %v %v %v", live.GetLabels(), live.GetAnnotations(), live.GetManagedFields())
	}
	if child(live.Object, "data")["x"] != "1" {
		t.Error("its data is gone")
	}
	if a := b.admit(e.Ref, ""); a.Refused != "" || a.From == "" {
		t.Errorf("by the same resource: %+v", a)
	}
	other, err := b.c.Admit(t.Context(), Claim{Ref: e.Ref, Owner: releaseID("another")})
	if err != nil || other.Refused == "" {
		t.Errorf("by another resource: %+v, %v", other, err)
	}
	if err := b.c.TakeOver(t.Context(), b.admit(e.Ref, "")); err != nil {
		t.Fatal(err)
	}
	b.apply(id, b.configMap("a", `{x: "1"}`))
	if note := b.get(e.Ref).GetAnnotations()[AnnotationKept]; note != "" {
		t.Errorf("still noted as kept: %s", note)
	}
}

// An object is pruned by the uid that was recorded and by nothing else: neither
// a new object under the old name, nor one without our mark, nor one that has
// become another resource's, nor data.
func TestPrune(t *testing.T) {
	b := newBed(t)
	id, other := releaseID("a"), releaseID("b")
	inv := b.inventory()
	names := []string{"plain", "replaced", "unmarked", "moved", "kept-by-helm", "kept-by-hand", "gone", "announced", "controlled", "taken", "announced-elsewhere", "scribbled", "flux", "helm"}
	var objs []*unstructured.Unstructured
	for _, name := range names {
		objs = append(objs, b.configMap(name, `{x: "1"}`))
	}
	claim := b.manifest(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`)
	entries := map[string]Entry{}
	for _, e := range b.own(id, append(objs, claim)...) {
		entries[e.Ref.Name] = e
	}
	cms := b.Client.CoreV1().ConfigMaps(b.Namespace)
	for _, name := range []string{"replaced", "gone"} {
		if err := cms.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b.apply(id, b.configMap("replaced", `{x: "theirs"}`))
	b.edit(entries["unmarked"].Ref, "kubectl-label", merge, `{"metadata":{"labels":{"`+LabelInstance+`":null}}}`)
	b.edit(entries["kept-by-helm"].Ref, "x", merge, `{"metadata":{"annotations":{"helm.sh/resource-policy":"keep"}}}`)
	b.edit(entries["kept-by-hand"].Ref, "x", merge, `{"metadata":{"annotations":{"`+AnnotationKeep+`":"true"}}}`)
	owner := string(b.get(b.foreign("owner", "{}")).GetUID())
	b.edit(entries["controlled"].Ref, "x", merge, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"`+owner+`","controller":true}]}}`)
	b.own(other, b.configMap("moved", `{x: "1"}`))
	announced := Entry{Ref: entries["announced"].Ref}
	// Another environment has taken them over by force: the uid is the same.
	elsewhere := forge.ID{Environment: "staging", Kind: forge.KindRelease, Name: "a"}
	b.apply(elsewhere, b.configMap("taken", `{x: "1"}`))
	b.apply(elsewhere, b.configMap("announced-elsewhere", `{x: "1"}`))
	b.edit(entries["flux"].Ref, "kustomize-controller", merge, `{"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":"apps"}}}`)
	b.edit(entries["helm"].Ref, "helm", merge, `{"metadata":{"annotations":{"meta.helm.sh/release-name":"other"}}}`)
	b.edit(entries["scribbled"].Ref, "x", merge, `{"metadata":{"annotations":{"`+AnnotationOwner+`":"nobody"}}}`)

	for _, tt := range []struct {
		entry Entry
		want  Pruned
		stays bool
	}{
		{entries["plain"], PrunedDeleted, false},
		{entries["plain"], PrunedGone, false},
		{entries["replaced"], PrunedForeign, true},
		{entries["unmarked"], PrunedForeign, true},
		{entries["moved"], PrunedForeign, true},
		{entries["kept-by-helm"], PrunedKept, true},
		{entries["kept-by-hand"], PrunedKept, true},
		{entries["kept-by-hand"], PrunedForeign, true}, // let go of, so not ours any more
		{entries["gone"], PrunedGone, false},
		{entries["controlled"], PrunedForeign, true},
		{announced, PrunedDeleted, false},
		{entries["taken"], PrunedForeign, true},
		{Entry{Ref: entries["announced-elsewhere"].Ref}, PrunedForeign, true},
		{entries["scribbled"], PrunedDeleted, false},
		{entries["flux"], PrunedForeign, true},
		{entries["helm"], PrunedForeign, true},
		{entries["data"], PrunedKept, true},
	} {
		got, err := inv.Prune(t.Context(), id, tt.entry)
		if err != nil || got != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.entry.Ref, got, err, tt.want)
		}
		if live := b.get(tt.entry.Ref); (live != nil) != tt.stays {
			t.Errorf("%s: is there: %v, want %v", tt.entry.Ref, live != nil, tt.stays)
		}
	}
}
