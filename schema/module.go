package schema

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	slashpath "path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"cuelang.org/go/cue/parser"
)

// A package is read as the cue command reads it, from the module around it and
// nothing else: no registry is asked, and the operating system is made to
// refuse every way out of the module's directory, links among them.

// schemaPath is where the schema is imported from, so that other tools
// understand a forge by themselves. Here it is always the embedded one.
const schemaPath = "forged.dev/forged/schema/v1"

// tree reads below one directory, the root of a module or else the directory
// of a forge. Paths in it are relative to the root and have slashes.
type tree struct {
	root  *os.Root
	start string // the directory of the forge
	shown string // the same, as diagnostics show it
	given []File // of the directory of the forge, read before

	inModule    bool
	stop        string // why a module above was left alone
	moduleRead  bool
	modulePath  string // without major version
	moduleMajor string
	moduleFault *refusal // why nothing can be imported from the module

	listed  map[string][]listedFile
	looked  map[string]bool // directories that were looked at
	entries int
	files   int
	bytes   int
}

// refusal is a reason to leave something alone that could be read. The text
// is at fault for asking.
type refusal struct{ message, hint string }

func (r *refusal) Error() string {
	if r.hint != "" {
		return r.message + "; " + r.hint
	}
	return r.message
}

func refuse(hint, format string, args ...any) *refusal {
	return &refusal{fmt.Sprintf(format, args...), hint}
}

// openTree opens the module around dir, or dir alone if it is in none or
// module is false.
func openTree(dir string, module bool) (*tree, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	t := &tree{start: ".", shown: dir, listed: map[string][]listedFile{}, looked: map[string]bool{}}
	root := abs
	if module {
		around, err := moduleAround(dir, owner)
		if err != nil {
			return nil, err
		}
		if t.stop = around.stop; around.root != "" {
			root, t.inModule = around.root, true
		}
	}
	if rel, err := filepath.Rel(root, abs); err == nil {
		t.start = filepath.ToSlash(rel)
	}
	if t.root, err = os.OpenRoot(root); err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, cause(err))
	}
	return t, nil
}

func (t *tree) close() { _ = t.root.Close() }

// name is how a path in the tree is shown.
func (t *tree) name(at string) string {
	rel, err := filepath.Rel(filepath.FromSlash(t.start), filepath.FromSlash(at))
	if err != nil {
		rel = at
	}
	return filepath.Join(t.shown, rel)
}

// failure is an error about a place in the tree that names it once.
func (t *tree) failure(at string, err error) error {
	if f, ok := errors.AsType[*failed](err); ok {
		at, err = f.at, f.err
	}
	return fmt.Errorf("read %s: %w", t.name(at), cause(err))
}

// failed says where in the tree something went wrong.
type failed struct {
	at  string
	err error
}

func (f *failed) Error() string { return f.at + ": " + cause(f.err).Error() }
func (f *failed) Unwrap() error { return f.err }

// dirs are the directories that were looked at.
func (t *tree) dirs() []string {
	var dirs []string
	for at := range t.looked {
		dirs = append(dirs, t.name(at))
	}
	slices.Sort(dirs)
	return dirs
}

// count adds a file to what is read in all.
func (t *tree) count(size int) error {
	t.files++
	t.bytes += size
	switch {
	case t.files > maxFiles:
		return refuse("", "a forge and what it imports have more than %d files", maxFiles)
	case t.bytes > maxText:
		return refuse("", "a forge and what it imports are larger than %d MiB", maxText>>20)
	}
	return nil
}

// listedFile is a file of a directory that may be part of a package.
type listedFile struct {
	File
	pkg     string
	unknown bool     // it is no CUE: Load will say so, for every package it may be of
	fault   *refusal // why it has no text
}

// list reads the CUE files of a directory, without those that cue leaves out.
func (t *tree) list(dir string) ([]listedFile, error) {
	if files, ok := t.listed[dir]; ok {
		return files, nil
	}
	t.looked[dir] = true
	names, err := t.names(dir)
	if err != nil {
		return nil, err
	}
	files := []listedFile{}
	for _, name := range names {
		at := slashpath.Join(dir, name)
		f := listedFile{File: File{Name: t.name(at)}}
		i := slices.IndexFunc(t.given, func(g File) bool { return dir == t.start && g.Name == f.Name })
		if i >= 0 {
			f.Data = t.given[i].Data
		} else {
			f.Data, err = t.read(at)
			if errors.Is(err, syscall.EISDIR) {
				continue
			}
			if f.fault, _ = errors.AsType[*refusal](err); err != nil && f.fault == nil {
				return nil, &failed{at, err}
			}
			if err := t.count(len(f.Data)); err != nil {
				return nil, &failed{dir, err}
			}
		}
		var ok bool
		f.pkg, ok = packageOf(f.File)
		f.unknown = !ok || f.fault != nil && f.Data == nil
		if f.fault != nil {
			f.Data = nil
		}
		files = append(files, f)
	}
	t.listed[dir] = files
	return files, nil
}

