package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// toldOf is what forge.cue says of where the environment was before.
func toldOf(target forge.Target, namespace string) forge.Resource {
	return forge.Resource{
		ID:     forge.ID{Environment: "prod", Kind: forge.KindNamespace, Name: namespace}.LeftIn(namespace, target.String()),
		Target: target, Spec: forge.FormerSpec{Namespace: namespace},
	}
}

// owned is all that is listed, and what is wrong.
func (s *stage) owned(wanted []forge.Resource) (string, error) {
	s.t.Helper()
	s.clusters.clock.(*fakeClock).advance(2 * listedFor)
	var all []forge.Resource
	var first error
	for _, p := range []reconcile.Provider{s.namespaces, s.secrets} {
		rs, err := p.(reconcile.Owner).Owned(s.t.Context(), "prod", wanted)
		if first == nil {
			first = err
		}
		all = append(all, rs...)
	}
	return names(all), first
}

// A process that has never seen the environment in its old cluster knows of it by
// what forge.cue says: while the new cluster is not there yet, and when it is.
// Nothing is noted anywhere: without the word of forge.cue nobody looks there.
func TestFormerClusterIsLookedAt(t *testing.T) {
	env := sandboxtest.Cluster(t)
	elsewhere := sandboxtest.Second(t)
	r := &road{}
	s := newStage(t, env)
	old, young := env.Target(), forge.Target{Cluster: madeCluster}
	before, after := s.resources(old, env.Namespace), s.resources(young, env.Namespace)
	s.deploy(before)
	t.Cleanup(func() {
		_ = elsewhere.Client.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), env.Namespace, metav1.DeleteOptions{})
	})
	told := append(slices.Clone(after), toldOf(old, env.Namespace))
	suffix := "@@" + env.Namespace + "@" + old.String()
	want := fmt.Sprintf("prod/namespace/%s%s prod/secrets/shop%s", env.Namespace, suffix, suffix)

	s.leadBy(r)
	got, err := s.owned(told)
	wantError(t, err, reconcile.Waiting)
	if got != want {
		t.Fatalf("before there is a new cluster, left is %q, want %q", got, want)
	}
	if got, err := s.owned(after); got != "" || reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("without the word of forge.cue: %q, %v", got, err)
	}
	r.set(nil, reconcile.Errorf(reconcile.Unavailable, "reach cluster made", "no answer"))
	if got, err := s.owned(told); got != want || reconcile.KindOf(err) != reconcile.Unavailable {
		t.Errorf("the new cluster cannot be reached: %q, %v", got, err)
	}

	r.set(elsewhere.Config, nil)
	s.deploy(after)
	for range 2 { // also after a restart
		left := s.left(told)
		if names(left) != want || left[0].Target != old || left[1].Needs[0] != left[0].ID {
			t.Fatalf("left is %s, want %s", names(left), want)
		}
		s.leadBy(r)
	}
	if left := s.left(after); len(left) != 0 {
		t.Errorf("it was noted: %s", names(left))
	}

	// It goes as anything else that is not wanted.
	s.leadBy(r)
	left := s.left(told)
	do(t, s.secrets, s.request(left[1], true), reconcile.ActionDelete, reconcile.ReasonUnwanted)
	do(t, s.namespaces, s.request(left[0], true), reconcile.ActionDelete, reconcile.ReasonUnwanted)
	if left := s.left(told); len(left) != 0 {
		t.Errorf("left is %s", names(left))
	}
	for _, w := range after {
		if o, steps := plan(t, s.provider(w.ID.Kind), s.request(w, false)); len(steps) != 0 || !o.Exists {
			t.Errorf("what is wanted was touched: %v", steps)
		}
	}
}

// Somebody has said that something is there: whatever keeps it from being read is
// told, and is never taken for nothing. What is wanted is listed all the same.
func TestFormerClusterThatCannotBeRead(t *testing.T) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	s := newStage(t, env)
	wanted := s.resources(env.Target(), env.Namespace)
	s.deploy(wanted)
	config, err := os.ReadFile(env.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(t.TempDir(), "dead")
	if err := os.WriteFile(dead, []byte(strings.ReplaceAll(string(config), serverOf(t, config, 0), "https://127.0.0.1:1")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		target forge.Target
		kind   reconcile.ErrorKind
		says   string
	}{
		{forge.Target{Kubeconfig: env.Kubeconfig, Context: "no-such-context"}, reconcile.Invalid, "no-such-context"},
		{forge.Target{Kubeconfig: filepath.Join(t.TempDir(), "none"), Context: "cluster-1"}, reconcile.Invalid, "none"},
		{forge.Target{Kubeconfig: dead, Context: env.Target().Context}, reconcile.Unavailable, "127.0.0.1:1"},
	} {
		s.start()
		left := s.left(append(slices.Clone(wanted), toldOf(tt.target, "was")))
		if len(left) != 1 || left[0].ID.Name != "was@@was@"+tt.target.Context || left[0].Target != tt.target {
			t.Errorf("%s: left is %s", tt.says, names(left))
			continue
		}
		_, err := s.namespaces.Observe(t.Context(), s.request(left[0], true))
		wantError(t, err, tt.kind, tt.says)
	}

	// An inventory that cannot be read is not empty, where places cannot be listed
	// either. That more may be left in this cluster is told.
	f := &faults{allowed: -1}
	old := forge.Target{Kubeconfig: env.Kubeconfig, Context: env.Target().Context}
	s.start()
	s.clusters.wrap = f.wrap
	f.reject(func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/configmaps") && !strings.Contains(r.URL.Path, "/namespaces/"+env.Namespace+"/")
	})
	told := append(slices.Clone(wanted), toldOf(old, "was"))
	got, err := s.owned(told)
	wantError(t, err, reconcile.Unavailable, "list what is owned in "+old.Context)
	if want := "prod/namespace/was@@was prod/secrets/shop"; got != want {
		t.Fatalf("owned is %q, want %q", got, want)
	}
	left, err := s.namespaces.(reconcile.Owner).Owned(t.Context(), "prod", told)
	wantError(t, err, reconcile.Unavailable)
	if len(left) != 1 || !left[0].Unread {
		t.Fatalf("owned are %+v", left)
	}
	if _, err := s.namespaces.Observe(t.Context(), s.request(left[0], true)); err == nil || !strings.Contains(err.Error(), "was") {
		t.Errorf("observe: %v", err)
	}
}

