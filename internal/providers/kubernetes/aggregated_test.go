package kubernetes

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"

	"forged.dev/forged/internal/reconcile"
)

// gadgets is an API server of its own behind the cluster's aggregator. Like
// some of those, it keeps no managedFields.
type gadgets struct {
	group   string
	applies bool // it takes server-side applies, as merges

	mu      sync.Mutex
	rv      int
	objects map[string]map[string]any // by namespace/name
	events  []gadgetEvent
	moved   chan struct{}
	patches []string // content types of patches
}

type gadgetEvent struct {
	rv     int
	kind   string
	object map[string]any
}

func (b *bed) aggregated(applies bool) *gadgets {
	b.t.Helper()
	g := &gadgets{group: b.Instance + ".aggregated.forged.dev", applies: applies, objects: map[string]map[string]any{}, moved: make(chan struct{})}
	srv := httptest.NewUnstartedServer(g)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // the aggregator hangs up now and then
	srv.StartTLS()
	b.t.Cleanup(srv.Close)
	b.t.Cleanup(srv.CloseClientConnections)
	at, err := url.Parse(srv.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	b.create(b.manifest(`{apiVersion: v1, kind: Service, metadata: {name: gadgets}, spec: {type: ExternalName, externalName: localhost}}`), "test")
	services := b.c.Dynamic().Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	name := "v1." + g.group
	_, err = services.Create(b.t.Context(), parse(b.t, fmt.Sprintf(`
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: %s}
spec:
  group: %s
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: gadgets, namespace: %s, port: %s}`, name, g.group, b.Namespace, at.Port())), metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := contextForCleanup()
		defer cancel()
		if err := services.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			b.t.Error(err)
		}
	})
	b.awaitGroup(g.group)
	// Discovery knows it a moment before the aggregator passes requests on.
	any := b.c.Dynamic().Resource(schema.GroupVersionResource{Group: g.group, Version: "v1", Resource: "gadgets"}).Namespace(b.Namespace)
	b.await("the aggregator", func() bool {
		_, err := any.Get(b.t.Context(), "none", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	return g
}

func (g *gadgets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	w.Header().Set("Content-Type", "application/json")
	answer := func(code int, v any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	fail := func(code int, reason metav1.StatusReason) {
		answer(code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason, Message: string(reason)})
	}
	gv := g.group + "/v1"
	switch {
	case len(path) == 3 && path[1] == g.group:
		answer(200, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv,
			APIResources: []metav1.APIResource{{Name: "gadgets", SingularName: "gadget", Namespaced: true, Kind: "Gadget", Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "watch"}}},
		})
		return
	case len(path) < 4 || path[1] != g.group:
		fail(404, metav1.StatusReasonNotFound)
		return
	case strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata"):
		fail(406, metav1.StatusReasonNotAcceptable)
		return
	}
	query := r.URL.Query()
	if len(path) != 7 && r.Method == http.MethodGet {
		if query.Get("sendInitialEvents") != "" {
			fail(422, metav1.StatusReasonInvalid)
			return
		}
		g.list(w, r, gv)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Method == http.MethodPost {
		obj := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&obj); err != nil {
			fail(400, metav1.StatusReasonBadRequest)
			return
		}
		answer(201, g.store(path[4], obj))
		return
	}
	obj, ok := g.objects[path[4]+"/"+path[6]]
	if r.Method == http.MethodPatch {
		kind := r.Header.Get("Content-Type")
		g.patches = append(g.patches, kind)
		apply := strings.Contains(kind, "apply-patch")
		if apply && !g.applies {
			fail(415, metav1.StatusReasonUnsupportedMediaType)
			return
		}
		if !ok && !apply {
			fail(404, metav1.StatusReasonNotFound)
			return
		}
		patch := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			fail(400, metav1.StatusReasonBadRequest)
			return
		}
		if obj == nil {
			obj = map[string]any{}
		}
		was := compact(obj)
		merged := merged(obj, patch)
		if query.Get("dryRun") != "" || compact(merged) == was {
			answer(200, merged)
			return
		}
		code := 200
		if !ok {
			code = 201
		}
		answer(code, g.store(path[4], merged))
		return
	}
	if !ok {
		fail(404, metav1.StatusReasonNotFound)
		return
	}
	if r.Method == http.MethodDelete {
		delete(g.objects, path[4]+"/"+path[6])
		g.tell("DELETED", obj)
	}
	answer(200, obj)
}

