package chartsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"helm.sh/helm/v3/pkg/ignore"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/reconcile"
)

// How long to wait for a directory that is being written.
const (
	settle   = 50 * time.Millisecond
	attempts = 20
)

// loadPath loads a chart of this machine: a directory or an archive.
func loadPath(ctx context.Context, name string) (Chart, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Chart{}, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "load chart", Object: name, Err: errors.New("it is not there"),
			Hint: "name the directory that holds Chart.yaml, or an archive of it",
		}
	case err != nil:
		return Chart{}, unread(name, err)
	case info.IsDir():
		return loadDir(ctx, name)
	case !info.Mode().IsRegular():
		return Chart{}, broken(name, errors.New("it is neither a directory nor a file"))
	case info.Size() > maxArchive:
		return Chart{}, broken(name, fmt.Errorf("it is larger than %d MiB", maxArchive>>20))
	}
	archive, err := readFile(name)
	if err != nil {
		return Chart{}, unread(name, err)
	}
	c, err := unpack(name, archive, true)
	c.From = name
	return c, err
}

// loadDir loads a directory, when it has been the same in two looks: somebody
// may be writing it.
func loadDir(ctx context.Context, name string) (Chart, error) {
	var last []charts.File
	for range attempts {
		files, err := readDir(ctx, name)
		if err != nil {
			return Chart{}, err
		}
		if last != nil && digest(files) == digest(last) {
			c, err := assemble(name, files, true)
			c.From = name
			return c, err
		}
		last = files
		select {
		case <-ctx.Done():
			return Chart{}, unread(name, context.Cause(ctx))
		case <-time.After(settle):
		}
	}
	return Chart{}, unread(name, errors.New("it keeps changing while it is read"))
}

// readDir reads the files of a chart that its .helmignore leaves in. No link
// leads out of it.
func readDir(ctx context.Context, name string) ([]charts.File, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, unread(name, err)
	}
	defer func() { _ = root.Close() }()
	rules := ignore.Empty()
	if text, err := readIn(root, ignore.HelmIgnore); err == nil {
		if rules, err = ignore.Parse(bytes.NewReader(text)); err != nil {
			return nil, broken(name, fmt.Errorf("%s: %w", ignore.HelmIgnore, err))
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, unread(name, err)
	}
	rules.AddDefaults()
	left := budget{bytes: maxChart, files: maxFiles}
	var files []charts.File
	seen := 0
	err = fs.WalkDir(root.FS(), ".", func(at string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || at == "." {
			return err
		}
		if seen++; seen > 4*maxFiles {
			return chartErrorf("it holds more than %d files", maxFiles)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if info, err = root.Stat(at); err != nil {
				return chartErrorf("%s is a link that leads nowhere, or out of it: %w", at, cause(err))
			}
			if info.IsDir() && !rules.Ignore(at, info) {
				return chartErrorf("%s is a link to a directory; copy that instead", at)
			}
		}
		switch {
		case rules.Ignore(at, info) && info.IsDir():
			return fs.SkipDir
		case rules.Ignore(at, info), info.IsDir():
			return nil
		case !info.Mode().IsRegular():
			return chartErrorf("%s is not a regular file", at)
		}
		if err := left.take(at, info.Size()); err != nil {
			return chartError{err}
		}
		text, err := readIn(root, at)
		if err != nil {
			return err
		}
		files = append(files, charts.File{Name: at, Data: bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))})
		return nil
	})
	var wrong chartError
	switch {
	case errors.As(err, &wrong):
		return nil, broken(name, wrong.error)
	case err != nil:
		return nil, unread(name, err)
	}
	if files, err = left.nested(files, 0); err != nil {
		return nil, broken(name, err)
	}
	return files, nil
}

// chartError is what is wrong with a chart, as opposed to with reading it.
type chartError struct{ error }

func chartErrorf(format string, args ...any) error { return chartError{fmt.Errorf(format, args...)} }

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, maxArchive)
}

func readIn(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, maxArchive)
}

// readAll reads no more than so much.
func readAll(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = tooLarge(most)
	}
	return b, err
}

// cause drops the operation and the path of an error of package os.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// unread is an error of reading, after which nothing is known.
func unread(name string, err error) error {
	return &reconcile.Error{Kind: reconcile.Unavailable, Op: "load chart", Object: name, Err: cause(err), Hint: "forged tries again by itself"}
}

// Read reads a chart of this machine once, as it is now.
func Read(ctx context.Context, path string) (Chart, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		files, err := readDir(ctx, path)
		if err != nil {
			return Chart{}, err
		}
		c, err := assemble(path, files, true)
		c.From = path
		return c, err
	}
	return loadPath(ctx, path)
}
