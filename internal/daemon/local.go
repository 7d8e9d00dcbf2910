package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

// Bounds of a directory that the configuration names. One beyond them is still
// read when the configuration is loaded; its changes are not seen before.
const (
	maxTreeFiles = 20_000
	maxTreeSize  = 128 << 20 // bytes
	maxTreeDirs  = 512       // that are watched; in others changes are seen by the poll
)

// readLocal looks at a file, or at everything in a directory, and keeps no more
// of it than a hash. No link is followed out of a directory.
func readLocal(path string) Reading {
	info, err := os.Stat(path)
	if err != nil {
		return Reading{Err: err}
	}
	if !info.IsDir() {
		now := readSecret(path)
		now.Files = []string{path}
		return now
	}
	sum := sha256.New()
	t := treeReading{sum: sum}
	if err := t.read(path); err != nil {
		return Reading{Err: err}
	}
	return Reading{Hash: hex.EncodeToString(sum.Sum(nil)), Trees: t.dirs}
}

// named are the files and directories that a configuration names: the one in
// force, or a newer one.
func (r *Reloader) named() map[string][]string {
	all := map[string][]string{}
	maps.Copy(all, r.broken)
	maps.Copy(all, r.local)
	return all
}

// treeReading is one look at a directory.
type treeReading struct {
	sum   io.Writer
	dirs  []string
	files int
	size  int64
}

func (t *treeReading) read(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != ".":
			return nil // it went meanwhile, and the next look tells
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		}
		if t.files++; t.files > maxTreeFiles {
			return fmt.Errorf("%s: more than %d files", path, maxTreeFiles)
		}
		_, _ = fmt.Fprintf(t.sum, "%s\x00%s\x00", name, d.Type())
		switch {
		case d.IsDir():
			if len(t.dirs) < maxTreeDirs {
				t.dirs = append(t.dirs, filepath.Join(path, name))
			}
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			if to, err := root.Readlink(name); err == nil {
				_, _ = fmt.Fprintf(t.sum, "%s\x00", to)
			}
			info, err := root.Stat(name)
			if err != nil || !info.Mode().IsRegular() {
				return nil // where it leads is not part of the directory
			}
		case !d.Type().IsRegular():
			return nil
		}
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer f.Close()
		n, err := io.Copy(t.sum, io.LimitReader(f, maxTreeSize-t.size+1))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if t.size += n; t.size > maxTreeSize {
			return fmt.Errorf("%s: larger than %d MiB", path, maxTreeSize>>20)
		}
		_, _ = fmt.Fprintf(t.sum, "\x00%d\x00", n)
		return nil
	})
}
