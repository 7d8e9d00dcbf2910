package schema_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"forged.dev/forged/schema"
)

// cueCommand is the real cue, of the version that is linked into forged. It is
// built through the module proxy the first time, where the Makefile keeps its
// tools.
var cueCommand = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "cuelang.org/go").Output()
	if err != nil {
		return "", err
	}
	version := strings.TrimSpace(string(out))
	dir, err := filepath.Abs("../.cache/tools/cue@" + version)
	if err != nil {
		return "", err
	}
	command := filepath.Join(dir, "cue")
	if _, err := os.Stat(command); err == nil {
		return command, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "go", "install", "cuelang.org/go/cmd/cue@"+version)
	install.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := install.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return command, nil
})

// workspace is a module as forged init makes it.
type workspace struct {
	cue, dir string
}

func newWorkspace(t *testing.T) workspace {
	t.Helper()
	cue, err := cueCommand()
	if err != nil {
		t.Fatal(err)
	}
	w := workspace{cue, t.TempDir()}
	_, module := schema.Workspace("forge", nil)
	for name, text := range module {
		w.write(t, "cue.mod/"+name, text)
	}
	return w
}

func (w workspace) write(t *testing.T, name, text string) {
	t.Helper()
	at := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// forge writes a forge into a directory of its own.
func (w workspace) forge(t *testing.T, dir, text string, environments ...string) {
	t.Helper()
	beside, _ := schema.Workspace("forge", environments)
	for name, text := range beside {
		w.write(t, dir+"/"+name, text)
	}
	if !packageClause.MatchString(text) {
		text = "package forge\n\n" + text
	}
	w.write(t, dir+"/forge.cue", text)
}

var packageClause = regexp.MustCompile(`(?m)^package \w+$`)

func (w workspace) env() []string {
	return []string{
		"HOME=" + w.dir, "CUE_CACHE_DIR=" + filepath.Join(w.dir, "cache"), "CUE_REGISTRY=none",
		"HTTPS_PROXY=http://127.0.0.1:1", "NO_COLOR=1",
	}
}

// run is the real cue, without any way to the network.
func (w workspace) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), w.cue, args...)
	c.Dir, c.Env = w.dir, w.env()
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestCUEAcceptsValid(t *testing.T) {
	w := newWorkspace(t)
	for _, name := range validExamples(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		w.forge(t, strings.TrimSuffix(filepath.Base(name), ".cue"), string(text))
	}
	for name, body := range onePerPlatform {
		w.forge(t, name, string(whole(body).Files[0].Data), "dev", "prod-eu")
	}
	if out, err := w.run(t, "vet", "-c", "./..."); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := w.run(t, "fmt", "--check", "--files", "forge/forge_schema.cue", "cue.mod"); err != nil {
		t.Errorf("not formatted: %v\n%s", err, out)
	}
}

// What plain CUE cannot judge is listed; all else that is invalid it refuses.
func TestCUERefusesInvalid(t *testing.T) {
	w := newWorkspace(t)
	names, err := filepath.Glob("../examples/invalid/*.cue")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	var mu sync.Mutex
	var accepted []string
	t.Run("each", func(t *testing.T) {
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			dir := strings.TrimSuffix(filepath.Base(name), ".cue")
			w.forge(t, dir, string(text))
			t.Run(dir, func(t *testing.T) {
				t.Parallel()
				if _, err := w.run(t, "vet", "-c", "./"+dir); err == nil {
					mu.Lock()
					accepted = append(accepted, dir+".cue")
					mu.Unlock()
				}
			})
		}
	})
	slices.Sort(accepted)
	golden(t, "testdata/beyond-cue.txt", []byte(strings.Join(accepted, "\n")+"\n"))
}

// What people write beside the language is theirs, and nothing else is.
func TestCUEClosed(t *testing.T) {
	w := newWorkspace(t)
	const body = `environments: dev: platform: kind: "minikube"` + "\n"
	for name, tt := range map[string]struct{ more, want string }{
		"hidden fields":   {`_mine: {a: 1}, _env: platform: kind: "minikube", environments: other: _env`, ""},
		"definitions":     {`#Mine: {a: 1}`, ""},
		"unknown at top":  {`name: 1`, "name: field not allowed"},
		"unknown below":   {`environments: dev: replicas: 1`, "environments.dev.replicas: field not allowed"},
		"unknown in app":  {`app: image: tga: "1"`, "app.image.tga: field not allowed"},
		"wrong value":     {`environments: dev: policy: mode: "aply"`, "environments.dev.policy.mode: "},
		"key is missing":  {`environments: prod: platform: kind: "kubernetes"`, "environments.prod.platform.context: field is required"},
		"default stays":   {`environments: dev: platform: createNamespace: true`, ""},
		"file of another": {"environments: dev: charts: x: {kind: \"path\", path: \"x\", values: {a: [1]}}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := strings.ReplaceAll(name, " ", "-")
			w.forge(t, dir, string(whole(body).Files[0].Data), "dev", "staging")
			w.write(t, dir+"/more.cue", "package forge\n\n"+tt.more+"\n")
			out, err := w.run(t, "vet", "-c", "./"+dir)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%v\n%s", err, out)
			case tt.want != "" && (err == nil || !strings.Contains(out, tt.want)):
				t.Errorf("%v, want %q:\n%s", err, tt.want, out)
			}
			// forged reads the very same directory.
			src, err := schema.Read(filepath.Join(w.dir, dir))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := schema.Load(t.Context(), src); (err == nil) != (tt.want == "") {
				t.Errorf("forged: %v", err)
			}
		})
	}
}

// What tells other tools about the language costs forged nothing: what is
// meant without it is all there is.
func TestWorkspaceIsDropped(t *testing.T) {
	w := newWorkspace(t)
	w.forge(t, "with", string(whole(onePerPlatform["fly"]).Files[0].Data), "dev", "staging")
	src, err := schema.Read(filepath.Join(w.dir, "with"))
	if err != nil {
		t.Fatal(err)
	}
	if len(src.Files) != 2 {
		t.Fatalf("%d files", len(src.Files))
	}
	c, _, err := schema.Fill(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.CUE()
	if err != nil {
		t.Fatal(err)
	}
	// Were it not dropped, every value would count as written.
	if !strings.Contains(string(text), "// default") {
		t.Errorf("the language counts as written:\n%s", text)
	}
}
