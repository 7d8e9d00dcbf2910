package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/hack/child"
)

// deed is something that is done to an environment, as often as its weight
// says.
type deed struct {
	name   string
	weight int
	do     func(context.Context) error
}

func (s *soak) deeds() []deed {
	return []deed{
		{"edit a field", 40, s.onAny(s.editField)},
		{"remove a field", 12, s.onAny(s.removeField)},
		{"delete", 15, s.onAny(s.remove)},
		{"orphan", 3, s.onAny(s.orphan)},
		{"scale", 8, s.scale},
		{"wipe the ownership", 5, s.onAny(s.wipe)},
		{"take over", 5, s.onAny(s.takeOver)},
		{"take our label off", 4, s.onAny(s.unlabel)},
		{"add a label of one's own", 4, s.onAny(s.label)},
		{"add what is strict", 3, s.addStrict},
		{"delete a Job", 2, s.removeJob},
		{"helm upgrade", 2, s.helmUpgrade},
		{"save forge.cue", 3, s.save},
		{"ask for verification", 2, func(ctx context.Context) error { return s.verified(ctx, 0) }},
		{"cut a line", 2, s.cutLine},
		{"kill an API server", 1, s.killServers},
		{"kill who acts", 1, func(ctx context.Context) error { return s.takeOverFrom(ctx, kill) }},
		{"stop who acts", 1, func(ctx context.Context) error { return s.takeOverFrom(ctx, (*child.Child).Stop) }},
		{"kill who stands by", 1, func(ctx context.Context) error {
			d, err := s.holder(ctx, patience, s.daemons...)
			if err != nil {
				return err
			}
			return s.other(d).restart(ctx, kill)
		}},
	}
}

// kill is kill -9.
func kill(c *child.Child) error {
	c.Kill()
	return nil
}

// meddle does one deed.
func (s *soak) meddle(ctx context.Context) (string, error) {
	deeds, sum := s.deeds(), 0
	for _, d := range deeds {
		sum += d.weight
	}
	n := s.chance.IntN(sum)
	i := slices.IndexFunc(deeds, func(d deed) bool { n -= d.weight; return n < 0 })
	return deeds[i].name, deeds[i].do(ctx)
}

// object is one that somebody is about to do something to.
type object struct {
	*unstructured.Unstructured
	api dynamic.ResourceInterface
}

var errNotThis = errors.New("the API server does not let anybody do that here")

// onAny does something to an object of forged's, to another one where the API
// server does not allow it.
func (s *soak) onAny(do func(context.Context, object) error) func(context.Context) error {
	return func(ctx context.Context) error {
		const attempts = 20
		for range attempts {
			o, err := s.pick(ctx)
			if err != nil {
				return err
			}
			err = do(ctx, o)
			switch {
			case errors.Is(err, errNotThis), apierrors.IsInvalid(err), apierrors.IsNotFound(err),
				apierrors.IsConflict(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
				continue
			case err != nil:
				return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
			}
			return nil
		}
		return nil // so be it
	}
}

func (s *soak) pick(ctx context.Context) (object, error) {
	for {
		if err := ctx.Err(); err != nil {
			return object{}, err
		}
		kind := s.kinds[s.chance.IntN(len(s.kinds))]
		api := s.objects.Resource(kind).Namespace(namespace)
		list, err := api.List(ctx, metav1.ListOptions{})
		if err != nil {
			return object{}, err
		}
		ours := slices.DeleteFunc(list.Items, func(o unstructured.Unstructured) bool {
			return !interesting(o) || o.GetName() == bystanderName || manager(&o) == "" || o.GetDeletionTimestamp() != nil
		})
		if len(ours) > 0 {
			return object{&ours[s.chance.IntN(len(ours))], api}, nil
		}
	}
}

// manager is forged's field manager on an object; empty: it has none.
func manager(o *unstructured.Unstructured) string {
	for _, e := range o.GetManagedFields() {
		if strings.HasPrefix(e.Manager, "forged/") && e.Operation == metav1.ManagedFieldsOperationApply {
			return e.Manager
		}
	}
	return ""
}

// owned are JSON pointers to the values that forged has applied.
func owned(o *unstructured.Unstructured) ([]string, error) {
	var all []string
	for _, e := range o.GetManagedFields() {
		if !strings.HasPrefix(e.Manager, "forged/") || e.FieldsV1 == nil {
			continue
		}
		set := fieldpath.NewSet()
		if err := set.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
			return nil, err
		}
		set.Leaves().Iterate(func(p fieldpath.Path) {
			// Who renames an element has added one of their own, and that
			// stays theirs, wherever the API allows both to be there.
			if o.GetKind() != "Service" && namesElement(p) {
				return
			}
			if at, ok := pointer(o.Object, p); ok {
				all = append(all, at)
			}
		})
	}
	return all, nil
}

