package schema_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"forged.dev/forged/schema"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "forge.cue")
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.cue")
	if err := os.WriteFile(large, make([]byte, schema.MaxFileSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe.cue")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.cue")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		paths []string
		want  string
	}{
		{"a file", []string{file}, ""},
		{"a link, as Kubernetes mounts files", []string{link}, ""},
		{"nothing", nil, "no file named"},
		{"a directory", []string{dir}, "it is a directory; name the file in it, such as " + file},
		{"a pipe without a writer", []string{pipe}, "it is not a regular file; use - to read from standard input"},
		{"a device", []string{"/dev/zero"}, "it is not a regular file"},
		{"too large", []string{large}, "it is larger than 1 MiB"},
		{"two directories", []string{file, "/etc/forge.cue"}, "the files of one forge are in one directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			src, err := schema.Read(test.paths...)
			switch {
			case test.want == "" && (err != nil || string(src.Files[0].Data) != "1" || src.Dir != dir):
				t.Errorf("%+v, %v", src, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	_, err := schema.Read(filepath.Join(dir, "none.cue"))
	if !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), "none.cue") != 1 {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is on fire") }

func TestReadFrom(t *testing.T) {
	src, err := schema.ReadFrom("-", strings.NewReader(minimal+"app: prot: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := diagnose(t, src); len(d) != 1 || !strings.HasPrefix(d[0].String(), "-:8:6: app.prot: ") {
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