// names are the names of the files of a directory that cue reads, sorted.
func (t *tree) names(dir string) ([]string, error) {
	d, err := t.root.Open(dir)
	if err != nil {
		return nil, &failed{dir, t.outside(err)}
	}
	defer d.Close()
	var names []string
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() || !strings.HasSuffix(name, ".cue") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
				strings.HasSuffix(name, "_test.cue") || strings.HasSuffix(name, "_tool.cue") {
				continue
			}
			if names = append(names, name); len(names) > maxFiles {
				return nil, &failed{dir, refuse("", "it holds more than %d CUE files", maxFiles)}
			}
		}
		if t.entries += len(entries); t.entries > maxEntries {
			return nil, &failed{dir, refuse("move the forge to a directory of its own", "there are more than %d files beside it", maxEntries)}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, &failed{dir, err}
		}
	}
	slices.Sort(names)
	return names, nil
}

// read reads a file. One that is too large comes with a refusal and with its
// beginning, which holds the package clause.
func (t *tree) read(at string) ([]byte, error) {
	regular := func(info fs.FileInfo) error {
		switch {
		case info.IsDir():
			return syscall.EISDIR
		case !info.Mode().IsRegular():
			return refuse("", "it is not a regular file")
		}
		return nil
	}
	// What is no regular file is not even opened: a device may act on it.
	info, err := t.root.Stat(at)
	if err != nil {
		return nil, t.outside(err)
	}
	if err := regular(info); err != nil {
		return nil, err
	}
	f, err := t.root.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, t.outside(err)
	}
	defer f.Close()
	if info, err = f.Stat(); err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err == nil && len(data) > MaxFileSize {
		return data, refuse("", "it is larger than 1 MiB")
	}
	return data, err
}

// outside makes a refusal of what the operating system refuses for the tree.
func (t *tree) outside(err error) error {
	switch {
	case errors.Is(err, syscall.ELOOP):
		return refuse("", "its symbolic links go round in a circle")
	case err != nil && strings.Contains(err.Error(), "escapes from parent"):
		what := "the directory of the forge"
		if t.inModule {
			what = "the module"
		}
		return refuse("", "it is a symbolic link that leads out of %s", what)
	}
	return err
}

// packageOf is the package a file is of, empty if it stands alone; not ok if
// its text cannot be understood so far.
func packageOf(f File) (pkg string, ok bool) {
	if pkg, ok := clauseOf(f); pkg != "" || !ok {
		return pkg, ok
	}
	// A misspelt clause must not make a file disappear.
	if len(f.Data) > MaxFileSize {
		return "", false
	}
	found := look(f)
	text, ok := found.plain(f.Data)
	if !ok || found.strays {
		return "", false
	}
	_, err := parser.ParseFile(f.Name, text)
	return "", err == nil
}

// clauseOf is packageOf for a file whose text is looked at anyway: it stops
// behind the clause.
func clauseOf(f File) (pkg string, ok bool) {
	if syntax := parsedHead(f, parser.PackageClauseOnly); syntax != nil {
		return syntax.PackageName(), true
	}
	return "", false
}

// collect reads the files of a package: those in dir and, as far as base, in
// the directories above it. It has none if there are none in dir itself.
func (t *tree) collect(dir, base, pkg string) ([]File, error) {
	var files []File
	for at := dir; ; at = slashpath.Dir(at) {
		found, err := t.list(at)
		if err != nil {
			return nil, err
		}
		n := len(files)
		for _, f := range found {
			if f.pkg != pkg && !f.unknown {
				continue
			}
			if f.fault != nil {
				return nil, &failed{slashpath.Join(at, filepath.Base(f.Name)), f.fault}
			}
			files = append(files, f.File)
		}
		if at == base || !t.inModule || at == dir && len(files) == n {
			return files, nil
		}
	}
}