// merged is a merge patch applied to a copy.
func merged(obj, patch map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, obj)
	for k, v := range patch {
		inner, isMap := v.(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case isMap:
			out[k] = merged(child(out, k), inner)
		default:
			out[k] = v
		}
	}
	return out
}

func (g *gadgets) store(namespace string, obj map[string]any) map[string]any {
	meta := maps.Clone(child(obj, "metadata"))
	meta["namespace"] = namespace
	if meta["uid"] == nil {
		meta["uid"] = string(uuid.NewUUID())
	}
	delete(meta, "resourceVersion")
	obj = maps.Clone(obj)
	obj["metadata"] = meta
	if spec := child(obj, "spec"); spec != nil && spec["size"] == nil {
		spec = maps.Clone(spec)
		spec["size"] = 3
		obj["spec"] = spec
	}
	key := namespace + "/" + meta["name"].(string)
	kind := "MODIFIED"
	if g.objects[key] == nil {
		kind = "ADDED"
	}
	g.tell(kind, obj)
	g.objects[key] = obj
	return obj
}

func (g *gadgets) tell(kind string, obj map[string]any) {
	g.rv++
	child(obj, "metadata")["resourceVersion"] = strconv.Itoa(g.rv)
	g.events = append(g.events, gadgetEvent{g.rv, kind, obj})
	close(g.moved)
	g.moved = make(chan struct{})
}

