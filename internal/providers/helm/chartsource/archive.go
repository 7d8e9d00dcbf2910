package chartsource

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Bounds of a chart. Helm keeps a chart in a Secret of 1 MiB, packed: one that
// comes near these cannot be installed anyway.
const (
	maxArchive = 20 << 20 // bytes, packed
	maxChart   = 32 << 20 // bytes of all files, those of charts in it included
	maxFile    = 5 << 20  // bytes, as in Helm
	maxFiles   = 5000
	maxDepth   = 8 // of charts in charts
)

// unpack reads an archive. object names it in errors; local: it is of this
// machine, where somebody can do something about it.
func unpack(object string, archive []byte, local bool) (Chart, error) {
	left := budget{bytes: maxChart, files: maxFiles}
	files, err := left.untar(archive, 0)
	if err != nil {
		return Chart{}, broken(object, err)
	}
	return assemble(object, files, local)
}

func broken(object string, err error) error {
	return &reconcile.Error{Kind: reconcile.Invalid, Op: "load chart", Object: object, Err: err}
}

// budget is what may still be unpacked of one chart.
type budget struct{ bytes, files int }

func (b *budget) take(name string, size int64) error {
	switch {
	case size > maxFile:
		return fmt.Errorf("%s is larger than %d MiB", name, maxFile>>20)
	case size > int64(b.bytes):
		return fmt.Errorf("its files are larger than %d MiB", maxChart>>20)
	case b.files == 0:
		return fmt.Errorf("it holds more than %d files", maxFiles)
	}
	b.bytes -= int(size)
	b.files--
	return nil
}

// untar unpacks an archive, and the archives of charts in it.
func (b *budget) untar(archive []byte, depth int) ([]charts.File, error) {
	if len(archive) > maxArchive {
		return nil, fmt.Errorf("it is larger than %d MiB", maxArchive>>20)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("it holds charts in charts, more than %d deep", maxDepth)
	}
	if err := b.survey(archive); err != nil {
		return nil, err
	}
	unpacked, err := loader.LoadArchiveFiles(bytes.NewReader(archive)) // which refuses names that lead out of it
	if err != nil {
		return nil, err
	}
	var files []charts.File
	for _, f := range unpacked {
		files = append(files, charts.File{Name: f.Name, Data: f.Data})
	}
	return b.nested(files, depth)
}

