package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Reading is one look at the text of the configuration.
type Reading struct {
	Hash string // of all the text
	Err  error  // why it could not be read; the other fields are empty
	// Files are those that were read, Dirs the directories in which a file may
	// appear that belongs to them. What happens to any of these is seen.
	Files, Dirs []string
	// Trees are directories in which everything belongs to it.
	Trees []string
	// Build says what the text means. It touches nothing outside, and answers
	// with an *InvalidError where it can say what is wrong in which line. With an
	// error the Config may be one that has nothing but Local: what is wrong may
	// be in there.
	Build func(ctx context.Context) (*Config, error)
}

// key makes two readings comparable, failed ones too.
func (r Reading) key() string {
	if r.Err != nil {
		return "!" + r.Err.Error()
	}
	return r.Hash
}

// maxFileSize bounds what is read of a secret file, in bytes.
const maxFileSize = 16 << 20

// readSecret looks at a regular file and keeps no more of it than a hash. A
// device or a pipe is refused before it is opened, because opening it could
// block for ever.
func readSecret(path string) Reading {
	data, err := readRegular(path)
	if err != nil {
		return Reading{Err: err}
	}
	sum := sha256.Sum256(data)
	return Reading{Hash: hex.EncodeToString(sum[:])}
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
