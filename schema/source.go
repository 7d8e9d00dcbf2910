package schema

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// What is read for one forge is bounded before it is looked at.
const (
	MaxFileSize = 1 << 20 // bytes of one file
	maxText     = 16 << 20
	maxFiles    = 1000
	maxEntries  = 100_000 // of all directories that are listed
)

// Source is the text of a forge and nothing else: what Load makes of it
// depends on no file, no environment and no clock.
type Source struct {
	Dir      string    // where relative paths in it start; empty: the working directory
	Files    []File    // its own files
	Packages []Package // what they import and is not part of CUE, by path
	Tags     []string  // values for its @tag fields: key=value, or a short form

	// Dirs are the directories that were read. A file that appears in one of
	// them, or goes, or changes, may make another Source.
	Dirs []string
}

// File is one file of a Source.
type File struct {
	Name string // as diagnostics show it
	Data []byte
}

// Package is an imported package. One that could not be had has a problem in
// the place of files.
type Package struct {
	Path          string // as it is imported
	Files         []File
	Problem, Hint string
}

// Reading is one forge of several that were read.
type Reading struct {
	Paths  []string // of those given, the ones that are part of it
	Source Source
	Err    error // why it could not be read
}

// Read reads one forge. Each path is a file, or a directory that stands for
// the package in it. A file with a package clause stands for all files of its
// package, a file without one for itself.
//
// An error says that something could not be read, not that its text is wrong;
// it wraps the cause.
func Read(paths ...string) (Source, error) {
	if len(paths) == 0 {
		return Source{}, errors.New("read forge.cue: no file named")
	}
	var whole opened
	for i, p := range paths {
		o, err := openPath(p)
		if err != nil {
			return Source{}, err
		}
		if i > 0 && o.dir != whole.dir {
			return Source{}, fmt.Errorf("read %s: not in %s; the files of one forge are in one directory", p, whole.dir)
		}
		whole.join(o)
	}
	return whole.source()
}

// ReadEach reads several forges. Files of one package in one directory are one
// forge, however many of them are named; every other path is one by itself.
func ReadEach(paths ...string) []Reading {
	type key struct{ dir, pkg string }
	var readings []Reading
	var forges []opened
	at := map[key]int{}
	for _, p := range paths {
		o, err := openPath(p)
		k := key{o.dir, o.pkg}
		if i, ok := at[k]; ok && err == nil {
			readings[i].Paths = append(readings[i].Paths, p)
			forges[i].join(o)
			continue
		}
		if err == nil && o.pkg != "" {
			at[k] = len(readings)
		}
		readings = append(readings, Reading{Paths: []string{p}, Err: err})
		forges = append(forges, o)
	}
	for i := range readings {
		if r := &readings[i]; r.Err == nil {
			r.Source, r.Err = forges[i].source()
		}
	}
	return readings
}

// ReadFrom reads the text of one forge from a stream such as standard input.
// It stands alone, whatever its package clause; it may import packages of the
// module of the working directory, where relative paths in it start, too.
func ReadFrom(name string, r io.Reader) (Source, error) {
	data, err := readAll(name, r)
	if err != nil {
		return Source{}, err
	}
	src, err := (&opened{dir: ".", files: []File{{name, data}}}).source()
	src.Dir = ""
	return src, err
}

// opened is what a path stands for before the rest of its package is read.
type opened struct {
	dir   string
	pkg   string // empty: the files stand alone
	files []File
}

func (o *opened) join(other opened) {
	for _, f := range other.files {
		if !slices.ContainsFunc(o.files, func(g File) bool { return g.Name == f.Name }) {
			o.files = append(o.files, f)
		}
	}
	o.dir = other.dir
	if o.pkg == "" {
		o.pkg = other.pkg
	}
}

func openPath(path string) (opened, error) {
	info, err := os.Stat(path)
	if err != nil {
		return opened{}, fmt.Errorf("read %s: %w", path, cause(err))
	}
	if info.IsDir() {
		return openDir(path)
	}
	data, err := readRegular(path)
	if err != nil {
		return opened{}, err
	}
	o := opened{dir: filepath.Dir(path), files: []File{{filepath.Clean(path), data}}}
	o.pkg, _ = clauseOf(o.files[0])
	return o, nil
}

