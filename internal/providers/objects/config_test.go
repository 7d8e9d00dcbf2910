package objects

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigConforms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.yaml"), "level: info\n")
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		env, h := harness(t, func(c *kubernetes.Clusters) reconcile.Provider { return NewConfig(c, dir) })
		ask := func(level string) forge.Spec {
			return forge.ConfigSpec{Namespace: env.Namespace, Name: "shop-config", Labels: map[string]string{"app": "shop"}, Files: []forge.ConfigEntry{
				{Key: "app.yaml", File: "app.yaml"}, {Key: "level", Text: level},
			}}
		}
		h.Resource.ID = forge.ID{Environment: "prod", Kind: forge.KindConfig, Name: "shop"}
		h.Changed.ID = h.Resource.ID
		h.Resource.Spec, h.Changed.Spec = ask("info"), ask("debug")
		cms := env.Client.CoreV1().ConfigMaps(env.Namespace)
		h.Edit = func(t *testing.T) {
			if _, err := cms.Patch(t.Context(), "shop-config", types.MergePatchType, []byte(`{"data":{"level":"edited"}}`), person); err != nil {
				t.Fatal(err)
			}
		}
		h.Delete = func(t *testing.T) {
			if err := cms.Delete(t.Context(), "shop-config", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		return h
	})
}

type configRig struct {
	*rig
	dir  string
	spec forge.ConfigSpec
}

func newConfigRig(t *testing.T, files ...forge.ConfigEntry) *configRig {
	dir := t.TempDir()
	r := newRig(t, func(c *kubernetes.Clusters) reconcile.Provider { return NewConfig(c, dir) })
	return &configRig{r, dir, forge.ConfigSpec{Namespace: r.Namespace, Name: "shop-config", Files: files}}
}

func (r *configRig) ask() reconcile.Request { return r.request(forge.KindConfig, "shop", r.spec) }

func (r *configRig) live() *corev1.ConfigMap {
	r.t.Helper()
	cm, err := r.Client.CoreV1().ConfigMaps(r.Namespace).Get(r.t.Context(), "shop-config", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return cm
}

// A file that changes is noticed without anybody asking, it is a rollout, and
// the checksum moves no sooner than the file is in the cluster.
func TestChangedFileIsRolledOut(t *testing.T) {
	t.Parallel()
	r := newConfigRig(t, forge.ConfigEntry{Key: "app.yaml", File: "app.yaml"}, forge.ConfigEntry{Key: "image", File: "image"})
	write(t, filepath.Join(r.dir, "app.yaml"), "level: info\n")
	write(t, filepath.Join(r.dir, "image"), "\xff\xfe")
	before := r.converge(r.ask()).Outputs[forge.OutputChecksum].Value
	if cm := r.live(); cm.Data["app.yaml"] != "level: info\n" || string(cm.BinaryData["image"]) != "\xff\xfe" {
		t.Fatalf("in the cluster: %q %q", cm.Data, cm.BinaryData)
	}
	r.asked()
	if _, steps := r.plan(r.ask()); len(steps) > 0 || len(r.asked()) > 0 || before == "" {
		t.Fatalf("a second look: %v, checksum %q", steps, before)
	}

	write(t, filepath.Join(r.dir, "app.yaml"), "level: loud\n") // of the same size
	o, steps := r.await(r.ask(), "a changed file", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) > 0 })
	if s := r.single(steps); !s.Rollout() || s.Reason.Code != reconcile.ReasonConfig {
		t.Errorf("a changed file is %s", s)
	}
	if now := o.Outputs[forge.OutputChecksum].Value; now != before {
		t.Errorf("the checksum has moved before the file has: %s", now)
	}
	after := r.converge(r.ask()).Outputs[forge.OutputChecksum].Value
	if after == before || r.live().Data["app.yaml"] != "level: loud\n" {
		t.Errorf("checksum %s, in the cluster %q", after, r.live().Data)
	}
	write(t, filepath.Join(r.dir, "app.yaml"), "level: info\n")
	if again := r.converge(r.ask()).Outputs[forge.OutputChecksum].Value; again != before {
		t.Errorf("the same files give another checksum: %s, %s", again, before)
	}
}

// A file that cannot be read is not an empty one: nothing is planned, what is
// in the cluster stays, and its return is noticed.
func TestUnreadableFileIsNotEmpty(t *testing.T) {
	t.Parallel()
	r := newConfigRig(t, forge.ConfigEntry{Key: "app.yaml", File: "app.yaml"})
	path := filepath.Join(r.dir, "app.yaml")
	write(t, path, "level: info\n")
	r.converge(r.ask())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err := r.p.Observe(t.Context(), r.ask())
	if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), path) {
		t.Fatalf("without the file: %v", err)
	}
	if r.live().Data["app.yaml"] != "level: info\n" {
		t.Error("the cluster has lost the file")
	}
	for len(r.events) > 0 {
		<-r.events
	}
	write(t, path, "level: new\n")
	select {
	case e := <-r.events:
		if e.Cause != causeFile || !e.Retry || e.ID != r.ask().Resource.ID {
			t.Errorf("%+v", e)
		}
	case <-time.After(patience):
		t.Fatal("nobody says that the file is back")
	}
	r.converge(r.ask())
}

