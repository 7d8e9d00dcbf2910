package chartsource

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func at(path string) Request {
	return Request{ChartSource: forge.ChartSource{Kind: "path", Path: path}}
}

func TestChartOfADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	write(t, dir, with(shop("1.0.0"),
		".helmignore", "*.bak\n/notes/\n",
		"templates/_h.tpl", "\ufeff{{ define \"x\" }}{{ end }}",
		"old.bak", "", "notes/a.md", "", "templates/.hidden", "",
		"charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 0.1.0\n",
	))
	if err := os.Symlink("values.yaml", filepath.Join(dir, "same.yaml")); err != nil {
		t.Fatal(err)
	}
	c := load(t, source(t, nil, Options{}), at(dir))
	if c.Name != "shop" || c.Version != "1.0.0" || c.Lock != "" || c.From != dir {
		t.Error(c)
	}
	// The same files as Helm itself finds.
	ch, err := loader.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range ch.Raw {
		want = append(want, f.Name)
	}
	slices.Sort(want)
	if got := names(c); got != strings.Join(want, " ") {
		t.Errorf("files\n%s\nand Helm finds\n%s", got, strings.Join(want, " "))
	}
	for _, f := range c.Files {
		if bytes.HasPrefix(f.Data, []byte("\xef\xbb\xbf")) {
			t.Errorf("%s begins with a byte order mark", f.Name)
		}
	}
}