func (g *gadgets) list(w http.ResponseWriter, r *http.Request, gv string) {
	query := r.URL.Query()
	key, want, _ := strings.Cut(query.Get("labelSelector"), "=")
	selected := func(obj map[string]any) bool {
		return key == "" || child(child(obj, "metadata"), "labels")[key] == want
	}
	if query.Get("watch") == "" {
		g.mu.Lock()
		defer g.mu.Unlock()
		items := []any{}
		for _, name := range slices.Sorted(maps.Keys(g.objects)) {
			if selected(g.objects[name]) {
				items = append(items, g.objects[name])
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"kind": "GadgetList", "apiVersion": gv, "items": items,
			"metadata": map[string]any{"resourceVersion": strconv.Itoa(g.rv)},
		})
		return
	}
	from, _ := strconv.Atoi(query.Get("resourceVersion"))
	w.(http.Flusher).Flush()
	for {
		g.mu.Lock()
		events, moved := slices.Clone(g.events), g.moved
		g.mu.Unlock()
		for _, e := range events {
			if e.rv <= from {
				continue
			}
			from = e.rv
			if selected(e.object) {
				_ = json.NewEncoder(w).Encode(map[string]any{"type": e.kind, "object": e.object})
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-moved:
		case <-r.Context().Done():
			return
		}
	}
}

// An API behind the aggregator that records no field ownership, or knows no
// server-side apply at all: what we set there is compared by value.
func TestKindsWithoutManagedFields(t *testing.T) {
	for name, applies := range map[string]bool{"that take applies": true, "that know no apply": false} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			g := b.aggregated(applies)
			id := releaseID("gadget")
			gadget := func(spec string) string {
				return "{apiVersion: " + g.group + "/v1, kind: Gadget, metadata: {name: one}, spec: " + spec + "}"
			}
			obj := b.manifest(gadget(`{colour: red, tags: [a, b]}`))
			ref := RefOf(obj)
			first := b.own(id, obj)[0]
			if first.Baseline.Digest == noEntry || !first.Baseline.Lens.has(markProjects) {
				t.Fatalf("baseline %+v", first.Baseline)
			}
			b.still(id, "after the first apply")
			b.still(id, "once more")
			if all := b.requests.all(); len(all) != 0 {
				t.Errorf("looking costs %q", all)
			}
			if again := b.apply(id, obj); again.Baseline.Digest != first.Baseline.Digest {
				t.Error("applying again moves the digest")
			}

			// Not ours: a default that changes.
			live := b.edit(ref, "somebody", merge, `{"spec":{"size":9}}`)
			b.seen(ref, live.GetResourceVersion())
			b.quiet(id, causeLive)
			b.still(id, "after an edit of what is not ours")

			b.edit(ref, "somebody", merge, `{"spec":{"colour":"blue"}}`)
			b.event(id, causeLive)
			if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
				t.Fatalf("drifts %+v", d)
			}
			before := b.get(ref)
			stamped := obj.DeepCopy()
			b.c.Stamp(stamped, id)
			foreseen, err := b.c.DryRun(t.Context(), stamped)
			if err != nil {
				t.Fatal(err)
			}
			if reason, _ := Explain(before, foreseen, b.c.Manager()); !slices.Equal(reason.Paths, []string{"spec.colour"}) {
				t.Errorf("foreseen: %+v", reason)
			}
			a := b.heal(id, obj)
			reason, changes := Explain(before, a.Object, b.c.Manager())
			if !slices.Equal(reason.Paths, []string{"spec.colour"}) || len(changes) != 1 || changes[0].From != "blue" {
				t.Errorf("reason %+v, changes %+v", reason, changes)
			}
			b.still(id, "after the heal")

			// What we set and do not set any more goes.
			b.heal(id, b.manifest(gadget(`{colour: red}`)))
			if got := compact(child(b.get(ref).Object, "spec")); got != `{"colour":"red","size":9}` {
				t.Errorf("spec %s", got)
			}
			b.still(id, "without the tags")

			b.restart()
			b.still(id, "after a restart")
			live = b.edit(ref, "somebody", merge, `{"spec":{"colour":"blue"}}`)
			b.event(id, causeLive)
			b.heal(id, b.manifest(gadget(`{colour: red}`)))
			b.still(id, "after a restart and a heal")

			if err := b.c.Delete(t.Context(), ref, string(live.GetUID())); err != nil {
				t.Fatal(err)
			}
			b.event(id, causeLive)
			if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonDeleted {
				t.Fatalf("drifts %+v", d)
			}
			b.heal(id, b.manifest(gadget(`{colour: red}`)))
			b.still(id, "at the end")
			g.mu.Lock()
			defer g.mu.Unlock()
			if n := len(slices.DeleteFunc(slices.Clone(g.patches), func(kind string) bool { return !strings.Contains(kind, "apply-patch") })); !applies && n > 2 {
				t.Errorf("a server that knows no apply was asked %d times", n)
			}
		})
	}
}

// An aggregated API that does not answer hides its kinds from discovery. They are
// served all the same, and a chart that asks for them is not told otherwise.
func TestKindsOfAnAPIThatIsDown(t *testing.T) {
	b := newBed(t)
	g := b.aggregated(true)
	kind := g.group + "/v1/Gadget"
	lists := func() bool {
		t.Helper()
		_, apis, err := b.c.Discovery(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(apis, kind)
	}
	b.await("the kind to be listed", func() bool { b.c.ResetDiscovery(); return lists() })
	if b.c.Silent(kind) {
		t.Error("it is silent")
	}
	service := Ref{GVK: schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"}, Name: "v1." + g.group}
	port := b.field(service, "spec.service.port")
	b.edit(service, "test", merge, `{"spec":{"service":{"port":1}}}`)
	b.await("it to be down", func() bool {
		b.c.ResetDiscovery()
		if !lists() {
			t.Fatal("the kind has vanished with its server")
		}
		return b.c.Silent(kind)
	})
	if !b.c.Silent(g.group+"/v1") || b.c.Silent("apps/v1/Deployment") || b.c.Silent(g.group+"/v1beta1") {
		t.Error("others are taken for silent, or it is not")
	}
	b.edit(service, "test", merge, `{"spec":{"service":{"port":`+port+`}}}`)
	b.await("it to be up", func() bool { b.c.ResetDiscovery(); return lists() && !b.c.Silent(kind) })
}
