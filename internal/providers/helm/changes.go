package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v3/pkg/release"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// planChanges renders what is wanted and lists the objects that a rollout
// creates, changes and deletes. same tells that the rendering is that of the
// applied revision, although the chart was told something else.
func (p *Provider) planChanges(ctx context.Context, s *seen, d decision, step *reconcile.Step) (same bool, err error) {
	next, err := p.next(ctx, s, d.deed)
	if err != nil {
		return false, err
	}
	if d.state == stateOutdated && s.moved != "" {
		if same, err := p.unmoved(ctx, s, next); err != nil || same {
			return same, err
		}
	}
	c := s.h.client(ctx)
	objs, err := s.h.prepare(c, next)
	if err != nil {
		return false, err
	}
	if err := s.fits(next); err != nil {
		return false, err
	}
	if s.h.req.Explain {
		var before []string
		if s.applied() && s.exists {
			before = s.notes.Asked.Fit.Marks
		}
		step.Fitted, step.AsFit = kubernetes.FreshFits(next.fitted, before)
	}
	planned := rollout{deed: d.deed, state: d.state, next: next, objects: objs, replace: map[kubernetes.Ref]string{}}
	if d.deed == deedGoBack {
		planned.why = s.unready
	}
	step.Detail = planned
	var last map[kubernetes.Ref]object
	if s.applied() {
		// Only for showing fields: a missing old manifest costs detail, not
		// correctness.
		if last, err = p.applied(ctx, s.h); err != nil {
			p.log.DebugContext(ctx, "last applied manifest cannot be read", "resource", s.h.id.String(), "error", err)
		}
	}
	missing, told, err := s.h.missingCRDs(ctx, c.planned)
	if err != nil {
		return false, err
	}
	s.h.tell(told)
	if next.source != "" && next.source != s.notes.Source {
		step.Changes = append(step.Changes, reconcile.Change{Path: "chart", From: s.notes.Source, To: next.source})
	}
	for _, crd := range missing {
		step.Changes = append(step.Changes, reconcile.Change{Path: kubernetes.RefOf(crd).String(), To: "created"})
	}
	s.listChanges(c, objs, last, step)
	if err := s.listLeaving(ctx, s.compared(d.deed), refsOf(objs), step); err != nil {
		return false, err
	}
	if s.h.req.Explain {
		if err := s.foreseeAdmission(ctx, c, objs, step); err != nil {
			return false, err
		}
	}
	if !s.recorded {
		return false, nil // a first install: nothing of ours can be harmed
	}
	err = s.h.check(ctx, c, objs, missing, &planned, step)
	planned.checked = err == nil
	step.Detail = planned
	return false, err
}

// listChanges lists objects, and fields of those that are there.
func (s *seen) listChanges(c *client, objs []object, last map[kubernetes.Ref]object, step *reconcile.Step) {
	wanted := map[kubernetes.Ref]bool{}
	for _, o := range objs {
		wanted[anyVersion(o.ref)] = true
		old, ok := c.old[o.ref]
		switch {
		case !ok:
			step.Changes = append(step.Changes, reconcile.Change{Path: o.ref.String(), To: "created"})
		case s.h.sealed(old, o), string(last[o.ref].json) == string(o.json):
		default:
			fields := changedFields(last[o.ref], o)
			if len(fields) == 0 {
				fields = []reconcile.Change{{Path: o.ref.String(), From: "live", To: "changed"}}
			}
			step.Changes = append(step.Changes, fields...)
		}
	}
	for _, e := range s.record.Entries {
		switch {
		case wanted[anyVersion(e.Ref)]:
		case e.Keep, holdsData(e.Ref):
			step.Changes = append(step.Changes, reconcile.Change{Path: e.Ref.String(), To: "let go of, and kept"})
		default:
			step.Changes = append(step.Changes, reconcile.Change{Path: e.Ref.String(), To: "deleted"})
			step.Deletes++
		}
	}
}

// anyVersion names an object whatever version of its API it is asked for in.
func anyVersion(ref kubernetes.Ref) kubernetes.Ref {
	ref.GVK.Version = ""
	return ref
}