// survey looks at what an archive would unpack to, and keeps none of it.
func (b *budget) survey(archive []byte) error {
	packed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return fmt.Errorf("it is no archive of a chart: %w", err)
	}
	defer func() { _ = packed.Close() }()
	// Headers count as well: an archive of nothing but headers has no end.
	bounded := &io.LimitedReader{R: packed, N: int64(b.bytes) + int64(b.files)*1024 + 1<<20}
	names := map[string]bool{}
	for r := tar.NewReader(bounded); ; {
		h, err := r.Next()
		switch {
		case bounded.N <= 0:
			return fmt.Errorf("its files are larger than %d MiB", maxChart>>20)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("it is no archive of a chart: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeDir, tar.TypeXGlobalHeader, tar.TypeXHeader:
			continue
		case tar.TypeReg:
		default:
			return fmt.Errorf("%s is no file but a link or something else; pack it with helm package", h.Name)
		}
		name := path.Clean(strings.ReplaceAll(h.Name, `\`, "/"))
		if names[name] {
			return fmt.Errorf("it holds %s twice", name)
		}
		names[name] = true
		if err := b.take(name, h.Size); err != nil {
			return err
		}
	}
}

// nested unpacks the archives in charts/, so that what they hold is bounded
// too, and sorts.
func (b *budget) nested(files []charts.File, depth int) ([]charts.File, error) {
	var out []charts.File
	for _, f := range files {
		dir, base := path.Split(f.Name)
		if !isChartsDir(dir) || path.Ext(base) != ".tgz" || strings.IndexAny(base, "_.") == 0 {
			out = append(out, f)
			continue
		}
		inner, err := b.untar(f.Data, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		for _, in := range inner {
			out = append(out, charts.File{Name: strings.TrimSuffix(f.Name, ".tgz") + "/" + in.Name, Data: in.Data})
		}
	}
	slices.SortFunc(out, func(a, b charts.File) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(out); i++ {
		if out[i].Name == out[i-1].Name {
			return nil, fmt.Errorf("it holds %s twice: packed and unpacked", out[i].Name)
		}
	}
	return out, nil
}

// isChartsDir tells whether charts lie in a directory: charts/ of the chart
// itself, or of one in it.
func isChartsDir(dir string) bool {
	parts := strings.Split(strings.TrimSuffix(dir, "/"), "/")
	for i := 0; i < len(parts); i += 2 {
		if parts[i] != "charts" {
			return false
		}
	}
	return len(parts)%2 == 1
}

// assemble checks that files are a chart that can be installed.
func assemble(object string, files []charts.File, local bool) (Chart, error) {
	ch, err := parse(files)
	if err != nil {
		return Chart{}, broken(object, err)
	}
	if ch.Metadata.Type == "library" {
		return Chart{}, broken(object, errors.New("it is a library, and nothing is installed of a library"))
	}
	if err := checkDependencies(ch, local); err != nil {
		return Chart{}, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "load chart", Object: object, Err: err,
			Hint: "run helm dependency build in its directory, and keep what that puts into charts/ with the chart",
		}
	}
	return Chart{Name: ch.Name(), Version: ch.Metadata.Version, Digest: digest(files), Files: files}, nil
}

func parse(files []charts.File) (*chart.Chart, error) {
	var in []*loader.BufferedFile
	for _, f := range files {
		in = append(in, &loader.BufferedFile{Name: f.Name, Data: f.Data})
	}
	return loader.LoadFiles(in)
}

// digest identifies what is in files.
func digest(files []charts.File) string {
	h := sha256.New()
	for _, f := range files {
		_, _ = fmt.Fprintf(h, "%s\x00%d\x00", f.Name, len(f.Data))
		_, _ = h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// checkDependencies finds charts that Chart.yaml asks for and charts/ has not.
// Helm asks no more of a chart that somebody has published; of a local one,
// charts/ has to have the versions that Chart.yaml and Chart.lock say.
func checkDependencies(ch *chart.Chart, local bool) error {
	have, locked := map[string][]string{}, map[string][]string{}
	for _, d := range ch.Dependencies() {
		have[d.Name()] = append(have[d.Name()], d.Metadata.Version)
	}
	if ch.Lock != nil {
		for _, d := range ch.Lock.Dependencies {
			if d != nil {
				locked[d.Name] = append(locked[d.Name], d.Version)
			}
		}
	}
	for _, d := range ch.Metadata.Dependencies {
		if d == nil {
			continue
		}
		versions := have[d.Name]
		there := strings.Join(versions, " and ")
		switch {
		case len(versions) == 0:
			return fmt.Errorf("it depends on %s, which is not in its charts/", d.Name)
		case !local:
		case d.Version != "" && !slices.ContainsFunc(versions, func(v string) bool { return satisfies(d.Version, v) }):
			return fmt.Errorf("it depends on %s %s, and its charts/ has %s", d.Name, d.Version, there)
		case len(locked[d.Name]) > 0 && !slices.ContainsFunc(versions, func(v string) bool { return slices.Contains(locked[d.Name], v) }):
			return fmt.Errorf("its Chart.lock says %s %s, and its charts/ has %s", d.Name, strings.Join(locked[d.Name], " and "), there)
		}
	}
	return nil
}

// accept checks a chart that was fetched against what forge.cue asks for.
func accept(c forge.ChartSource, got Chart) error {
	if c.Kind == kindRepository && got.Name != c.Name {
		return invalid(c, fmt.Errorf("what the repository serves as %s calls itself %s", c.Name, got.Name), "")
	}
	if !satisfies(c.Version, got.Version) {
		return invalid(c, fmt.Errorf("what was found is version %s, and forge.cue asks for %s", got.Version, c.Version),
			"a digest belongs to one version: change both together")
	}
	return nil
}
