package schema_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"forged.dev/forged/schema"
)

// Each archive is a directory of files, with what is read from it in its
// comment: "read PATH...", "tag TAG". Its file "want" is what comes of it.
func TestModules(t *testing.T) {
	names, err := filepath.Glob("testdata/modules/*.txtar")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d archives, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			name, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want := unpack(t, archive)
			var got bytes.Buffer
			var paths, tags []string
			for line := range strings.Lines(string(archive.Comment)) {
				switch words := strings.Fields(line); {
				case len(words) == 0 || words[0] == "#":
				case words[0] == "tag":
					tags = append(tags, words[1:]...)
				case words[0] == "read":
					paths = words[1:]
					fmt.Fprintf(&got, "# %s\n", strings.Join(append(words, tags...), " "))
					describe(&got, paths, tags)
					tags = nil
				default:
					t.Fatalf("%q is no command", line)
				}
			}
			if paths == nil {
				t.Fatal("it reads nothing")
			}
			if *update {
				want.Data = got.Bytes()
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(want.Data), got.String()); diff != "" {
				t.Errorf("-want +got; run with -update to accept:\n%s", diff)
			}
		})
	}
}

// unpack writes an archive into a directory of its own, which becomes the
// working directory, and returns its file "want".
func unpack(t *testing.T, archive *txtar.Archive) *txtar.File {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	var want *txtar.File
	for i := range archive.Files {
		f := &archive.Files[i]
		if f.Name == "want" {
			want = f
			continue
		}
		write(t, f.Name, string(f.Data))
	}
	if want == nil {
		archive.Files = append(archive.Files, txtar.File{Name: "want"})
		want = &archive.Files[len(archive.Files)-1]
	}
	return want
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// describe says what was read, and what Load makes of it.
func describe(w *bytes.Buffer, paths, tags []string) {
	src, err := schema.Read(paths...)
	if err != nil {
		fmt.Fprintf(w, "error: %v\n", err)
		return
	}
	src.Tags = tags
	fmt.Fprintf(w, "files: %s\n", strings.Join(src.Paths(), " "))
	fmt.Fprintf(w, "dirs: %s\n", strings.Join(src.Dirs, " "))
	f, _, err := schema.Load(context.Background(), src)
	diags, ok := errors.AsType[schema.Diagnostics](err)
	switch {
	case err == nil:
		fmt.Fprintf(w, "valid: %s %s in", f.App.Name, f.App.Image.Tag)
		for _, e := range f.Environments {
			fmt.Fprintf(w, " %s", e.Name)
		}
		fmt.Fprintln(w)
	case !ok:
		fmt.Fprintf(w, "error: %v\n", err)
	}
	for _, d := range diags {
		fmt.Fprintf(w, "%s:%d:%d: [%s]", d.File, d.Line, d.Col, d.Name)
		if d.Path != "" {
			fmt.Fprintf(w, " %s:", d.Path)
		}
		fmt.Fprintf(w, " %s\n", d.Message)
		if d.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", d.Hint)
		}
	}
}