// unmoved tells whether a rendering is that of the applied revision after all:
// the cluster tells the chart something else, and it makes no difference. What
// the chart makes of chance is none: two renderings side by side show it. Then
// what was asked is noted anew, and nothing is rolled out.
func (p *Provider) unmoved(ctx context.Context, s *seen, next *rendering) (bool, error) {
	rel, err := s.h.store.records(ctx, s.h.release, s.revs).Get(s.h.spec.Name, s.record.Revision)
	if err != nil {
		return false, s.wrap("read what was applied last", err)
	}
	known := s.h.seal.made(s.notes.Key)
	if !known {
		// Anything may have changed, so all that comes out counts, and the
		// number of the revision does not.
		one, err := s.render(ctx, s.appliedPlace())
		if err != nil {
			return false, err
		}
		two, err := s.render(ctx, s.appliedPlace())
		if err != nil {
			return false, err
		}
		if _, same := unchanged(rel.Manifest, one.manifest, two.manifest); same {
			if _, same = unchanged(inOne(rel.Hooks), inOne(one.hooks), inOne(two.hooks)); same {
				return true, s.restate(ctx, one)
			}
		}
	}
	again, err := s.render(ctx, s.place())
	if err != nil {
		return false, err
	}
	texts, same := unchanged(rel.Manifest, next.manifest, again.manifest)
	if same && known {
		return true, s.restate(ctx, next)
	}
	// What changed is rolled out; what chance makes stays as it was.
	next.manifest = joinSources(next.manifest, texts)
	return false, nil
}

// unchanged compares a manifest with one from before. What differs from its
// twin is chance, and is left as it was.
func unchanged(before, now, twin string) (texts map[sourceKey]string, same bool) {
	was, texts, other := bySource(before), bySource(now), bySource(twin)
	same = len(was) == len(texts)
	for source, text := range texts {
		switch {
		case was[source] == "":
			same = false
		case text != other[source]:
			texts[source] = was[source] // chance
		case text != was[source]:
			same = false
		}
	}
	return texts, same
}

// inOne puts hooks together like a manifest.
func inOne(hooks []*release.Hook) string {
	var b strings.Builder
	for _, h := range hooks {
		b.WriteString("---\n# Source: " + h.Path + "\n" + h.Manifest + "\n")
	}
	return b.String()
}

// restate writes down that what was applied is what is wanted: what the chart
// was told in the meantime, and under which key.
func (s *seen) restate(ctx context.Context, next *rendering) error {
	known := s.h.seal.made(s.notes.Key)
	s.notes.Asked, s.notes.Key = next.asked, next.key
	if s.notes.Good.Revision == s.record.Revision {
		s.notes.Good.Asked, s.notes.Good.Key = next.asked, next.key
	}
	if !known {
		objects, err := s.h.p.applied(ctx, s.h)
		if err != nil {
			return err
		}
		s.h.inventory.Rebase(s.h.id, s.resealed(objects)...)
	}
	s.h.inventory.Note(s.h.id, s.notes.raw())
	return nil
}

// sourceKey numbers the documents of one template.
type sourceKey struct {
	source string
	number int
}

// documents cuts a manifest where Helm has put its parts together.
func documents(manifest string) (keys []sourceKey, texts map[sourceKey]string) {
	texts = map[sourceKey]string{}
	count := map[string]int{}
	for _, part := range strings.Split(manifest, "---\n# Source: ")[1:] {
		source, _, _ := strings.Cut(part, "\n")
		key := sourceKey{source, count[source]}
		count[source]++
		keys, texts[key] = append(keys, key), part
	}
	return keys, texts
}

func bySource(manifest string) map[sourceKey]string {
	_, texts := documents(manifest)
	return texts
}

// joinSources puts a manifest together again, in the order of another.
func joinSources(order string, texts map[sourceKey]string) string {
	keys, _ := documents(order)
	var b strings.Builder
	for _, k := range keys {
		b.WriteString("---\n# Source: " + texts[k])
	}
	return b.String()
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
			walk(out, kubernetes.FieldPath(strings.TrimSuffix(path, "."), k)+".", am[k], bm[k])
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

// element names a list element by its name where it has one.
func element(v any, i int) string {
	if m, ok := v.(map[string]any); ok {
		if n, ok := m["name"].(string); ok {
			return strconv.Quote(n)
		}
	}
	return strconv.Itoa(i)
}

func brief(v any) string {
	if v == nil {
		return ""
	}
	const most = 60
	s, ok := v.(string)
	if !ok {
		text, err := json.Marshal(v)
		if err != nil {
			return "?"
		}
		s = string(text)
	}
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
