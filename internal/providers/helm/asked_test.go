package helm

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// chance is a chart that renders otherwise each time, and looks something up.
const chance = `
apiVersion: v1
kind: Secret
metadata: {name: chance}
stringData: {token: {{ randAlphaNum 20 }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: told, annotations: {level: {{ .Values.level | quote }}}}
data: {told: {{ dig "data" "word" "nothing" (lookup "v1" "ConfigMap" .Release.Namespace "outside") | quote }}}
`

func (r *rig) token() string {
	r.t.Helper()
	s, err := r.env.Client.CoreV1().Secrets(r.env.Namespace).Get(r.t.Context(), "chance", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return string(s.Data["token"])
}

func (r *rig) told() string {
	r.t.Helper()
	m, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).Get(r.t.Context(), "told", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return m.Data["told"]
}

// What a chart has looked up is an input like any other: when it changes, what
// follows from it is rolled out, and what chance makes stays as it was. When
// nothing follows from it, nothing is rolled out. What nobody asked for costs
// nothing.
func TestLookup(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/chance.yaml": chance})
	r.converge()
	token := r.token()
	if got := r.told(); got != "nothing" {
		t.Errorf("told %q", got)
	}
	outside := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "outside"}, Data: map[string]string{"word": "hello"}}
	r.drain()
	if _, err := outside.Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("ConfigMap " + r.env.Namespace + "/outside")
	steps := r.converge()
	if len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate || !strings.Contains(steps[0].Reason.Text, "looks up has changed: ConfigMap "+r.env.Namespace+"/outside") {
		t.Errorf("steps %v", steps)
	}
	if r.told() != "hello" || r.token() != token {
		t.Errorf("told %q, and the token has changed: %t", r.told(), r.token() != token)
	}
	r.drain()
	m.Data["more"] = "of no concern"
	if _, err := outside.Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("ConfigMap " + r.env.Namespace + "/outside")
	for range 2 {
		if steps := r.converge(); len(steps) != 0 {
			t.Errorf("nothing follows from it: %v", steps)
		}
		r.restart()
	}
	if h := r.history(); h != "superseded deployed" {
		t.Errorf("history %q", h)
	}
	r.untilReady() // nobody looks after pods any more
	r.eventually("all is written down", r.written)
	before := r.requests.Load()
	for range 20 {
		r.converge()
	}
	if n := r.requests.Load() - before; n != 0 {
		t.Errorf("20 quiet passes cost %d requests", n)
	}
	// A heal puts back what was applied, chance and all.
	r.drain()
	if err := r.env.Client.CoreV1().Secrets(r.env.Namespace).Delete(t.Context(), "chance", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("Secret " + r.env.Namespace + "/chance")
	r.converge()
	if r.token() != token {
		t.Error("a heal made another token")
	}
	// So does what is taken back from somebody's helm.
	r.drain()
	r.helmUpgrade(map[string]any{"level": "theirs"})
	r.helmActed()
	r.converge()
	if r.token() != token {
		t.Error("taking back made another token")
	}
}

// What was rendered for a revision that was cut is what the next attempt
// applies: half of the objects may have it already.
func TestChanceSurvivesACut(t *testing.T) {
	r, proxy := behindProxy(t)
	r.with(map[string]string{"templates/chance.yaml": chance})
	r.converge()
	first := r.token()
	r.values = map[string]any{"level": "two"}
	dead := proxy.DieAfter(6) // the inventory, the record, and some of five objects
	r.killWhile(killing{}, dead, 6)
	records := r.helm().Releases
	rel, err := records.Get(releaseName, 2)
	if err != nil {
		t.Fatalf("no record of the revision that was cut: %v", err)
	}
	r.converge()
	last, err := records.Get(releaseName, 3)
	if err != nil {
		t.Fatal(err)
	}
	if last.Manifest != rel.Manifest {
		t.Error("it was rendered anew")
	}
	if r.token() == first {
		t.Error("this chart makes a new token with each change; is anything applied?")
	}
}

// A plan that is looked at twice says the same twice, and what it shows is what
// is applied, also of a chart of chance.
func TestPlanOfChanceIsOne(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/chance.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: dice}\ndata: {n: {{ randAlphaNum 20 }}}\n"})
	r.converge()
	r.values = map[string]any{"level": "two"}
	plan := func() reconcile.Step {
		t.Helper()
		steps := r.plan(r.request())
		if len(steps) != 1 {
			t.Fatalf("steps %v", steps)
		}
		return steps[0]
	}
	first, second := plan(), plan()
	if text(first.Changes) != text(second.Changes) {
		t.Errorf("two plans: %v and %v", first.Changes, second.Changes)
	}
	if _, err := r.p.Apply(t.Context(), r.request(), second); err != nil {
		t.Fatal(err)
	}
	m, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).Get(t.Context(), "dice", metav1.GetOptions{})
	if err != nil || !strings.Contains(text(first.Changes), m.Data["n"]) {
		t.Errorf("applied %v, planned %v, err %v", m.Data, first.Changes, err)
	}
}