// A list that fails once says nothing of what is in a cluster: it is neither empty
// nor forgotten. What is in the place that forge.cue names is listed all the same.
func TestFormerClusterThatCannotBeListed(t *testing.T) {
	env := sandboxtest.Cluster(t)
	elsewhere := sandboxtest.Second(t)
	s := newStage(t, env)
	old := env.Target()
	before, after := s.resources(old, env.Namespace), s.resources(elsewhere.Target(), env.Namespace)
	s.deploy(before)
	s.left(before)
	s.deploy(after)
	t.Cleanup(func() {
		_ = elsewhere.Client.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), env.Namespace, metav1.DeleteOptions{})
	})
	host, err := url.Parse(env.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{allowed: -1}
	cut := func(r *http.Request) bool {
		return r.URL.Host == host.Host && strings.HasSuffix(r.URL.Path, "/api/v1/configmaps")
	}
	told := append(slices.Clone(after), toldOf(old, env.Namespace))
	suffix := "@@" + env.Namespace + "@" + old.String()
	namespace := "prod/namespace/" + env.Namespace + suffix
	all := namespace + " prod/secrets/shop" + suffix
	if got := names(s.left(after)); got != all { // and it is noted
		t.Fatalf("left is %q, want %q", got, all)
	}
	for _, tt := range []struct {
		name   string
		wanted []forge.Resource
		want   string // while it cannot be listed
	}{{"noted", after, namespace}, {"told", told, all}, {"noted by another", after, namespace}} {
		t.Run(tt.name, func(t *testing.T) {
			s.start()
			s.clusters.wrap = f.wrap
			f.reject(cut)
			left := s.left(tt.wanted)
			if names(left) != tt.want || !left[0].Unread {
				t.Errorf("left is %q, want %q; %+v", names(left), tt.want, left)
			}
			f.reject(nil)
			left = s.left(tt.wanted)
			if names(left) != all || left[0].Unread {
				t.Errorf("left is %q, want %q; %+v", names(left), all, left)
			}
		})
	}
}

// A cluster has as many names as there are contexts. The place where the
// environment is now is not where it was, whatever it is called.
func TestFormerPlaceIsThisOne(t *testing.T) {
	env := sandboxtest.Cluster(t)
	s := newStage(t, env)
	wanted := s.resources(env.Target(), env.Namespace)
	s.deploy(wanted)
	config, err := os.ReadFile(env.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	renamed := filepath.Join(t.TempDir(), "renamed")
	if err := os.WriteFile(renamed, config, 0o600); err != nil {
		t.Fatal(err)
	}
	other := forge.Target{Kubeconfig: renamed, Context: env.Target().Context}
	for range 2 {
		if left := s.left(append(slices.Clone(wanted), toldOf(other, env.Namespace))); len(left) != 0 {
			t.Errorf("what is wanted counts as left: %s", names(left))
		}
		s.start()
	}
	// Another namespace of it is, under the name that the cluster has now.
	was := env.Namespace + "-was"
	if _, err := env.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: was}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = env.Client.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), was, metav1.DeleteOptions{})
	})
	s.deploy(s.resources(env.Target(), was)[1:])
	s.start()
	if left := s.left(append(slices.Clone(wanted), toldOf(other, was))); names(left) != "prod/secrets/shop@@"+was || left[0].Target != env.Target() {
		t.Errorf("left is %s", names(left))
	}
}

// A cluster that lets nobody in, or does not answer, holds up each list once, and not once for every
// kind of what may be in it.
func TestFormerClusterIsTriedOnce(t *testing.T) {
	env := sandboxtest.Cluster(t)
	s := newStage(t, env)
	wanted := s.resources(env.Target(), env.Namespace)
	s.deploy(wanted)
	var asked atomic.Int32
	deaf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(deaf.Close)
	config, err := os.ReadFile(env.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(t.TempDir(), "dead")
	if err := os.WriteFile(dead, []byte(strings.ReplaceAll(string(config), serverOf(t, config, 0), deaf.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	told := append(slices.Clone(wanted), toldOf(forge.Target{Kubeconfig: dead, Context: env.Target().Context}, "was"))
	tries := func(p reconcile.Provider) int32 {
		before := asked.Load()
		if _, err := p.(reconcile.Owner).Owned(t.Context(), "prod", told); err != nil {
			t.Error(err)
		}
		return asked.Load() - before
	}
	if n := tries(s.namespaces); n == 0 {
		t.Error("nobody asked")
	}
	if n := tries(s.secrets); n != 0 {
		t.Errorf("asked %d times more for another kind", n)
	}
	s.clusters.clock.(*fakeClock).advance(2 * listedFor)
	if n := tries(s.secrets); n == 0 {
		t.Error("nobody asked again")
	}
}