func TestConfigThatIsTooLarge(t *testing.T) {
	t.Parallel()
	r := newConfigRig(t, forge.ConfigEntry{Key: "a", File: "small"}, forge.ConfigEntry{Key: "b", File: "large"})
	write(t, filepath.Join(r.dir, "small"), strings.Repeat("a", 10))
	for _, size := range []int{maxConfig, maxConfig + 1} {
		write(t, filepath.Join(r.dir, "large"), strings.Repeat("a", size))
		_, err := r.p.Observe(t.Context(), r.ask())
		if reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "large") || strings.Contains(err.Error(), "small") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// What somebody else made is refused by the name of the tool that made it,
// unless the policy says to take it over.
func TestForeignObjectIsRefusedByName(t *testing.T) {
	t.Parallel()
	r := newConfigRig(t, forge.ConfigEntry{Key: "a", Text: "ours"})
	cms := r.Client.CoreV1().ConfigMaps(r.Namespace)
	foreign := func(labels, annotations map[string]string) {
		t.Helper()
		_ = cms.Delete(t.Context(), "shop-config", metav1.DeleteOptions{})
		_, err := cms.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "shop-config", Labels: labels, Annotations: annotations},
			Data:       map[string]string{"a": "theirs"},
		}, metav1.CreateOptions{FieldManager: "somebody"})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name                string
		labels, annotations map[string]string
		adopt, want         string // want: in Blocked; empty: it is taken over
	}{
		{"nobody's", nil, nil, "", "kubectl --context cluster-1 --namespace " + r.Namespace + " label configmap shop-config"},
		{"Helm's", nil, map[string]string{"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"}, forge.AdoptIfUnowned, "Helm release shop/web"},
		{"another forged's", map[string]string{kubernetes.LabelInstance: "other"}, nil, forge.AdoptIfUnowned, "another forged, other"},
		{"Argo CD's, forced", nil, map[string]string{"argocd.argoproj.io/tracking-id": "x"}, forge.AdoptForce, ""},
	} {
		foreign(tt.labels, tt.annotations)
		r.policy.Adopt = tt.adopt
		_, steps := r.plan(r.ask())
		s := r.single(steps)
		if tt.want == "" != (s.Blocked == "") || !strings.Contains(s.Blocked, tt.want) {
			t.Errorf("%s: blocked %q", tt.name, s.Blocked)
		}
		if _, err := r.p.Apply(t.Context(), r.ask(), s); (err == nil) != (tt.want == "") {
			t.Errorf("%s: applied with %v", tt.name, err)
		}
		if theirs := r.live().Data["a"] == "theirs"; theirs != (tt.want != "") {
			t.Errorf("%s: %v", tt.name, r.live().Data)
		}
	}
}

// A ConfigMap whose name has left the wish goes last, and not without prune.
func TestRenamedConfigPrunesTheOldOne(t *testing.T) {
	t.Parallel()
	r := newConfigRig(t, forge.ConfigEntry{Key: "a", Text: "1"})
	r.converge(r.ask())
	r.spec.Name = "other"
	r.policy.Prune = false
	r.converge(r.ask())
	r.live()
	r.policy.Prune = true
	_, steps := r.plan(r.ask())
	if s := r.single(steps); s.Action != reconcile.ActionDelete || !s.Late || s.Deletes != 1 {
		t.Errorf("planned: %+v", s)
	}
	if o := r.converge(r.ask()); o.Objects != 1 {
		t.Errorf("%d objects are left", o.Objects)
	}
	list, err := r.Client.CoreV1().ConfigMaps(r.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "other" {
		t.Errorf("left in the cluster: %v, %v", list.Items, err)
	}
}

// Another environment has taken an object over by force. It is left alone by the
// one that had it: neither put back, nor changed, nor deleted.
func TestWhatAnotherEnvironmentHasTakenIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newConfigRig(t, forge.ConfigEntry{Key: "level", Text: "info"})
	r.converge(r.ask())
	nextSecond() // a write under the same name of a manager is seen by its time
	theirs := r.ask()
	theirs.Resource.ID.Environment, theirs.Policy.Adopt = "staging", forge.AdoptForce
	theirs.Resource.Spec = forge.ConfigSpec{Namespace: r.Namespace, Name: "shop-config", Files: []forge.ConfigEntry{{Key: "level", Text: "debug"}}}
	r.converge(theirs)

	_, steps := r.await(r.ask(), "the other owner", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) > 0 })
	if s := r.single(steps); !strings.Contains(s.Blocked, "it belongs to staging/config/shop now") {
		t.Errorf("planned %s", s)
	}
	r.spec.Files[0].Text = "trace"
	_, steps = r.plan(r.ask())
	if s := r.single(steps); !strings.Contains(s.Blocked, "it belongs to staging/config/shop now") {
		t.Errorf("of a new config: planned %s", s)
	}
	gone := r.ask()
	gone.Remove = true
	r.converge(gone)
	if live := r.live(); live.Data["level"] != "debug" {
		t.Errorf("it holds %v", live.Data)
	}
}

func nextSecond() {
	timer := time.NewTimer(time.Until(time.Now().Truncate(time.Second).Add(1100 * time.Millisecond)))
	defer timer.Stop()
	<-timer.C
}
