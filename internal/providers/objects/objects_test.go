package objects

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// pair is a kind of two objects, one of which is hidden.
type pair struct {
	text, secret string
	waiting      error
}

func (p *pair) want(_ context.Context, l *Look) ([]Object, error) {
	if p.waiting != nil {
		return nil, p.waiting
	}
	object := func(kind, name, field, key, value string) *unstructured.Unstructured {
		obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, field: map[string]any{key: value}}}
		obj.SetNamespace(l.Namespace)
		obj.SetName(name)
		return obj
	}
	return []Object{
		{Manifest: object("ConfigMap", "open", "data", "key", p.text)},
		{Manifest: object("ConfigMap", "hidden", "binaryData", "key", base64.StdEncoding.EncodeToString([]byte(p.secret))), Desired: p.text, Hidden: true, Keep: true},
	}, nil
}

func newPair(t *testing.T) (*rig, *pair, func() reconcile.Request) {
	p := &pair{text: "one", secret: "c4n4ry"}
	r := newRig(t, func(c *kubernetes.Clusters) reconcile.Provider {
		return New(c, Kind{
			Name: forge.KindConfig, Want: p.want,
			Namespace: func(s forge.Spec) (string, bool) { spec, ok := s.(forge.ConfigSpec); return spec.Namespace, ok },
			Gone:      func(namespace string) forge.Spec { return forge.ConfigSpec{Namespace: namespace} },
		})
	})
	return r, p, func() reconcile.Request {
		req := r.request(forge.KindConfig, "pair", forge.ConfigSpec{Namespace: r.Namespace})
		req.Explain = true
		return req
	}
}

func TestSetOfObjects(t *testing.T) {
	t.Parallel()
	r, p, ask := newPair(t)
	from := forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}

	// An input that is missing is no failure, and what is there is still told.
	p.waiting = reconcile.WaitingFor(from, "checksum")
	o, err := r.p.Observe(t.Context(), ask())
	if err != nil || o.Exists || o.Health.Status != reconcile.Progressing {
		t.Errorf("without its input: %+v, %v", o.Health, err)
	}
	if _, err := r.p.Plan(t.Context(), ask(), o); reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("without its input: %v", err)
	}
	p.waiting = nil

	// Both are made in one step, and both are healed, each by its own.
	_, steps := r.plan(ask())
	if s := r.single(steps); s.Object != "" || len(s.Changes) != 2 {
		t.Errorf("planned %+v", s)
	}
	if o = r.converge(ask()); o.Objects != 2 || o.Health.Status != reconcile.Ready {
		t.Errorf("%+v", o)
	}
	cms := r.Client.CoreV1().ConfigMaps(r.Namespace)
	for _, name := range []string{"open", "hidden"} {
		patch := `{"data":{"key":"edited"}}`
		if name == "hidden" {
			patch = `{"binaryData":{"key":"` + base64.StdEncoding.EncodeToString([]byte("c4n4ry2")) + `"}}`
		}
		if _, err := cms.Patch(t.Context(), name, types.MergePatchType, []byte(patch), person); err != nil {
			t.Fatal(err)
		}
	}
	_, steps = r.await(ask(), "two edits", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) == 2 })
	for _, s := range steps {
		if s.Rollout() || s.Reason.Writer != person.FieldManager || len(s.Changes) != 1 {
			t.Errorf("planned %+v", s)
		}
		if shown := s.Changes[0].From + s.Changes[0].To; strings.HasSuffix(s.Object, "/hidden") != (shown == "") {
			t.Errorf("%s shows %q", s.Object, shown)
		}
	}
	// Looking again at the same two versions asks nothing.
	r.asked()
	if _, again := r.plan(ask()); len(again) != 2 || again[0].Reason.Writer != steps[0].Reason.Writer || len(r.asked()) > 0 {
		t.Errorf("looked again: %v", again)
	}
	r.converge(ask())

	// A step whose object has changed since is not applied.
	p.text = "two"
	_, steps = r.plan(ask())
	if err := cms.Delete(t.Context(), "open", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.await(ask(), "the deletion", func(o reconcile.Observed, _ []reconcile.Step) bool { return o.Health.Status == reconcile.Progressing })
	if _, err := r.p.Apply(t.Context(), ask(), steps[0]); reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("an overtaken step: %v", err)
	}
	r.converge(ask())

	// At its end one is deleted and the other is let go of.
	gone := ask()
	gone.Remove = true
	_, steps = r.plan(gone)
	if s := r.single(steps); s.Deletes != 1 || len(s.Changes) != 2 || len(s.Destroys) != 0 {
		t.Errorf("planned %+v", s)
	}
	r.converge(gone)
	kept, err := cms.Get(t.Context(), "hidden", metav1.GetOptions{})
	if err != nil || kept.Labels[kubernetes.LabelInstance] != "" {
		t.Errorf("kept: %v, %v", kept.Labels, err)
	}
	if list, err := cms.List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance}); err != nil || len(list.Items) > 0 {
		t.Errorf("left: %v, %v", list.Items, err)
	}
}

// In mode heal nothing new comes in, and what was put in last is put back as
// far as it is known: an edit is healed unless something new is wanted too.
func TestHealAndRolloutAreTwoThings(t *testing.T) {
	t.Parallel()
	r, p, ask := newPair(t)
	r.converge(ask())
	p.text = "two"
	cms := r.Client.CoreV1().ConfigMaps(r.Namespace)
	if _, err := cms.Patch(t.Context(), "open", types.MergePatchType, []byte(`{"data":{"key":"edited"}}`), person); err != nil {
		t.Fatal(err)
	}
	_, steps := r.plan(ask())
	for _, s := range steps {
		if !s.Rollout() {
			t.Errorf("would bring in something new and is called %s", s.Action)
		}
	}
	r.converge(ask())
	if cm, err := cms.Get(t.Context(), "open", metav1.GetOptions{}); err != nil || cm.Data["key"] != "two" {
		t.Errorf("%v, %v", cm.Data, err)
	}
}

// Between the last look and the write somebody puts another object in the place
// of ours. It is not written over, although no watch has told of it yet.
func TestUpdateDoesNotWriteOverAnotherObject(t *testing.T) {
	t.Parallel()
	r, p, ask := newPair(t)
	r.converge(ask())
	p.text = "two"
	_, steps := r.plan(ask())
	ch := r.single(steps).Detail.(*change)
	api := r.Client.CoreV1().ConfigMaps(r.Namespace)
	if err := api.Delete(t.Context(), "open", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "open"}, Data: map[string]string{"key": "theirs"}}
	if _, err := api.Create(t.Context(), theirs, metav1.CreateOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	if err := ch.look.roll(t.Context(), ch.apply); reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("error %v", err)
	}
	if live, err := api.Get(t.Context(), "open", metav1.GetOptions{}); err != nil || live.Data["key"] != "theirs" {
		t.Errorf("it was written over: %v, err %v", live.Data, err)
	}
}
