package schema

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// MaxFileSize is the most one file may hold, in bytes.
const MaxFileSize = 1 << 20

// Source is the text of a forge: one file, or the files of one package in one
// directory.
type Source struct {
	Dir   string // where relative paths in it start; empty: the working directory
	Files []File
}

// File is one file of a Source.
type File struct {
	Name string // as diagnostics show it
	Data []byte
}

// Read reads regular files of one directory. An error says that a file could
// not be read, not that its text is wrong; it wraps the cause.
func Read(paths ...string) (Source, error) {
	if len(paths) == 0 {
		return Source{}, errors.New("read forge.cue: no file named")
	}
	src := Source{Dir: filepath.Dir(paths[0])}
	for _, p := range paths {
		if dir := filepath.Dir(p); dir != src.Dir {
			return Source{}, fmt.Errorf("read %s: not in %s; the files of one forge are in one directory", p, src.Dir)
		}
		data, err := readRegular(p)
		if err != nil {
			return Source{}, err
		}
		src.Files = append(src.Files, File{p, data})
	}
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
	if info.IsDir() {
		return nil, fmt.Errorf("read %s: it is a directory; name the file in it, such as %s", path, filepath.Join(path, "forge.cue"))
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

// ReadFrom reads the text of one forge from a stream such as standard input.
// Relative paths in it start at the working directory.
func ReadFrom(name string, r io.Reader) (Source, error) {
	data, err := readAll(name, r)
	if err != nil {
		return Source{}, err
	}
	return Source{Files: []File{{name, data}}}, nil
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

// Hash is a digest of the names and the text, in hexadecimal. Two sources
// with the same hash load to the same forge.
func (s Source) Hash() string {
	h := sha256.New()
	field := func(b string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		io.WriteString(h, b)
	}
	field(s.Dir)
	for _, f := range s.Files {
		field(f.Name)
		field(string(f.Data))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s Source) name() string {
	if len(s.Files) == 0 {
		return "forge.cue"
	}
	return s.Files[0].Name
}
