// Package localfiles looks at what a forge names on this machine: charts in
// directories, and files with the text of configuration files. It reads and
// never writes, and follows no link out of a chart.
package localfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"forged.dev/forged/internal/forge"
)

// maxConfigFile is the most a configuration file may hold, in bytes: a
// ConfigMap holds 1 MiB with everything in it (Kubernetes documentation,
// ConfigMaps).
const maxConfigFile = 1 << 20

// Check finds charts and configuration files that are not there or are not
// what they should be, and charts that render differently each time. Relative
// paths of configuration files start at dir. An error says that ctx has ended.
func Check(ctx context.Context, dir string, f *forge.Forge) ([]forge.Finding, error) {
	c := checker{ctx: ctx, dir: dir, charts: map[string]*scanned{}, shared: map[string]bool{}}
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
		if env.App.Chart != nil {
			c.chart(append(at[:2:2], "app", "chart"), *env.App.Chart)
		}
		for _, chart := range env.Charts {
			c.chart(append(at[:2:2], "charts", chart.Name), chart.Chart)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look at the charts: %w", context.Cause(ctx))
		}
	}
	return c.found, nil
}

type checker struct {
	ctx    context.Context // of the one Check that it is for
	dir    string
	shared map[string]bool // configuration files of the shared app, by path and file
	charts map[string]*scanned
	found  []forge.Finding
}

// scanned is a chart that was looked at once, however often it is named.
type scanned struct {
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

func (c *checker) chart(at []string, chart forge.Chart) {
	if chart.Kind != forge.ChartPath {
		return
	}
	s := c.charts[chart.Path]
	if s == nil {
		s = &scanned{}
		s.impure, s.err = scan(c.ctx, chart.Path)
		c.charts[chart.Path] = s
	}
	if s.err != nil {
		c.add(append(at[:len(at):len(at)], "path"), "chart-source", fmt.Sprintf("%s is not a chart: %v", chart.Path, cause(s.err)),
			"name the directory that holds Chart.yaml")
		return
	}
	if s.impure.all == 0 {
		return
	}
	var places []string
	for _, i := range s.impure.first {
		places = append(places, i.String())
	}
	if more := s.impure.all - len(places); more > 0 {
		places = append(places, fmt.Sprintf("and %d more", more))
	}
	c.add(append(at[:len(at):len(at)], "path"), "chart-impure", "its templates render differently each time: "+strings.Join(places, ", "),
		"take such values from values, or from a secret that forged generates")
}

// cause drops the operation and the path of an error of package os.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
