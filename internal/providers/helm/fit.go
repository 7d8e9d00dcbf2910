package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// What a chart makes is fitted to the cluster as Helm's post-renderer would do
// it: what is compared, recorded and sent has been fitted.

const (
	mostFitNotices   = 30  // are kept of a revision
	longestFitNotice = 300 // runes
)

// fitting is how a revision was fitted to the cluster.
type fitting struct {
	Digest  string             `json:"digest,omitempty"`  // of the table, and of what the cluster could do
	Notices []reconcile.Notice `json:"notices,omitempty"` // of what runs: it is not found out again from what was fitted
	Marks   []string           `json:"marks,omitempty"`   // of what was done to it: a plan shows what is new
}

// fitted tells whether what the release makes is fitted at all.
func (h *handle) fitted() bool { return h.spec.Rules.Table != "" }

// fitDigest changes when the cluster would be fitted to in another way.
func (h *handle) fitDigest(ctx context.Context) (string, error) {
	if !h.fitted() {
		return "", nil
	}
	f, err := h.p.fitter.Fit(ctx, h.cluster, h.spec.Rules, nil)
	return f.Digest, err
}

// rulesKey is what the rules of a release add to its render key: nothing, where
// there are none.
func rulesKey(r forge.Rules) string {
	if r.Table == "" {
		return ""
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return r.Table // strings alone can be encoded
	}
	return "\x00" + string(raw)
}

// part is one document of what a chart makes.
type part struct {
	path    string
	text    string
	hook    *release.Hook // nil: it is of the release itself
	apart   bool          // it is left as it is
	objects []*unstructured.Unstructured
}

// fit brings everything that a chart makes into the form that the cluster can
// run: objects and hooks together, since what one of them says may change
// another. What stays as it is keeps its text.
func (s *seen) fit(ctx context.Context, r *rendering, manifests []releaseutil.Manifest) ([]releaseutil.Manifest, error) {
	h := s.h
	if !h.fitted() {
		return manifests, nil
	}
	parts, err := s.parts(ctx, r, manifests)
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	from := map[types.UID]int{}
	for i, p := range parts {
		for _, o := range p.objects {
			// Nothing that is to be made has a uid: it tells where an object came
			// from, also of two that have one name.
			o.SetUID(types.UID("part-" + strconv.Itoa(len(all))))
			from[o.GetUID()] = i
			all = append(all, o)
		}
	}
	fitted, err := h.p.fitter.Fit(ctx, h.cluster, h.spec.Rules, all)
	if err != nil {
		s.unfit = reconcile.KindOf(err) == reconcile.Invalid
		return nil, s.named(err)
	}
	r.fitted = concealed(fitted.Changes)
	r.asked.Fit = fitting{Digest: fitted.Digest, Notices: briefly(fitted.Notices), Marks: kubernetes.FitMarks(r.fitted)}

	became := make([][]*unstructured.Unstructured, len(parts))
	for _, o := range fitted.Objects {
		i, known := from[o.GetUID()]
		if !known {
			i = len(parts)
			parts = append(parts, part{path: r.chart.Name() + "/fitted.yaml"})
			became = append(became, nil)
		}
		o = o.DeepCopy()
		unstructured.RemoveNestedField(o.Object, "metadata", "uid")
		became[i] = append(became[i], o)
	}
	manifests, r.hooks = nil, nil
	for i, p := range parts {
		texts, err := p.rewritten(became[i])
		if err != nil {
			return nil, err
		}
		switch {
		case len(texts) == 0:
		case p.hook != nil:
			fresh := *p.hook
			fresh.Manifest = strings.Join(texts, "\n---\n")
			if len(became[i]) > 0 {
				fresh.Name, fresh.Kind = became[i][0].GetName(), became[i][0].GetKind()
			}
			r.hooks = append(r.hooks, &fresh)
		default:
			for _, text := range texts {
				manifests = append(manifests, releaseutil.Manifest{Name: p.path, Content: text})
			}
		}
	}
	return manifests, nil
}