// openDir finds out which forge a directory stands for.
func openDir(dir string) (opened, error) {
	file := filepath.Join(dir, "forge.cue")
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return openPath(file)
	}
	t, err := openTree(dir, false)
	if err != nil {
		return opened{}, err
	}
	defer t.close()
	found, err := t.list(".")
	if err != nil {
		return opened{}, t.failure(".", err)
	}
	var names []string
	for _, f := range found {
		if f.pkg != "" && !slices.Contains(names, f.pkg) {
			names = append(names, f.pkg)
		}
	}
	switch len(names) {
	case 0:
		return opened{}, fmt.Errorf("read %s: it holds no forge.cue and no package; name the file", dir)
	case 1:
		return opened{dir: filepath.Clean(dir), pkg: names[0]}, nil
	}
	slices.Sort(names)
	return opened{}, fmt.Errorf("read %s: it holds the packages %s; name a file of the one that is meant", dir, strings.Join(names, ", "))
}

// source reads the rest of the package, and what it imports.
func (o *opened) source() (Source, error) {
	src := Source{Dir: o.dir, Files: o.files, Dirs: []string{o.dir}}
	if o.pkg == "" && len(imports(o.files)) == 0 {
		return src, nil
	}
	t, err := openTree(o.dir, true)
	if err != nil {
		return Source{}, err
	}
	defer t.close()
	for _, f := range o.files {
		if err := t.count(len(f.Data)); err != nil {
			return Source{}, t.failure(t.start, err)
		}
	}
	if o.pkg != "" {
		t.given = o.files
		files, err := t.collect(t.start, ".", o.pkg)
		if err != nil {
			return Source{}, t.failure(t.start, err)
		}
		src.Files = files
		// One that is named is meant, even if its name would leave it out.
		for _, f := range o.files {
			if !slices.ContainsFunc(files, func(g File) bool { return g.Name == f.Name }) {
				src.Files = append(src.Files, f)
			}
		}
	}
	if src.Packages, err = t.follow(src.Files); err != nil {
		return Source{}, err
	}
	src.Dirs = t.dirs()
	return src, nil
}

// readRegular never waits: a named pipe without a writer would.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file; use - to read from standard input", path)
	}
	return readAll(path, f)
}

// cause drops the operation and the path of an error of package os.
func cause(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

func readAll(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, cause(err))
	}
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("read %s: it is larger than 1 MiB", name)
	}
	return data, nil
}

// Hash is a digest of all text, in hexadecimal. Two sources with the same hash
// load to the same forge.
func (s Source) Hash() string {
	h := sha256.New()
	number := func(n int) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
	field := func(b string) {
		number(len(b))
		io.WriteString(h, b)
	}
	files := func(files []File) {
		number(len(files))
		for _, f := range files {
			field(f.Name)
			field(string(f.Data))
		}
	}
	field(s.Dir)
	files(s.Files)
	number(len(s.Packages))
	for _, p := range s.Packages {
		field(p.Path)
		field(p.Problem)
		field(p.Hint)
		files(p.Files)
	}
	number(len(s.Tags))
	for _, t := range s.Tags {
		field(t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Name is the file that stands for the forge where it has several.
func (s Source) Name() string {
	for _, f := range s.Files {
		if filepath.Base(f.Name) == "forge.cue" {
			return f.Name
		}
	}
	if len(s.Files) == 0 {
		return "forge.cue"
	}
	return s.Files[0].Name
}

// Paths are all files that were read, imported ones among them.
func (s Source) Paths() []string {
	var paths []string
	for _, f := range s.all() {
		paths = append(paths, f.Name)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// all are the files of the forge and of what it imports.
func (s Source) all() []File {
	all := slices.Clone(s.Files)
	for _, p := range s.Packages {
		all = append(all, p.Files...)
	}
	return all
}

// file is a file of the forge, or of what it imports.
func (s Source) file(name string) (File, bool) {
	for _, f := range s.Files {
		if f.Name == name {
			return f, true
		}
	}
	for _, p := range s.Packages {
		for _, f := range p.Files {
			if f.Name == name {
				return f, true
			}
		}
	}
	return File{}, false
}
