// Package localfiles looks at what a forge names on this machine: charts in
// directories, and files with the text of configuration files. It reads and
// never writes, and follows no link out of a chart.
package localfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"forged.dev/forged/internal/forge"
)

// maxConfigFile is the most a configuration file may hold, in bytes: a
// ConfigMap holds 1 MiB with everything in it (Kubernetes documentation,
// ConfigMaps).
const maxConfigFile = 1 << 20

// Options say how to look.
type Options struct {
	// Open reads a chart; nil: charts are not looked at.
	Open func(ctx context.Context, path string) (Chart, error)
	// Render has charts rendered with the values that the forge has for them.
	Render bool
}

// Chart is a chart of this machine.
type Chart interface {
	// Files are the texts of its files, by name, those of charts in it among
	// them: "templates/app.yaml", "charts/db/templates/app.yaml".
	Files() map[string]string
	// RenderTwice gives what its templates give, by their names, and what they
	// give then. It ends when ctx does.
	RenderTwice(ctx context.Context, release, namespace string, values map[string]any) (first, again map[string]string, err error)
}

// renderLimit is how long the renderings of one chart may take.
const renderLimit = 10 * time.Second

// Check finds charts and configuration files that are not there or are not
// what they should be, charts that render differently each time, and, if they
// are rendered, what would go wrong with what comes out. Relative paths of
// configuration files start at dir. An error says that ctx has ended.
func Check(ctx context.Context, dir string, f *forge.Forge, o Options) ([]forge.Finding, error) {
	c := checker{Options: o, ctx: ctx, dir: dir, charts: map[string]*scanned{}, shared: map[string]bool{}}
	for _, file := range f.App.ConfigFiles {
		c.shared[file.Path+"\x00"+file.File] = true
		c.configFile([]string{"app"}, file)
	}
	for _, env := range f.Environments {
		at := []string{"environments", env.Name}
		for _, file := range env.App.ConfigFiles {
			if !c.shared[file.Path+"\x00"+file.File] {
				c.configFile(append(at[:2:2], "app"), file)
			}
		}
		place := place{release: env.App.Name, namespace: env.Platform.Namespace, fks: env.Platform.Kind == forge.PlatformFKS, allow: env.Platform.Allow}
		if env.App.Chart != nil {
			c.chart(append(at[:2:2], "app", "chart"), *env.App.Chart, place)
		}
		for _, chart := range env.Charts {
			place.release = env.App.Name + "-" + chart.Name
			c.chart(append(at[:2:2], "charts", chart.Name), chart.Chart, place)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look at the charts: %w", context.Cause(ctx))
		}
	}
	return c.found, nil
}

// place is as what a chart is rendered, and where it is to run.
type place struct {
	release, namespace string

	fks   bool     // on Fly Kubernetes
	allow []string // rules of it that something may break
}

type checker struct {
	Options
	ctx    context.Context // of the one Check that it is for
	dir    string
	shared map[string]bool // configuration files of the shared app, by path and file
	charts map[string]*scanned
	found  []forge.Finding
}

// scanned is a chart that was looked at once, however often it is named.
type scanned struct {
	Chart
	impure impurities
	err    error
}

func (c *checker) add(at []string, rule, message, hint string) {
	c.found = append(c.found, forge.Finding{Path: at, Rule: rule, Message: message, Hint: hint})
}

func (c *checker) configFile(app []string, file forge.ConfigFile) {
	if file.File == "" {
		return
	}
	at := append(app[:len(app):len(app)], "configFiles", file.Path, "file")
	name := file.File
	if !filepath.IsAbs(name) {
		name = filepath.Join(c.dir, name)
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		c.add(at, "config-file", fmt.Sprintf("%s cannot be read: %v", file.File, cause(err)), "a relative path starts at the directory of forge.cue")
	case !info.Mode().IsRegular():
		c.add(at, "config-file", file.File+" is not a regular file", "")
	case info.Size() > maxConfigFile:
		c.add(at, "config-file", file.File+" is larger than 1 MiB", "a ConfigMap holds no more; put it into the image or on a volume")
	}
}

func (c *checker) chart(at []string, chart forge.Chart, as place) {
	if chart.Kind != forge.ChartPath || c.Open == nil {
		return
	}
	at = append(at[:len(at):len(at)], "path")
	s := c.charts[chart.Path]
	if s == nil {
		s = &scanned{}
		if s.Chart, s.err = c.Open(c.ctx, chart.Path); s.err == nil {
			s.impure, s.err = scan(c.ctx, s.Files())
		}
		c.charts[chart.Path] = s
	}
	if s.err != nil {
		hint := ""
		var more interface{ Hint() string }
		if errors.As(s.err, &more) {
			hint = more.Hint()
		}
		c.add(at, "chart-source", fmt.Sprintf("%s is not a chart: %v", chart.Path, cause(s.err)),
			cmp.Or(hint, "name the directory that holds Chart.yaml, or an archive of it"))
		return
	}
	everywhere := func(string) bool { return true }
	if !c.Render {
		c.impure(at, s.impure.of(everywhere), "")
		return
	}
	c.rendered(at, s, as, chart.Values)
}

// impure tells of calls that make a chart render differently each time.
func (c *checker) impure(at []string, calls, objects string) {
	if calls == "" && objects == "" {
		return
	}
	message := "it is not reproducible: "
	switch {
	case calls == "":
		message += objects + " is different each time it is rendered"
	case objects == "":
		message += calls
	default:
		message += calls + "; different each time: " + objects
	}
	c.add(at, "chart-impure", message, "take such values from values, or from a secret that forged generates")
}

// cause drops the operation and the path of an error of package os.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