// A chart asks for what a cluster can do; only the answers it got count.
func TestCapabilities(t *testing.T) {
	r := newRig(t)
	ask := func(template string) asked {
		t.Helper()
		r.with(map[string]string{"templates/asks.yaml": "{{- " + template + " }}\n"})
		req := r.request()
		h, err := r.p.open(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		s := &seen{h: h}
		if s.desired, err = h.desire(t.Context(), "", false); err != nil {
			t.Fatal(err)
		}
		next, err := s.render(t.Context(), s.place())
		if err != nil {
			t.Fatalf("%s: %v", template, err)
		}
		if moved, err := h.moved(t.Context(), next.asked); err != nil || moved != "" {
			t.Errorf("%s: moved: %q, %v", template, moved, err)
		}
		return next.asked
	}
	if a := ask(`$x := 1`); a.Version != "" || len(a.APIs) != 0 || a.AllAPIs != "" {
		t.Errorf("nothing was asked: %+v", a)
	}
	if a := ask(`if semverCompare ">=1.19-0" .Capabilities.KubeVersion.GitVersion }}{{ end`); a.Version == "" || len(a.APIs) != 0 {
		t.Errorf("the version was asked for: %+v", a)
	}
	if a := ask(`if .Capabilities.APIVersions.Has "batch/v1" }}{{ end }}{{ if $.Capabilities.APIVersions.Has "batch/v1beta1" }}{{ end`); !a.APIs["batch/v1"] || a.APIs["batch/v1beta1"] || len(a.APIs) != 2 || a.AllAPIs != "" {
		t.Errorf("two APIs were asked for: %+v", a)
	}
	if a := ask(`range .Capabilities.APIVersions }}{{ end`); a.AllAPIs == "" {
		t.Errorf("all APIs were asked for: %+v", a)
	}
	if a := ask(`if has "batch/v1" .Capabilities.APIVersions }}{{ end`); a.AllAPIs == "" {
		t.Errorf("all APIs were asked for: %+v", a)
	}
	h, err := r.p.open(t.Context(), r.request())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []asked{{Version: "v1.1.0"}, {APIs: map[string]bool{"batch/v1": false}}, {AllAPIs: "other"}} {
		if moved, err := h.moved(t.Context(), a); err != nil || moved == "" {
			t.Errorf("%+v: not moved, %v", a, err)
		}
	}
}

// What no chart looks up any more is watched no longer: not after an update,
// and not after the removal of its release. What another release looks up is.
func TestLookupsThatAreOverAreNotWatched(t *testing.T) {
	r := newRig(t)
	watched := func() (names []string, ended []bool) {
		r.p.mu.Lock()
		defer r.p.mu.Unlock()
		for key, w := range r.p.lookups {
			names, ended = append(names, key.lookup.Name), append(ended, w.informer.IsStopped())
		}
		return names, ended
	}
	look := `{{ $_ := lookup "v1" "ConfigMap" .Release.Namespace (printf "outside-%s" .Values.level) }}`
	r.with(map[string]string{"templates/look.yaml": look})
	r.converge()
	r.p.mu.Lock()
	first := r.p.lookups[lookupKey{r.target, lookup{corev1.SchemeGroupVersion.WithKind("ConfigMap"), r.env.Namespace, "outside-info"}}]
	r.p.mu.Unlock()
	if first == nil {
		t.Fatal("what is looked up is not watched")
	}
	other := r.request()
	other.Resource.ID.Name = "other"
	spec := other.Resource.Spec.(forge.ReleaseSpec)
	spec.Name = "other"
	other.Resource.Spec = spec
	h, err := r.p.open(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.looked(t.Context(), first.lookup); err != nil {
		t.Fatal(err)
	}
	r.values = map[string]any{"level": "debug"}
	r.converge()
	if names, _ := watched(); len(names) != 2 || first.informer.IsStopped() {
		t.Errorf("two releases look up %v", names)
	}
	h.looksUp(nil)
	r.eventually("the watch has ended", first.informer.IsStopped)
	if names, ended := watched(); len(names) != 1 || names[0] != "outside-debug" || ended[0] {
		t.Errorf("watched: %v", names)
	}
	req := r.request()
	req.Remove = true
	if _, err := r.pass(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if names, _ := watched(); len(names) != 0 {
		t.Errorf("after the removal %v is watched", names)
	}
}
