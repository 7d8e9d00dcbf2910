package schema_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/schema"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "forge.cue", minimal)
	write(t, "large.cue", strings.Repeat(" ", schema.MaxFileSize+1))
	write(t, "folder/forge.cue", minimal)
	write(t, "package/one.cue", "package forge\n"+minimal)
	write(t, "package/alone.cue", "forge: 1\n")
	if err := os.Mkdir("package/dir.cue", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("pipe.cue", 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"link.cue": "folder/forge.cue", "loop.cue": "loop.cue", "device.cue": "/dev/zero", "dangling.cue": "nothing",
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		paths []string
		want  string // an error, or what is read
	}{
		{"a file", []string{"forge.cue"}, "forge.cue"},
		{"a file with a long name", []string{filepath.Join(dir, "forge.cue")}, filepath.Join(dir, "forge.cue")},
		{"a file with an untidy name", []string{"./folder/../forge.cue"}, "forge.cue"},
		{"a link, as Kubernetes mounts files", []string{"link.cue"}, "link.cue"},
		{"a directory", []string{"folder"}, "folder/forge.cue"},
		{"a package", []string{"package"}, "package/one.cue"},
		{"files that stand alone", []string{"forge.cue", "link.cue"}, "forge.cue link.cue"},
		{"a file twice", []string{"forge.cue", "./forge.cue"}, "forge.cue"},
		{"nothing", nil, "no file named"},
		{"what is not there", []string{"none.cue"}, "read none.cue: no such file or directory"},
		{"what is not there any more", []string{"dangling.cue"}, "read dangling.cue: no such file or directory"},
		{"a pipe without a writer", []string{"pipe.cue"}, "read pipe.cue: it is not a regular file; use - to read from standard input"},
		{"a device", []string{"/dev/zero"}, "read /dev/zero: it is not a regular file"},
		{"a link to a device", []string{"device.cue"}, "read device.cue: it is not a regular file"},
		{"a link to itself", []string{"loop.cue"}, "read loop.cue: too many levels of symbolic links"},
		{"too large", []string{"large.cue"}, "read large.cue: it is larger than 1 MiB"},
		{"two directories", []string{"forge.cue", "folder/forge.cue"}, "the files of one forge are in one directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			src, err := schema.Read(test.paths...)
			if err != nil {
				if !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), "none.cue") > 1 {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			if got := strings.Join(src.Paths(), " "); got != test.want {
				t.Errorf("read %s, want %s", got, test.want)
			}
		})
	}
	if _, err := schema.Read("none.cue"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// However hostile the directory of a package is, reading it ends, and with an
// error that says what is wrong with what.
func TestReadHostileDirectory(t *testing.T) {
	link := func(to, name string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.Symlink(to, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	many := func(n int, dir, ext string) func(*testing.T) {
		return func(t *testing.T) {
			for i := range n {
				write(t, fmt.Sprintf("%s/f%d%s", dir, i, ext), "package x\n")
			}
		}
	}
	outside := filepath.Join(t.TempDir(), "outside.cue")
	write(t, outside, "package forge\nsecret: 1\n")
	for _, test := range []struct {
		name  string
		build func(*testing.T)
		want  string // an error, or the first diagnostic
	}{
		{"a pipe", func(t *testing.T) {
			if err := syscall.Mkfifo("m/pipe.cue", 0o600); err != nil {
				t.Fatal(err)
			}
		}, "read m/pipe.cue: it is not a regular file"},
		{"a device", link("/dev/zero", "m/zero.cue"), "read m/zero.cue: it is a symbolic link that leads out of the module"},
		{"a loop", link("loop.cue", "m/loop.cue"), "read m/loop.cue: its symbolic links go round in a circle"},
		{"a way out", link(outside, "m/out.cue"), "read m/out.cue: it is a symbolic link that leads out of the module"},
		{"a relative way out", link("../outside.cue", "m/out.cue"), "read m/out.cue: it is a symbolic link that leads out of the module"},
		{"a link into the module", link("shared/shared.cue", "m/in.cue"), ""},
		{"a link to a directory", link("shared", "m/in.cue"), ""},
		{"a link to nothing", link("nothing", "m/in.cue"), "read m/in.cue: no such file or directory"},
		{"10 000 files", many(10_000, "m", ".cue"), "read m: it holds more than 1000 CUE files"},
		{"10 000 files of another kind", many(10_000, "m", ".txt"), ""},
		{"10 000 imported files", many(10_000, "m/shared", ".cue"), `"example.com/m/shared": m/shared cannot be read: it holds more than 1000 CUE files`},
		{
			"a large file", func(t *testing.T) { write(t, "m/large.cue", "package forge\n"+strings.Repeat("a", 100<<20)) },
			"read m/large.cue: it is larger than 1 MiB",
		},
		{"a large file of another package", func(t *testing.T) { write(t, "m/large.cue", "package x\n"+strings.Repeat("a", 2<<20)) }, ""},
		{"a large file of no package", func(t *testing.T) { write(t, "m/large.cue", strings.Repeat("a", 2<<20)) }, "read m/large.cue: it is larger than 1 MiB"},
		{"many large files", func(t *testing.T) {
			for i := range 17 {
				write(t, fmt.Sprintf("m/large%d.cue", i), "package x\n"+strings.Repeat("a", 1000<<10))
			}
		}, "read m: a forge and what it imports are larger than 16 MiB"},
		{"many files in many packages", func(t *testing.T) {
			many(600, "m/shared", ".cue")(t)
			many(600, "m/more", ".cue")(t)
			write(t, "m/shared/import.cue", "package shared\nimport \"example.com/m/more:x\"\ny: x\n")
		}, `"example.com/m/more:x": m/more cannot be read: a forge and what it imports have more than 1000 files`},
		{"an imported way out", link(outside, "m/shared/out.cue"), `"example.com/m/shared": m/shared/out.cue cannot be read: it is a symbolic link that leads out of the module`},
		{"an imported directory outside", func(t *testing.T) {
			if err := os.RemoveAll("m/shared"); err != nil {
				t.Fatal(err)
			}
			link(filepath.Dir(outside), "m/shared")(t)
		}, `"example.com/m/shared": m/shared cannot be read: it is a symbolic link that leads out of the module`},
		{"an imported pipe", func(t *testing.T) {
			if err := syscall.Mkfifo("m/shared/pipe.cue", 0o600); err != nil {
				t.Fatal(err)
			}
		}, `"example.com/m/shared": m/shared/pipe.cue cannot be read: it is not a regular file`},
		{
			"an imported large file", func(t *testing.T) { write(t, "m/shared/l.cue", "package shared\n"+strings.Repeat("a", 2<<20)) },
			`"example.com/m/shared": m/shared/l.cue cannot be read: it is larger than 1 MiB`,
		},
		{"many imports", func(t *testing.T) {
			var b strings.Builder
			for i := range 1001 {
				fmt.Fprintf(&b, "import \"example.com/m/p%d\"\n", i)
			}
			write(t, "m/more.cue", "package forge\n"+b.String())
		}, "read m: it imports more than 1000 packages"},
		{"a pipe for a module file", func(t *testing.T) {
			if err := os.Remove("m/cue.mod/module.cue"); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo("m/cue.mod/module.cue", 0o600); err != nil {
				t.Fatal(err)
			}
		}, `"example.com/m/shared": m/cue.mod/module.cue cannot be read: it is not a regular file`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "m/cue.mod/module.cue", `module: "example.com/m@v0"`)
			write(t, "m/shared/shared.cue", "package shared\nPort: 9000\n")
			write(t, "m/forge.cue", "package forge\nimport \"example.com/m/shared\"\n"+minimal+"app: port: shared.Port\n")
			test.build(t)
			got := ""
			src, err := schema.Read("m/forge.cue")
			if err == nil {
				_, _, err = schema.Load(t.Context(), src)
			}
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %.200s, want %s", got, test.want)
			}
		})
	}
}