func TestChartOfAnArchive(t *testing.T) {
	packed := archive(t, "shop", with(shop("1.0.0"),
		"Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies: [{name: db, version: ^0.1, repository: \"file://../db\"}]\n",
		"charts/db-0.1.0.tgz", string(archive(t, "db", map[string]string{
			"Chart.yaml": "apiVersion: v2\nname: db\nversion: 0.1.0\n", "templates/a.yaml": "",
			"charts/deep-1.0.0.tgz": string(archive(t, "deep", map[string]string{"Chart.yaml": "apiVersion: v2\nname: deep\nversion: 1.0.0\n"})),
		}))))
	name := filepath.Join(t.TempDir(), "shop-1.0.0.tgz")
	if err := os.WriteFile(name, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(t, source(t, nil, Options{}), at(name))
	want := "Chart.yaml charts/db-0.1.0/Chart.yaml charts/db-0.1.0/charts/deep-1.0.0/Chart.yaml charts/db-0.1.0/templates/a.yaml templates/settings.yaml values.yaml"
	if got := names(c); got != want {
		t.Errorf("files\n%s\nwant\n%s", got, want)
	}
	ch, err := parse(c.Files)
	if err != nil || len(ch.Dependencies()) != 1 || len(ch.Dependencies()[0].Dependencies()) != 1 {
		t.Errorf("%v, %v", ch, err)
	}
}

func TestChartsThatAreRefused(t *testing.T) {
	depends := func(more ...string) map[string]string {
		return with(shop("1.0.0"), append([]string{"Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies: [{name: db, version: ^1, repository: https://charts.example.com}]\n"}, more...)...)
	}
	lock := "dependencies: [{name: db, version: 1.2.0, repository: https://charts.example.com}]\n"
	noise := make([]byte, 4<<20)
	for i := range noise {
		noise[i] = byte(rand.IntN(256))
	}
	many := []entryOf{{name: "shop/Chart.yaml", data: shop("1.0.0")["Chart.yaml"]}}
	for i := range maxFiles {
		many = append(many, entryOf{name: "shop/files/" + strings.Repeat("a", i%50) + string(rune('a'+i%26)) + strings.Repeat("b", i/50)})
	}
	zeros := strings.Repeat("\x00", maxFile)
	bomb := map[string]string{}
	for i := range 8 {
		bomb["files/"+string(rune('a'+i))] = zeros
	}
	nested := archive(t, "db", with(map[string]string{"Chart.yaml": "apiVersion: v2\nname: db\nversion: 1.0.0\n"}, "a", zeros, "b", zeros, "c", zeros))
	deep := archive(t, "d", map[string]string{"Chart.yaml": "apiVersion: v2\nname: d\nversion: 1.0.0\n"})
	for range 10 {
		deep = archive(t, "d", map[string]string{"Chart.yaml": "apiVersion: v2\nname: d\nversion: 1.0.0\n", "charts/d-1.0.0.tgz": string(deep)})
	}
	head := entryOf{name: "shop/Chart.yaml", data: shop("1.0.0")["Chart.yaml"]}
	for _, test := range []struct {
		name    string
		files   map[string]string // of a directory
		archive []byte
		want    []string
	}{
		{"nothing to depend on", depends(), nil, []string{"depends on db, which is not in its charts/", "helm dependency build"}},
		{"a dependency that is locked and not there", depends("Chart.lock", lock), nil, []string{"depends on db, which is not in its charts/", "helm dependency build"}},
		{"another version", depends("charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 2.0.0\n"), nil, []string{"depends on db ^1, and its charts/ has 2.0.0", "helm dependency build"}},
		{
			"another version than is locked", depends("Chart.lock", lock, "charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 1.1.0\n"), nil,
			[]string{"Chart.lock says db 1.2.0, and its charts/ has 1.1.0", "helm dependency build"},
		},
		{"no Chart.yaml", map[string]string{"values.yaml": ""}, nil, []string{"Chart.yaml file is missing"}},
		{"a Chart.yaml that is none", with(shop("1.0.0"), "Chart.yaml", "name: [\n"), nil, []string{"cannot load Chart.yaml"}},
		{"no version", with(shop("1.0.0"), "Chart.yaml", "apiVersion: v2\nname: shop\n"), nil, []string{"version"}},
		{"a large file", with(shop("1.0.0"), "data", strings.Repeat("a", maxFile+1)), nil, []string{"data is larger than 5 MiB"}},
		{"no archive", nil, []byte("level: info\n"), []string{"no archive of a chart"}},
		{"half an archive", nil, archive(t, "shop", shop("1.0.0"))[:100], []string{"no archive of a chart"}},
		{"a large archive", nil, make([]byte, maxArchive+1), []string{"larger than 20 MiB"}},
		{"an archive that unpacks to very much", nil, archive(t, "shop", with(bomb, "Chart.yaml", head.data)), []string{"its files are larger than 32 MiB"}},
		{"one large file", nil, pack(t, head, entryOf{name: "shop/data", data: strings.Repeat("a", maxFile+1)}), []string{"larger than 5 MiB"}},
		{
			"charts in it that unpack to very much", nil, archive(t, "shop", with(shop("1.0.0"), "charts/a-1.0.0.tgz", string(nested), "charts/b-1.0.0.tgz", string(nested), "charts/c-1.0.0.tgz", string(nested))),
			[]string{"charts/c-1.0.0.tgz: its files are larger than 32 MiB"},
		},
		{"charts in charts in charts", nil, deep, []string{"more than 8 deep"}},
		{"very many files", nil, pack(t, many...), []string{"more than 5000 files"}},
		{"a name that leads out", nil, pack(t, head, entryOf{name: "shop/../../etc/passwd", data: "x"}), []string{"parent directory"}},
		{"a name from the root", nil, pack(t, head, entryOf{name: "shop//etc/passwd", data: "x"}), []string{"absolute"}},
		{"a name of Windows", nil, pack(t, head, entryOf{name: `shop\..\..\x`, data: "x"}), []string{"parent directory"}},
		{"a link", nil, pack(t, head, entryOf{name: "shop/values.yaml", data: "/etc/passwd", kind: tar.TypeSymlink}), []string{"values.yaml is no file but a link"}},
		{"a device", nil, pack(t, head, entryOf{name: "shop/values.yaml", kind: tar.TypeChar}), []string{"values.yaml is no file but a link"}},
		{"a file twice", nil, pack(t, head, entryOf{name: "shop/values.yaml", data: "a: 1"}, entryOf{name: "shop/values.yaml", data: "a: 2"}), []string{"values.yaml twice"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "shop")
			if test.archive != nil {
				if err := os.WriteFile(name, test.archive, 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, name, test.files)
			}
			refused(t, source(t, nil, Options{}), at(name), reconcile.Invalid, append(test.want, name)...)
		})
	}
	refused(t, source(t, nil, Options{}), at(filepath.Join(t.TempDir(), "none")), reconcile.Invalid, "it is not there", "Chart.yaml")
}

