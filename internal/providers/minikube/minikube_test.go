package minikube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

// TestMain is minikube when it is called so: a program that lists, loads and
// fails as the real one does. Its node is a directory.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == program {
		os.Exit(standIn(os.Args[1:], os.Getenv("STAND_IN")))
	}
	goleak.VerifyTestMain(m)
}

func standIn(args []string, dir string) int {
	say := func(name, line string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		fmt.Fprintln(f, line)
	}
	is := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	say("calls", strings.Join(args, " "))
	if len(args) < 4 || args[0] != "--profile" || args[2] != "image" {
		fmt.Fprintln(os.Stderr, "Error: unknown flag")
		return 64
	}
	switch {
	case args[1] != "dev":
		fmt.Fprintf(os.Stderr, "🤷  Profile %q not found. Run \"minikube profile list\" to view all profiles.\n", args[1])
		return 85
	case is("hangs"):
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt)
		<-signals
	case is("broken"):
		fmt.Fprintln(os.Stderr, "❌  Exiting due to GUEST_IMAGE_LIST: Failed to list images")
		return 80
	}
	switch args[3] {
	case "ls":
		if is("stopped") {
			fmt.Println("[]")
			return 0
		}
		list := []map[string]any{{
			"id": "e6f1816883972d4be47bd48879a08919b96afcd344132622e4d444987919323c", "size": "744000",
			"repoDigests": []string{"registry.k8s.io/pause@sha256:" + strings.Repeat("a", 64)}, "repoTags": []string{"registry.k8s.io/pause:3.10"},
		}}
		names, _ := os.ReadFile(filepath.Join(dir, "images"))
		for _, name := range strings.Fields(string(names)) {
			list = append(list, map[string]any{"id": "b", "size": "1", "repoDigests": []string{}, "repoTags": []string{canonical(name)}})
		}
		if is("chatty") {
			fmt.Println("❗  A new version of minikube is available")
		}
		if err := json.NewEncoder(os.Stdout).Encode(list); err != nil {
			panic(err)
		}
	case "load":
		if left, err := os.ReadFile(filepath.Join(dir, "cut")); err == nil {
			n, err := strconv.Atoi(string(left))
			if err != nil {
				panic(err)
			}
			if n == 0 {
				return 80
			}
			if err := os.WriteFile(filepath.Join(dir, "cut"), []byte(strconv.Itoa(n-1)), 0o600); err != nil {
				panic(err)
			}
		}
		if !is("deaf") { // the real one says that all is well either way
			say("images", args[4])
		}
	}
	return 0
}

// node is a Minikube for a test.
type node struct {
	t   *testing.T
	dir string
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t, t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, program)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("STAND_IN", n.dir)
	return n
}

func (n *node) set(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) unset(name string) {
	n.t.Helper()
	if err := os.Remove(filepath.Join(n.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
}

func (n *node) calls(verb string) int {
	text, _ := os.ReadFile(filepath.Join(n.dir, "calls"))
	return strings.Count(string(text), " image "+verb)
}

var id = forge.ID{Environment: "local", Kind: forge.KindImage, Name: "shop"}

func ask(image string) reconcile.Request {
	return reconcile.Request{Resource: forge.Resource{ID: id, Spec: forge.ImageSpec{Profile: "dev", Image: image}}}
}

func start() *Images {
	p := NewImages()
	p.fresh = 20 * time.Millisecond
	return p
}

func TestConformance(t *testing.T) {
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		n := newNode(t)
		rm := func(*testing.T) { n.set("images", "") }
		return providertest.Harness{
			Resource: ask("acme/shop:1").Resource, Changed: ask("acme/shop:2").Resource,
			Secrets: []string{"there is none"}, Keeps: true,
			Start: func(*testing.T) reconcile.Provider { return start() },
			Edit:  rm, Delete: rm,
			BreakReads: func(*testing.T) func() { n.set("broken", ""); return func() { n.unset("broken") } },
			CutAfter: func(_ *testing.T, left int) func() {
				n.set("cut", strconv.Itoa(left))
				return func() { n.unset("cut") }
			},
			Writes: func() int { return n.calls("load") },
			Bystander: func(t *testing.T) {
				if n.calls("rm")+n.calls("unload") > 0 {
					t.Error("something was unloaded")
				}
			},
		}
	})
}

