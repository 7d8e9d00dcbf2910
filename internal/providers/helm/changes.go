package helm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// planChanges renders what is wanted and lists the objects that a rollout
// creates, changes and deletes.
func (p *Provider) planChanges(ctx context.Context, s *seen, step *reconcile.Step) error {
	ch, err := s.desired.chart.load(s.h.spec.Chart)
	if err != nil {
		return err
	}
	caps, err := s.h.capabilities(ctx)
	if err != nil {
		return err
	}
	manifest, err := s.render(ch, s.desired.values, caps)
	if err != nil {
		return err
	}
	c := s.h.client(ctx)
	objs, err := s.h.prepare(c, manifest)
	if err != nil {
		return err
	}
	step.Detail = rollout{key: s.desired.key, objects: objs}
	var last map[kubernetes.Ref]object
	if s.applied() {
		// Only for showing fields: a missing old manifest costs detail, not
		// correctness.
		if last, err = p.applied(ctx, s.h); err != nil {
			p.log.DebugContext(ctx, "last applied manifest cannot be read", "resource", s.h.id.String(), "error", err)
		}
	}
	wanted := map[kubernetes.Ref]bool{}
	for _, o := range objs {
		wanted[o.ref] = true
		old, ok := c.old[o.ref]
		switch {
		case !ok:
			step.Changes = append(step.Changes, reconcile.Change{Path: o.ref.String(), To: "created"})
		case old.Desired == o.hash:
		default:
			fields := changedFields(last[o.ref], o)
			if len(fields) == 0 {
				fields = []reconcile.Change{{Path: o.ref.String(), From: "live", To: "changed"}}
			}
			step.Changes = append(step.Changes, fields...)
		}
	}
	for _, e := range s.record.Entries {
		if !wanted[e.Ref] && !e.Keep {
			step.Changes = append(step.Changes, reconcile.Change{Path: e.Ref.String(), To: "deleted"})
			step.Deletes++
		}
	}
	return nil
}

// changedFields compares what was sent last with what is to be sent.
func changedFields(old, now object) []reconcile.Change {
	if old.json == nil || now.ref.GVK.Kind == "Secret" {
		return nil
	}
	a, errA := old.unstructured()
	b, errB := now.unstructured()
	if errA != nil || errB != nil {
		return nil
	}
	var out []reconcile.Change
	walk(&out, now.ref.String()+" ", a.Object, b.Object)
	return out
}

func walk(out *[]reconcile.Change, path string, a, b any) {
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && bok {
		keys := make([]string, 0, len(am)+len(bm))
		for k := range am {
			keys = append(keys, k)
		}
		for k := range bm {
			if _, ok := am[k]; !ok {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			walk(out, strings.TrimSuffix(path, ".")+dot(path)+k+".", am[k], bm[k])
		}
		return
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok && len(al) == len(bl) {
		for i := range al {
			walk(out, strings.TrimSuffix(path, ".")+fmt.Sprintf("[%s].", element(bl[i], i)), al[i], bl[i])
		}
		return
	}
	if from, to := brief(a), brief(b); from != to {
		*out = append(*out, reconcile.Change{Path: strings.TrimSuffix(path, "."), From: from, To: to})
	}
}

func dot(path string) string {
	if strings.HasSuffix(path, ".") {
		return "."
	}
	return ""
}

// element names a list element by its name where it has one.
func element(v any, i int) string {
	if m, ok := v.(map[string]any); ok {
		if n, ok := m["name"].(string); ok {
			return n
		}
	}
	return fmt.Sprint(i)
}

func brief(v any) string {
	if v == nil {
		return ""
	}
	const most = 60
	s := fmt.Sprint(v)
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
