// Package render makes text of the templates of a chart. Templates cannot be
// stopped, and a short one can ask for any amount of memory, so those of charts
// that are not our own are run in a process of their own.
package render

import (
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/apart"
)

// mostText bounds what the templates of a chart may come to, in bytes. What is
// of use to a cluster is far from it: Helm's own record of a release holds 1 MiB,
// packed.
const mostText = 8 << 20

// mostDocument bounds one object of it. The API server takes 1 MiB, without what
// YAML writes around it; to read what is far beyond takes much memory.
const mostDocument = 3 << 20

const notesFile = "NOTES.txt"

// Input is all that a rendering depends on but for what the cluster holds.
type Input struct {
	Files           []charts.File
	Values          map[string]any `json:"-"` // of the types of package apart
	Name, Namespace string
	Revision        int
	Install         bool    // as opposed to an upgrade
	Serves          *Serves // nil: there is no cluster, and nothing to look up
	Twice           bool    // what differs then will differ always
}

// Serves is what a cluster says of itself.
type Serves struct {
	Version, Major, Minor string
	APIs                  []string // versions, and kinds of them
}

// Cluster answers what a chart looks up. An error of it ends the rendering.
type Cluster interface {
	Namespaced(apiVersion, kind string) (bool, error)
	// Find is an object; without a name, all of them as "items". Nil: there is
	// none.
	Find(apiVersion, kind, namespace, name string) (map[string]any, error)
}

// Output is what templates give, by their names with that of their chart before
// them.
type Output struct {
	Texts, Again map[string]string
	Heard        Heard
}

// Heard is what a chart has asked a cluster about itself.
type Heard struct {
	Version bool
	APIs    map[string]bool // is it served?
	All     bool            // it has seen all APIs
}

// Here renders in this process. It is for charts of our own.
func Here(in Input, c Cluster) (Output, error) {
	var out Output
	texts, heard, err := once(in, c)
	if err != nil {
		return out, err
	}
	out.Texts, out.Heard = texts, heard
	if in.Twice {
		out.Again, _, err = once(in, c)
	}
	return out, err
}

func once(in Input, c Cluster) (map[string]string, Heard, error) {
	files := make([]*loader.BufferedFile, len(in.Files))
	for i, f := range in.Files {
		files[i] = &loader.BufferedFile{Name: f.Name, Data: f.Data}
	}
	ch, err := loader.LoadFiles(files) // anew: rendering writes into it
	if err != nil {
		return nil, Heard{}, err
	}
	values := Copied(in.Values)
	if err := chartutil.ProcessDependenciesWithMerge(ch, values); err != nil {
		return nil, Heard{}, err
	}
	withoutNotes(ch)
	h := &hearing{serves: in.Serves, ranges: in.Serves != nil && ranges(ch)}
	vals, err := chartutil.ToRenderValuesWithSchemaValidation(ch, values, chartutil.ReleaseOptions{
		Name: in.Name, Namespace: in.Namespace, Revision: in.Revision, IsInstall: in.Install, IsUpgrade: !in.Install,
	}, chartutil.DefaultCapabilities.Copy(), in.Serves == nil && leadsAway(ch))
	if err != nil {
		return nil, Heard{}, err
	}
	var texts map[string]string
	if in.Serves == nil {
		texts, err = engine.Render(ch, vals)
	} else {
		vals["Capabilities"] = &heardCapabilities{h}
		texts, err = engine.RenderWithClientProvider(ch, vals, clients{c})
	}
	if err != nil {
		return nil, Heard{}, err
	}
	size := 0
	for name, text := range texts {
		size += len(text)
		for document := range strings.SplitSeq(text, "\n---") {
			if len(document) > mostDocument {
				return nil, Heard{}, fmt.Errorf("%s makes an object of %d bytes; the API server takes none of more than 1 MiB", name, len(document))
			}
		}
	}
	if size > mostText {
		return nil, Heard{}, fmt.Errorf("what its templates make is %d bytes long; forged takes %s", size, apart.Size(mostText))
	}
	return texts, h.heard, nil
}

// withoutNotes drops what is for people who run helm: what the notes ask of a
// cluster is nobody's input.
func withoutNotes(ch *chart.Chart) {
	ch.Templates = slices.DeleteFunc(ch.Templates, func(t *chart.File) bool { return t == nil || strings.HasSuffix(t.Name, notesFile) })
	for _, d := range ch.Dependencies() {
		withoutNotes(d)
	}
}

// Copied is a copy of values that the SDK may write into.
func Copied(values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for k, v := range values {
		out[k] = copiedValue(v)
	}
	return out
}

func copiedValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return Copied(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = copiedValue(v[i])
		}
		return out
	}
	return v
}