// One list serves everybody for a while: each costs a second of a process.
func TestListsAreShared(t *testing.T) {
	n := newNode(t)
	p := NewImages()
	for i := range 20 {
		r := ask(fmt.Sprintf("acme/shop:%d", i))
		r.Resource.ID.Name = fmt.Sprint(i)
		if _, err := p.Observe(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if n.calls("ls") != 1 {
		t.Errorf("%d lists", n.calls("ls"))
	}
}

// Of a node that does not run minikube lists nothing, with exit code 0. That is
// not an image that is missing.
func TestAStoppedNodeIsUnknown(t *testing.T) {
	n := newNode(t)
	n.set("stopped", "")
	_, err := start().Observe(t.Context(), ask("acme/shop:1"))
	if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "does not run (minikube start --profile dev)") {
		t.Error(err)
	}
}

// minikube ends well when it could not load an image.
func TestWhatWasNotLoadedIsNotCalledLoaded(t *testing.T) {
	n := newNode(t)
	n.set("deaf", "")
	p, r := start(), ask("acme/shop:1")
	o, err := p.Observe(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := p.Plan(t.Context(), r, o)
	if err != nil || len(steps) != 1 {
		t.Fatal(steps, err)
	}
	if _, err := p.Apply(t.Context(), r, steps[0]); err == nil || !strings.Contains(err.Error(), "it is not in the node (is it on this machine? docker image inspect acme/shop:1)") {
		t.Error(err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	n := newNode(t)
	other := ask("acme/shop:1")
	other.Resource.Spec = forge.ImageSpec{Profile: "other", Image: "acme/shop:1"}
	_, err := start().Observe(t.Context(), other)
	if err == nil || !strings.Contains(err.Error(), `look for image acme/shop:1: minikube: exit status 85: 🤷 Profile "other" not found.`) {
		t.Error(err)
	}
	n.set("hangs", "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := start().Observe(ctx, ask("acme/shop:1")); reconcile.KindOf(err) != reconcile.Unavailable || time.Since(began) > 20*time.Second {
		t.Error(err, time.Since(began))
	}
	t.Setenv("PATH", t.TempDir())
	_, err = start().Observe(t.Context(), ask("acme/shop:1"))
	if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "no program minikube on the PATH (install it, or leave platform.loadImages out") {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	digest := "sha256:" + strings.Repeat("b", 64)
	node := image{Tags: []string{"docker.io/library/redis:7", "ghcr.io/acme/shop:1", "localhost/x:latest", "localhost:5000/y:1"}, Digests: []string{"ghcr.io/acme/shop@" + digest}}
	for name, want := range map[string]bool{
		"redis:7": true, "library/redis:7": true, "docker.io/redis:7": false, "redis": false, "redis:8": false,
		"ghcr.io/acme/shop:1": true, "acme/shop:1": false, "ghcr.io/acme/shop@" + digest: true, "ghcr.io/acme/shop:1@" + digest: true,
		"ghcr.io/acme/shop:1@sha256:" + strings.Repeat("c", 64): false, "localhost/x": true, "localhost:5000/y:1": true, "localhost:5000/y": false,
	} {
		if got := node.is(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for text, want := range map[string]int{"[]": 0, "null\n": 0, `❗  news [v2]` + "\n" + `[{"repoTags":["a"]}]`: 1, "news": -1, "": -1, `[{"repoTags":["a"]},{}]`: 2} {
		images, err := parse([]byte(text))
		if want < 0 != (err != nil) || err == nil && len(images) != want {
			t.Errorf("%s: %v %v", text, images, err)
		}
	}
	if !slices.Contains(node.Tags, canonical("redis:7")) {
		t.Error("canonical")
	}
}
