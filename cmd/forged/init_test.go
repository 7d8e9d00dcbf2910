package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cuelang.org/go/cue/format"
	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/schema"
)

// initMatrix are command lines of init: every platform, every mode of every
// service on it, and what else flags can say.
func initMatrix() [][]string {
	all := [][]string{
		{"--platform", strings.Join(platformWords, ","), "--domain", "a.example.com,b.example.com,c.example.com"},
		{"--platform", "one=fly,two=fly", "--domain", "two=x.example.com", "--org", "acme", "--region", "fra"},
		{"--platform", "kubernetes", "--temporal", "cloud", "--postgres", "external", "--redis", "off", "--context", "c"},
		{"--platform", "minikube", "--image", "ghcr.io/acme/shop@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"},
		{"--platform", "minikube", "--image", "localhost:5000/shop:1"},
		{"--platform", "minikube,minikube,compose,compose"},
		{"--platform", "a=minikube,b=minikube", "--domain", "a=shop.local"},
		{"--platform", "eks,aks", "--domain", "prod=a.example.com,prod=b.example.com"},
	}
	for _, platform := range platformWords {
		all = append(all, []string{"--platform", platform})
		kind, distribution, _ := strings.Cut(platform, ":")
		if kind != "compose" { // where nothing has a name
			all = append(all, []string{"--platform", "e=" + platform, "--domain", "e=api.example.com"})
		}
		if distribution != "" {
			continue // it has the services of the others
		}
		for i := range 5 {
			args := []string{"--platform", platform}
			for _, service := range services {
				modes := schema.Values(kind, distribution, "services", service, "mode")
				args = append(args, "--"+service, modes[min(i, len(modes)-1)])
			}
			all = append(all, args)
		}
	}
	return all
}

// Whatever init is asked for: it writes a valid, formatted forge.
func TestInitWritesValid(t *testing.T) {
	for _, args := range initMatrix() {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "shop")
			all := append([]string{"init", dir, "--image", "ghcr.io/acme/shop:1.4.2"}, args...)
			var out, stderr bytes.Buffer
			if code := execute(t.Context(), all, streams{strings.NewReader(""), &out, &stderr}); code != exitOK {
				t.Fatalf("exit code %d\n%s", code, stderr.String())
			}
			text, err := os.ReadFile(filepath.Join(dir, "forge.cue"))
			if err != nil {
				t.Fatal(err)
			}
			formatted, err := format.Source(text)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(formatted), string(text)); d != "" {
				t.Errorf("it is not formatted (-want +got):\n%s", d)
			}
			src, err := schema.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			_, warnings, err := schema.Load(t.Context(), src)
			if err != nil {
				t.Errorf("%v\n%s", err, text)
			}
			for _, w := range warnings {
				// That data in the cluster is at risk there, is for whoever asks for it.
				if w.Name != "fks-data" {
					t.Errorf("%v", w)
				}
			}
		})
	}
}

func TestInitAsks(t *testing.T) {
	for name, tt := range map[string]struct {
		given   answers
		typed   []string
		want    answers
		asked   []string
		unasked []string
	}{
		"everything": {
			typed: []string{"Shop", "shop", "ghcr.io/acme/shop", "ghcr.io/acme/shop:1.4.2", "minikube, kubernetes", "acme-prod", "api.example.com", "off", "external", "", ""},
			want: answers{
				app: "shop", image: "ghcr.io/acme/shop:1.4.2", platforms: []string{"minikube", "kubernetes"},
				contexts: []string{"prod=acme-prod"}, domains: []string{"prod=api.example.com"},
				postgres: []string{"local=off", "prod=external"}, redis: []string{"local=in-cluster", "prod=in-cluster"},
			},
			asked: []string{"Name of the app [my-app]: ", "begins with a letter", "has no tag", "Context of the kubeconfig for prod [prod]: "},
		},
		"only what is missing": {
			given:   answers{app: "shop", image: "a/b:1", platforms: []string{"fly"}, org: "acme", domains: []string{"a.example.com"}, postgres: []string{"off"}, redis: []string{"off"}},
			typed:   []string{"frankfurt", "fra"},
			want:    answers{app: "shop", image: "a/b:1", platforms: []string{"fly"}, org: "acme", region: "fra", domains: []string{"a.example.com"}, postgres: []string{"off"}, redis: []string{"off"}},
			asked:   []string{"Region at Fly [iad]: ", "three lower-case letters"},
			unasked: []string{"Name of the app", "Organization", "PostgreSQL", "Host name"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			person := &asker{t.Context(), bufio.NewScanner(strings.NewReader(strings.Join(tt.typed, "\n") + "\n")), &out, "nothing was written"}
			a := tt.given
			guesses, err := a.complete("/somewhere/My App", person)
			if err != nil || len(guesses) > 0 {
				t.Fatalf("%v, guesses %q\n%s", err, guesses, out.String())
			}
			if d := cmp.Diff(tt.want, a, cmp.AllowUnexported(answers{})); d != "" {
				t.Errorf("answers (-want +got):\n%s", d)
			}
			for _, s := range tt.asked {
				if !strings.Contains(out.String(), s) {
					t.Errorf("it does not say %q:\n%s", s, out.String())
				}
			}
			for _, s := range tt.unasked {
				if strings.Contains(out.String(), s) {
					t.Errorf("it says %q:\n%s", s, out.String())
				}
			}
		})
	}
}

// A person who goes away leaves nothing behind.
func TestInitUnanswered(t *testing.T) {
	person := &asker{t.Context(), bufio.NewScanner(strings.NewReader("shop\n")), &bytes.Buffer{}, "nothing was written"}
	var a answers
	if _, err := a.complete("shop", person); err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("error %v", err)
	}
}

// Ctrl-C ends a question that nobody answers.
func TestInitInterrupted(t *testing.T) {
	in, silent := io.Pipe()
	defer func() { _ = silent.Close() }()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var a answers
	_, err := a.complete("shop", &asker{ctx, bufio.NewScanner(in), &bytes.Buffer{}, "nothing was written"})
	var end *exit
	if !errors.As(err, &end) || end.code != exitInterrupted || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("error %v", err)
	}
}

func TestWriteFilesKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	mine, ours := filepath.Join(dir, "mine.cue"), filepath.Join(dir, "ours.cue")
	for name, text := range map[string]string{mine: "a: 1\n", ours: "// Code generated by forged; DO NOT EDIT.\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := writeFiles(map[string]string{mine: "b: 1\n", ours: "c: 1\n"}, false, ""); err == nil || !strings.Contains(err.Error(), "mine.cue exists") {
		t.Errorf("error %v", err)
	}
	if text, err := os.ReadFile(ours); err != nil || !strings.HasPrefix(string(text), "//") {
		t.Errorf("something was written: %q, %v", text, err)
	}
	written, err := writeFiles(map[string]string{mine: "b: 1\n", ours: "c: 1\n"}, true, ours)
	if err != nil || len(written) != 2 || written[1] != ours {
		t.Errorf("%q, %v", written, err)
	}
	if _, err := writeFiles(map[string]string{filepath.Join(mine, "below.cue"): ""}, true, ""); err == nil {
		t.Error("a file below a file was written")
	}
}