// namesElement tells whether a field is what an element of a list is known by.
func namesElement(p fieldpath.Path) bool {
	if len(p) < 2 || p[len(p)-1].FieldName == nil || p[len(p)-2].Key == nil {
		return false
	}
	for _, key := range *p[len(p)-2].Key {
		if key.Name == *p[len(p)-1].FieldName {
			return true
		}
	}
	return false
}

// pointer is the place of a path in an object, where a scalar is.
func pointer(in any, path fieldpath.Path) (string, bool) {
	at := ""
	for _, e := range path {
		switch {
		case e.FieldName != nil:
			m, ok := in.(map[string]any)
			if !ok {
				return "", false
			}
			in = m[*e.FieldName]
			at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(*e.FieldName)
		case e.Key != nil:
			list, ok := in.([]any)
			if !ok {
				return "", false
			}
			i := slices.IndexFunc(list, func(item any) bool {
				m, ok := item.(map[string]any)
				for _, k := range *e.Key {
					ok = ok && fmt.Sprint(m[k.Name]) == fmt.Sprint(k.Value.Unstructured())
				}
				return ok
			})
			if i < 0 {
				return "", false
			}
			in, at = list[i], fmt.Sprintf("%s/%d", at, i)
		default:
			return "", false
		}
	}
	switch in.(type) {
	case string, bool, int64, float64:
		return at, true
	}
	return "", false
}

func (s *soak) field(o object) (string, any, error) {
	all, err := owned(o.Unstructured)
	if err != nil {
		return "", nil, err
	}
	if len(all) == 0 {
		return "", nil, errNotThis
	}
	at := all[s.chance.IntN(len(all))]
	var value any = o.Object
	for _, key := range strings.Split(at, "/")[1:] {
		key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
		switch in := value.(type) {
		case map[string]any:
			value = in[key]
		case []any:
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil {
				return "", nil, err
			}
			value = in[i]
		}
	}
	return at, value, nil
}

func (s *soak) patch(ctx context.Context, o object, patch ...map[string]any) error {
	b, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = o.api.Patch(ctx, o.GetName(), types.JSONPatchType, b, metav1.PatchOptions{FieldManager: "somebody"})
	return err
}

func (s *soak) editField(ctx context.Context, o object) error {
	at, value, err := s.field(o)
	if err != nil {
		return err
	}
	switch v := value.(type) {
	case string:
		value = v + "x"
		if o.GetKind() == "Secret" {
			value = "ZWRpdGVk" // base64, as the API wants it
		}
	case bool:
		value = !v
	case int64:
		value = v + 1
	case float64:
		value = v + 1
	}
	return s.patch(ctx, o, map[string]any{"op": "replace", "path": at, "value": value})
}

func (s *soak) removeField(ctx context.Context, o object) error {
	at, _, err := s.field(o)
	if err != nil {
		return err
	}
	return s.patch(ctx, o, map[string]any{"op": "remove", "path": at})
}

