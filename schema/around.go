package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// around is what is known of the module around a directory.
type around struct {
	root string // empty: there is none
	// stop says why a cue.mod was left alone, as part of a sentence; empty: none
	// was.
	stop string
}

// owned says who may change a directory.
type owned struct {
	everybody bool
	uid       uint32
}

func owner(dir string) (owned, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return owned{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owned{}, errors.ErrUnsupported
	}
	return owned{info.Mode().Perm()&0o002 != 0, stat.Uid}, nil
}

// moduleAround finds the module around a directory. What lies above becomes
// part of a forge, so nobody may have a hand in it but those who have one in
// the forge's own directory: its owner, and root.
func moduleAround(dir string, owner func(dir string) (owned, error)) (around, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return around{}, fmt.Errorf("read %s: %w", dir, err)
	}
	own := uint32(os.Getuid()) // of a directory that is still to be made
	stop := ""
	for at := abs; ; at = filepath.Dir(at) {
		fail := func(err error) (around, error) {
			return around{}, fmt.Errorf("read %s: look for cue.mod in %s: %w", dir, at, cause(err))
		}
		who, err := owner(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case stop != "":
		case err != nil:
			return fail(err)
		case at == abs:
			own = who.uid
		case who.everybody:
			stop = "anybody may write to " + at
		case who.uid != own && who.uid != 0:
			stop = fmt.Sprintf("%s belongs to another user than %s", at, dir)
		}
		info, err := os.Stat(filepath.Join(at, "cue.mod"))
		switch {
		case err == nil && info.IsDir() && stop != "":
			return around{stop: stop}, nil
		case err == nil && info.IsDir():
			return around{root: at}, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) && stop == "":
			return fail(err)
		case at == filepath.Dir(at):
			return around{}, nil
		}
	}
}

// ModuleRoot is the directory of the CUE module that a forge in dir is part
// of; empty if it is part of none.
func ModuleRoot(dir string) (string, error) {
	a, err := moduleAround(dir, owner)
	return a.root, err
}

// PackageOf is the package that a file says it is of; empty if it says so of
// none, or cannot be understood.
func PackageOf(path string) (string, error) {
	data, err := readRegular(path)
	if err != nil {
		return "", err
	}
	pkg, _ := clauseOf(File{path, data})
	return pkg, nil
}
