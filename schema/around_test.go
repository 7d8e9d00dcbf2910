package schema

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A module is that of the people who write the forge: a directory above where
// somebody else may put a cue.mod is not looked at, nor what is above it.
func TestModuleAround(t *testing.T) {
	type tree map[string]owned
	root, stranger, everybody := owned{}, owned{uid: 1001}, owned{uid: 1000, everybody: true}
	for _, test := range []struct {
		name string
		dirs tree // the others are mine
		mod  string
		want string // the root
		stop string
	}{
		{"above", nil, "", "m", ""},
		{"its own directory is for everybody", tree{"m/a/b": everybody}, "", "m", ""},
		{"its own directory is for everybody, and its own module", tree{"m/a/b": everybody}, "m/a/b", "m/a/b", ""},
		{"anybody may write above", tree{"m": everybody}, "", "", "anybody may write to m"},
		{"anybody may write in between", tree{"m/a": everybody}, "", "", "anybody may write to m/a"},
		{"anybody may write further above", tree{".": everybody}, "", "m", ""},
		{"anybody may write to root's", tree{"m": {everybody: true}}, "", "", "anybody may write to m"},
		{"it is a stranger's", tree{"m": stranger}, "", "", "m belongs to another user than m/a/b"},
		{"a stranger's is in between", tree{"m/a": stranger}, "", "", "m/a belongs to another user than m/a/b"},
		{"it is root's", tree{"m": root, "m/a": root}, "", "m", ""},
		{"all is root's", tree{".": root, "m": root, "m/a": root, "m/a/b": root}, "", "m", ""},
		{"the forge is root's, and what is above is not", tree{"m/a/b": root}, "", "", "m/a belongs to another user than m/a/b"},
		{"only below", tree{"m": everybody}, "m/a", "m/a", ""},
		{"none to leave alone", tree{"m/a": everybody}, "m/none", "", ""},
		{"its own", tree{"m/a": stranger}, "m/a/b", "m/a/b", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			if err := os.MkdirAll("m/a/b", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(cmp.Or(test.mod, "m"), "cue.mod"), 0o755); err != nil {
				t.Fatal(err)
			}
			got, err := moduleAround("m/a/b", func(at string) (owned, error) {
				rel, err := filepath.Rel(dir, at)
				if who, ok := test.dirs[rel]; ok || err != nil {
					return who, err
				}
				return owned{uid: 1000}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			root := ""
			if test.want != "" {
				root = filepath.Join(dir, test.want)
			}
			if stop := strings.ReplaceAll(got.stop, dir+"/", ""); got.root != root || stop != test.stop {
				t.Errorf("in %q, %q; want %q, %q", got.root, stop, root, test.stop)
			}
		})
	}
}

// What anybody may write to is not looked at for packages, and the forge is
// told why.
func TestModuleOfAnybody(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"m/cue.mod/module.cue": `module: "example.com/m@v0"`,
		"m/p/p.cue":            "package p\n",
		"m/forge.cue":          "package forge\napp: name: \"stranger\"\n",
		"m/d/forge.cue":        "package forge\nimport \"example.com/m/p\"\nx: p\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src, err := Read("m/d/forge.cue")
	if err != nil || len(src.Files) != 2 || src.Packages[0].Problem != "" {
		t.Fatalf("%+v, %v", src, err)
	}
	if err := os.Chmod("m", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	src, err = Read("m/d/forge.cue")
	if err != nil || len(src.Files) != 1 || !strings.Contains(src.Packages[0].Problem, "because anybody may write to ") {
		t.Fatalf("%+v, %v", src, err)
	}
}

// What cannot be looked at is not nothing.
func TestModuleThatCannotBeRead(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"cue.mod", "p/q"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"cue.mod/module.cue": `module: "example.com/m@v0"`,
		"p/q/q.cue":          "package q\n",
		"forge.cue":          "package forge\nimport \"example.com/m/p/q\"\nx: q\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("cue.mod", "p/cue.mod"); err != nil { // leads to itself
		t.Fatal(err)
	}
	src, err := Read("forge.cue")
	if err != nil || len(src.Packages) != 1 || src.Packages[0].Problem != "p/cue.mod cannot be read: its symbolic links go round in a circle" {
		t.Fatalf("%+v, %v", src, err)
	}
}