// A link does not lead out of a chart, and a pipe is not waited for.
func TestDirectoryThatReachesOut(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"leads nowhere, or out of it": func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "files")) },
		"link to a directory":         func(dir string) error { return os.Symlink("templates", filepath.Join(dir, "more")) },
		"not a regular file":          func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600) },
	} {
		dir := t.TempDir()
		write(t, dir, shop("1.0.0"))
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		refused(t, source(t, nil, Options{}), at(dir), reconcile.Invalid, name)
	}
}

// What could not be read is not called missing, nor invalid.
func TestDirectoryThatCannotBeRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	write(t, dir, shop("1.0.0"))
	s := source(t, nil, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("stopping")
	cancel(gone)
	if _, err := s.Load(ctx, at(dir)); !errors.Is(err, gone) || reconcile.KindOf(err) != reconcile.Unavailable {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "values.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("values.yaml", filepath.Join(dir, "values.yaml")); err != nil { // to itself
		t.Fatal(err)
	}
	refused(t, s, at(dir), reconcile.Invalid, "link")
}

// Somebody who writes a chart file by file is waited for: half of one chart and
// half of another are none.
func TestDirectoryThatIsBeingWritten(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, with(shop("1.0.0"), "files/a", "0", "files/b", "0"))
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 200 {
			select {
			case <-stop:
				return
			default:
			}
			text := []byte(strings.Repeat("x", i))
			for _, name := range []string{"files/a", "files/b"} {
				_ = os.WriteFile(filepath.Join(dir, name), text, 0o600)
			}
		}
	})
	s := source(t, nil, Options{})
	c, err := s.Load(t.Context(), at(dir))
	close(stop)
	writer.Wait()
	if err != nil {
		if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "keeps changing") {
			t.Fatal(err)
		}
		return
	}
	var sizes []int
	for _, f := range c.Files {
		if strings.HasPrefix(f.Name, "files/") {
			sizes = append(sizes, len(f.Data))
		}
	}
	if len(sizes) != 2 || sizes[0] != sizes[1] {
		t.Errorf("half of one and half of another: %v", sizes)
	}
}

// A chart of this machine is what it was until somebody says that it changed.
func TestRecheck(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, shop("1.0.0"))
	s := source(t, nil, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan struct{}, 10)
	var watch sync.WaitGroup
	watch.Go(func() {
		if err := s.Watch(ctx, func() { changes <- struct{}{} }); err != nil {
			t.Error(err)
		}
	})
	defer watch.Wait()
	defer cancel()
	if c := load(t, s, at(dir)); c.Version != "1.0.0" {
		t.Fatal(c)
	}
	await := func() {
		t.Helper()
		select {
		case <-changes:
		case <-time.After(time.Minute):
			t.Fatal("nobody is told")
		}
	}
	write(t, dir, shop("1.1.0"))
	if c := load(t, s, at(dir)); c.Version != "1.0.0" {
		t.Errorf("before anybody said so: %v", c)
	}
	s.Recheck()
	await()
	if c := load(t, s, at(dir)); c.Version != "1.1.0" || c.Stale != nil {
		t.Errorf("after: %v", c)
	}
	// A change that breaks it leaves the last good one, and says so.
	write(t, dir, map[string]string{"Chart.yaml": "name: [\n"})
	s.Recheck()
	await()
	if c := load(t, s, at(dir)); c.Version != "1.1.0" || reconcile.KindOf(c.Stale) != reconcile.Invalid {
		t.Errorf("broken: %v, stale: %v", c, c.Stale)
	}
	write(t, dir, shop("1.2.0"))
	s.Recheck()
	await()
	if c := load(t, s, at(dir)); c.Version != "1.2.0" || c.Stale != nil {
		t.Errorf("mended: %v, stale: %v", c, c.Stale)
	}
}