// parts reads what a chart makes, in the namespace in which it will be.
func (s *seen) parts(ctx context.Context, r *rendering, manifests []releaseutil.Manifest) ([]part, error) {
	var parts []part
	for _, m := range manifests {
		parts = append(parts, part{path: m.Name, text: m.Content})
	}
	for _, hook := range r.hooks {
		p := part{path: hook.Path, text: hook.Manifest, hook: hook}
		if !slices.ContainsFunc(hook.Events, func(e release.HookEvent) bool { return e != release.HookTest }) {
			p.apart = true // only a person runs it, by helm test: it refuses no release
		}
		parts = append(parts, p)
	}
	c := s.h.client(ctx)
	var err error
	if c.planned, err = readCRDs(r.crds); err != nil {
		return nil, s.named(err)
	}
	for i := range parts {
		if parts[i].apart {
			continue
		}
		objs, err := parseManifest("---\n# Source: " + parts[i].path + "\n" + parts[i].text)
		if err != nil {
			return nil, s.named(err)
		}
		c.among = append(c.among, definedBy(objs)...)
		for _, o := range objs {
			parts[i].objects = append(parts[i].objects, o.Unstructured)
		}
	}
	for _, p := range parts {
		for _, o := range p.objects {
			m, err := c.mapping(o.GroupVersionKind(), nil)
			if kubernetes.UnknownKind(err) {
				continue // it may be taken out; if not, it is refused later
			}
			if err != nil {
				return nil, err
			}
			if m.Scope.Name() == meta.RESTScopeNameNamespace && o.GetNamespace() == "" {
				o.SetNamespace(s.h.spec.Namespace)
			}
		}
	}
	return parts, nil
}

// rewritten are the texts of what a document became.
func (p part) rewritten(now []*unstructured.Unstructured) (texts []string, err error) {
	same := len(now) == len(p.objects)
	for i := 0; same && i < len(now); i++ {
		was := p.objects[i].DeepCopy()
		unstructured.RemoveNestedField(was.Object, "metadata", "uid")
		same = reflect.DeepEqual(was.Object, now[i].Object)
	}
	if same {
		return []string{p.text}, nil
	}
	for _, o := range now {
		raw, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, reconcile.Errorf(reconcile.Internal, "write fitted "+kubernetes.RefOf(o).String(), "%v", err)
		}
		texts = append(texts, strings.TrimRight(string(raw), "\n"))
	}
	return texts, nil
}

// concealed leaves of what was done to Secrets only where.
func concealed(changes []reconcile.Change) []reconcile.Change {
	out := make([]reconcile.Change, 0, len(changes))
	for _, c := range changes {
		if strings.HasPrefix(c.Path, "Secret ") {
			c.From, c.To = "", ""
		}
		out = append(out, c)
	}
	return out
}

// briefly bounds what is written down with a revision.
func briefly(all []reconcile.Notice) []reconcile.Notice {
	var out []reconcile.Notice
	for _, n := range all[:min(len(all), mostFitNotices)] {
		if r := []rune(n.Message); len(r) > longestFitNotice {
			n.Message = string(r[:longestFitNotice-1]) + "…"
		}
		out = append(out, n)
	}
	if more := len(all) - mostFitNotices; more > 0 {
		out = append(out, reconcile.Notice{Code: all[mostFitNotices].Code, Message: fmt.Sprintf("and %d more of the kind", more)})
	}
	return out
}

// unfitted is the error of a release that is to be fitted by nobody.
func (h *handle) unfitted() error {
	if !h.fitted() || h.p.fitter != nil {
		return nil
	}
	return &reconcile.Error{
		Kind: reconcile.Internal, ID: h.id, Object: h.release.String(), Op: "open",
		Err: fmt.Errorf("nothing here fits objects by the table of rules %q", h.spec.Rules.Table),
	}
}
