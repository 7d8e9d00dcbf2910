package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFileSize bounds what is read of a watched file, in bytes. A forge.cue of
// a thousand environments is below one MiB.
const maxFileSize = 16 << 20

// reading is what one look at a file found: its content's hash, or why it
// could not be read. The zero hash with an empty problem is never produced.
type reading struct {
	hash    [sha256.Size]byte
	data    []byte // nil where content is not kept
	problem string // text of err; makes two failed readings comparable
	err     error
}

func (r reading) same(o reading) bool { return r.hash == o.hash && r.problem == o.problem }

// readFile looks at a regular file. A device or a pipe is refused before it is
// opened, because opening it could block for ever.
func readFile(path string) reading {
	data, err := readRegular(path)
	if err != nil {
		return reading{err: err, problem: err.Error()}
	}
	return reading{hash: sha256.Sum256(data), data: data}
}

func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file (%s)", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s: larger than %d MiB", path, maxFileSize>>20)
	}
	return data, nil
}

// Hash is the hash by which content is told apart, in hexadecimal.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// maxLinks bounds how many symbolic links one path may lead through; the
// kernel's own bound is the same.
const maxLinks = 40

// watchPoints finds every directory entry whose replacement could change what
// path leads to: the entry of the file itself and of each symbolic link on the
// way, by the directory that holds it. Where the way ends early, because
// something is missing, the entry that is missing is the last one.
//
// A Kubernetes ConfigMap volume is the reason for all of this: forge.cue is a
// link to ..data/forge.cue, and only the link ..data is ever replaced.
func watchPoints(path string) (map[string]map[string]bool, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	points := map[string]map[string]bool{}
	note := func(dir, base string) {
		if points[dir] == nil {
			points[dir] = map[string]bool{}
		}
		points[dir][base] = true
	}
	rest := abs
	dir := "/"
	for links := 0; ; {
		var base string
		base, rest = nextElement(rest)
		if base == "" {
			return points, nil
		}
		entry := filepath.Join(dir, base)
		info, err := os.Lstat(entry)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			note(dir, base)
			return points, nil
		case err != nil:
			return points, err
		case info.Mode()&fs.ModeSymlink != 0:
			note(dir, base)
			if links++; links > maxLinks {
				return points, fmt.Errorf("%s: too many symbolic links", path)
			}
			target, err := os.Readlink(entry)
			if err != nil {
				return points, err
			}
			if filepath.IsAbs(target) {
				dir = "/"
			}
			rest = target + "/" + rest
		case base == "..":
			dir = filepath.Dir(dir)
		case info.IsDir():
			dir = entry
		default:
			note(dir, base)
			return points, nil
		}
	}
}

// nextElement splits the first element off a path. It does not clean: what
// ".." means depends on the links before it.
func nextElement(path string) (first, rest string) {
	for path != "" {
		i := 0
		for i < len(path) && path[i] != '/' {
			i++
		}
		first, rest = path[:i], path[min(i+1, len(path)):]
		if first != "" && first != "." {
			return first, rest
		}
		path = rest
	}
	return "", ""
}