// remove deletes, and waits until it is back: a generated secret that goes
// while nobody watches is lost for good, and forged says so instead of making
// another one.
func (s *soak) remove(ctx context.Context, o object) error {
	if o.GetKind() == "PersistentVolumeClaim" {
		return errNotThis // it would stay in use, and go later
	}
	if s.touched[o.GetName()]++; o.GetKind() == "Secret" && s.touched[o.GetName()] > 4 {
		return errNotThis // it would be a fight, and come back late
	}
	policy := metav1.DeletePropagationBackground
	if err := o.api.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		return err
	}
	if o.GetKind() != "Secret" {
		return nil
	}
	d, err := s.holder(ctx, patience, s.daemons...)
	if err != nil {
		return err
	}
	return child.Until(ctx, d.Child, patience, "the return of Secret "+o.GetName(), func() (bool, error) {
		_, err := o.api.Get(ctx, o.GetName(), metav1.GetOptions{})
		return err == nil, err
	})
}

func (s *soak) orphan(ctx context.Context, o object) error {
	if kind := o.GetKind(); kind != "Deployment" && kind != "StatefulSet" {
		return errNotThis
	}
	policy := metav1.DeletePropagationOrphan
	return o.api.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &policy})
}

func (s *soak) scale(ctx context.Context) error {
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	api := s.objects.Resource(deployments).Namespace(namespace)
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	name := list.Items[s.chance.IntN(len(list.Items))].GetName()
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, s.chance.IntN(5))
	_, err = api.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-scale"}, "scale")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (s *soak) wipe(ctx context.Context, o object) error {
	return s.patch(ctx, o, map[string]any{"op": "replace", "path": "/metadata/managedFields", "value": []any{map[string]any{}}})
}

// takeOver is server-side apply by another manager, with force.
func (s *soak) takeOver(ctx context.Context, o object) error {
	labels := o.GetLabels()
	if len(labels) == 0 {
		return errNotThis
	}
	key := slices.Sorted(func(yield func(string) bool) {
		for k := range labels {
			if !yield(k) {
				return
			}
		}
	})[s.chance.IntN(len(labels))]
	apply := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(),
		"metadata": map[string]any{"name": o.GetName(), "namespace": namespace, "labels": map[string]any{key: "taken-over"}},
	}}
	_, err := o.api.Apply(ctx, o.GetName(), apply, metav1.ApplyOptions{FieldManager: "another-tool", Force: true})
	return err
}

func (s *soak) unlabel(ctx context.Context, o object) error {
	return s.patch(ctx, o, map[string]any{"op": "remove", "path": "/metadata/labels/forged.dev~1instance"})
}

func (s *soak) label(ctx context.Context, o object) error {
	return s.patch(ctx, o, map[string]any{"op": "add", "path": "/metadata/labels/of-ones-own", "value": fmt.Sprint(s.chance.IntN(1000))})
}

// What forge.cue says in turn; the first is how it begins and ends.
var (
	levels = []string{"INFO", "DEBUG", "WARNING"}
	tags   = []string{"1.4.2", "1.4.3"}
)

func (s *soak) save(context.Context) error {
	return s.write(levels[s.chance.IntN(len(levels))], tags[s.chance.IntN(len(tags))])
}

// write writes other values into forge.cue, as an editor does.
func (s *soak) write(level, tag string) error {
	text, err := os.ReadFile(s.config())
	if err != nil {
		return err
	}
	for key, value := range map[string]string{"LOG_LEVEL": level, "tag": tag} {
		pattern := regexp.MustCompile(`(?m)\b` + key + `:(\s*)"[^"]*"`)
		if len(pattern.FindAll(text, 2)) != 1 {
			return fmt.Errorf("forge.cue has no one %s", key)
		}
		text = pattern.ReplaceAll(text, []byte(key+`:${1}"`+value+`"`))
	}
	part := s.config() + ".new"
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, s.config())
}
