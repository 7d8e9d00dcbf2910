package daemon

import (
	"maps"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// anyText stands for all entries of a directory that end as it does, anything
// for all of them.
const (
	anyText  = ".cue"
	anything = "*"
)

// resolve finds the directory entries that matter.
func (r *watchRun) resolve() map[string]map[string]bool {
	dirs := map[string]map[string]bool{}
	note := func(path, entries string) {
		points, err := watchPoints(path)
		if err != nil {
			r.warnOnce(path, "cannot follow a path; looking at the file instead", err)
		}
		if end, err := filepath.EvalSymlinks(path); entries != "" && err == nil {
			if end, err = filepath.Abs(end); err == nil {
				points[end] = map[string]bool{entries: true}
			}
		}
		for dir, bases := range points {
			if dirs[dir] == nil {
				dirs[dir] = map[string]bool{}
			}
			maps.Copy(dirs[dir], bases)
		}
	}
	for _, t := range r.tracked {
		note(t.Path, "")
		for _, file := range t.files {
			note(file, "")
		}
		for _, dir := range t.dirs {
			note(dir, anyText)
		}
		for _, dir := range t.trees {
			note(dir, anything)
		}
	}
	return dirs
}

// concerns tells whether an event may mean new content. Changes of mode or
// times do not; the poll sees a file that has become readable.
func (r *watchRun) concerns(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	if r.dirs[e.Name] != nil { // the directory itself was moved or deleted
		return true
	}
	bases := r.dirs[filepath.Dir(e.Name)]
	return bases[filepath.Base(e.Name)] || bases[anything] || bases[anyText] && strings.HasSuffix(e.Name, anyText)
}