// A package without a module ends at its directory.
func TestReadWithoutModule(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "outside.cue", "package forge\n")
	write(t, "d/..data/forge.cue", "package forge\n"+minimal)
	for link, to := range map[string]string{"d/forge.cue": "..data/forge.cue", "d/more.cue": "../outside.cue"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := schema.Read("d/forge.cue"); err == nil || err.Error() != "read d/more.cue: it is a symbolic link that leads out of the directory of the forge" {
		t.Error(err)
	}
	if err := os.Remove("d/more.cue"); err != nil {
		t.Fatal(err)
	}
	src, err := schema.Read("d/forge.cue")
	if err != nil || !slices.Equal(src.Paths(), []string{"d/forge.cue"}) || !slices.Equal(src.Dirs, []string{"d"}) {
		t.Errorf("%v %v %v", src.Paths(), src.Dirs, err)
	}
	load(t, src)
}

func TestReadEach(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a/one.cue", "package forge\n"+minimal)
	write(t, "a/two.cue", "package forge\n")
	write(t, "a/three.cue", "package other\n")
	write(t, "a/alone.cue", minimal)
	write(t, "b/forge.cue", "package forge\n"+minimal)
	var got []string
	for _, r := range schema.ReadEach("a/two.cue", "none.cue", "a/alone.cue", "b", "a/three.cue", "./a/one.cue", "a/alone.cue", "b/forge.cue") {
		if r.Err != nil {
			got = append(got, r.Err.Error())
			continue
		}
		got = append(got, strings.Join(r.Paths, ",")+" = "+strings.Join(r.Source.Paths(), ","))
	}
	want := []string{
		"a/two.cue,./a/one.cue = a/one.cue,a/two.cue",
		"read none.cue: no such file or directory",
		"a/alone.cue = a/alone.cue",
		"b,b/forge.cue = b/forge.cue",
		"a/three.cue = a/three.cue",
		"a/alone.cue = a/alone.cue",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is on fire") }

func TestReadFrom(t *testing.T) {
	src, err := schema.ReadFrom("-", strings.NewReader(minimal+"app: prot: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := diagnose(t, src); len(d) != 1 || !strings.HasPrefix(d[0].String(), "-:8:6: error: app.prot: ") {
		t.Errorf("%v", d)
	}
	if _, err := schema.ReadFrom("-", strings.NewReader(strings.Repeat(" ", schema.MaxFileSize+1))); err == nil {
		t.Error("too large and accepted")
	}
	if _, err := schema.ReadFrom("-", failing{}); err == nil || !strings.Contains(err.Error(), "read -: the disk is on fire") {
		t.Error(err)
	}
}

func TestHash(t *testing.T) {
	file := func(name, data string) schema.File { return schema.File{Name: name, Data: []byte(data)} }
	sources := []schema.Source{
		{},
		{Files: []schema.File{file("a", "b")}},
		{Files: []schema.File{file("ab", "")}},
		{Files: []schema.File{file("a", ""), file("b", "")}},
		{Dir: "a", Files: []schema.File{file("b", "")}},
		{Files: []schema.File{file("a", "")}, Packages: []schema.Package{{Path: "b"}}},
		{Files: []schema.File{file("a", "")}, Packages: []schema.Package{{Path: "b", Files: []schema.File{file("c", "d")}}}},
		{Files: []schema.File{file("a", "")}, Packages: []schema.Package{{Path: "b"}, {Path: "c"}}},
		{Files: []schema.File{file("a", "")}, Packages: []schema.Package{{Problem: "b"}}},
		{Files: []schema.File{file("a", "")}, Packages: []schema.Package{{Hint: "b"}}},
		{Files: []schema.File{file("a", "")}, Tags: []string{"b"}},
		{Files: []schema.File{file("a", "")}, Tags: []string{"b", ""}},
	}
	seen := map[string]int{}
	for i, s := range sources {
		if j, ok := seen[s.Hash()]; ok {
			t.Errorf("%d and %d have one hash", i, j)
		}
		seen[s.Hash()] = i
		if first, again := s.Hash(), s.Hash(); first != again || len(first) != 64 {
			t.Errorf("%d hashes to %q, then to %q", i, first, again)
		}
	}
}

// chain is nearly a file of fields that refer to the next with operators.
func chain(operator string, n int) string {
	var b strings.Builder
	for i := 0; b.Len() < schema.MaxFileSize-3000; i++ {
		if operator == "-" {
			fmt.Fprintf(&b, "_a%d: %s_a%d\n", i, strings.Repeat("-", n), i+1)
		} else {
			fmt.Fprintf(&b, "_a%d: _a%d%s\n", i, i+1, strings.Repeat(operator, n))
		}
	}
	return b.String()
}

// What is too much text is refused before CUE sees it, wherever it comes from.
func TestTooMuchText(t *testing.T) {
	files := func(n int, s string) []schema.File {
		var files []schema.File
		for i := range n {
			files = append(files, schema.File{Name: fmt.Sprintf("f%d.cue", i), Data: []byte(s)})
		}
		return files
	}
	for name, src := range map[string]schema.Source{
		"files":          {Files: files(1001, "")},
		"imported files": {Files: files(1, ""), Packages: []schema.Package{{Path: "a.b/c", Files: files(1000, "")}}},
		"bytes":          {Files: files(17, strings.Repeat("/", schema.MaxFileSize))},
		"fields":         {Files: files(2, strings.Repeat("a: 1\n", 80_000))},
		"lets":           {Files: files(2, strings.Repeat("{let a = 1}\n", 80_000))},
		// Each of these overflows the stack of the evaluator.
		"plus":           {Files: files(1, chain("+1", 480))},
		"minus":          {Files: files(1, chain("-", 980))},
		"interpolations": {Files: files(1, strings.Repeat("x: \"\\(y)\"\n", 95_000))},
	} {
		t.Run(name, func(t *testing.T) {
			if d := diagnose(t, src); len(d) != 1 || d[0].Name != "size" {
				t.Errorf("%v", d)
			}
		})
	}
}
